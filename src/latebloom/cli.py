"""The command line: a thin dispatcher. Commands live beside what they call, in ``theory``, ``sim``, ``train`` and
``paper_figures``; each is imported when it is asked for, so that ``latebloom plan`` never waits for torch.
"""

from __future__ import annotations

import importlib
import re
import sys
from typing import NoReturn

import click

from latebloom.theory.errors import InputError, RunError, nearest

COMMANDS = {  # name -> module that holds NAME_command, and one line of help
    "demo": ("paper_figures.commands_experiments", "The main job on this computer: pilots, plan, runs, report."),
    "study": (
        "paper_figures.commands_experiments",
        "The main job on your data; with a file, a grid of runs.",
    ),
    "pilots": ("theory.commands_pilots", "Design and price the pilots of a plan."),
    "plan": ("theory.commands", "Make, show, check and compare plans."),
    "controls": ("theory.commands_runs", "Write the plans of every run that a plan is compared with."),
    "import": ("theory.commands_runs", "Records of runs that other trainers made, from their loss curves."),
    "judge": ("paper_figures.commands_experiments", "Verdict and report from finished runs, of this trainer or any."),
    "fit": ("theory.commands", "Fit a landscape to records of pilot runs."),
    "ask": ("theory.commands_ask", "What a landscape says of a plan: depth, step, horizon, peak, is it worth it."),
    "schedule": ("theory.commands_ask", "Can a plan's schedule be good at all? And the best one of a law."),
    "record": ("theory.commands", "Show a run's record, or write it as Parquet."),
    "transfer": ("theory.commands_transfer", "Learning rates, init, decay from one size to another."),
    "simulate": ("sim.commands", "Run a plan on deep linear networks: predicted against simulated."),
    "validate": ("sim.commands", "Prove or refute the theory on deep linear networks: every claim."),
    "train": ("train.run.commands", "Train a GPT-2 as a plan says."),
    "train-all": ("train.experiments.commands", "Train several plans, those that begin alike as branches."),
    "resume": ("train.run.commands", "Go on with a run that was stopped."),
    "branch": ("train.run.commands", "Go on with a run as another plan."),
    "ablate": ("train.experiments.commands", "Compare ways of growing, with every control."),
    "verify": ("train.run.commands", "Check a checkpoint's files without loading it."),
    "export": ("train.interop.commands", "Write a run for Hugging Face."),
    "sample": ("train.interop.commands", "Text from a run."),
    "eval": ("train.interop.commands", "Score a run on tasks of lm_eval."),
    "hellaswag": ("train.interop.commands", "Score a run on HellaSwag."),
    "coord-check": ("train.experiments.commands", "Do features move alike in wide and deep models?"),
    "lr-transfer": ("train.experiments.commands", "Sweep small, predict the learning rate at the target."),
    "doctor": ("train.run.commands", "What this machine can do."),
    "data": ("train.data.commands", "Prepare token shards."),
    "report": ("paper_figures.commands", "Write report.html: of an experiment, a run, or any loss curves."),
    "explorer": ("paper_figures.commands", "Write a page to move a plan about on: when and whether to grow."),
    "figures": ("paper_figures.commands", "Draw the paper's figures from committed records."),
}


class Lazy(click.Group):
    """Loads a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"latebloom.{COMMANDS[cmd_name][0]}")
        return getattr(module, f"{cmd_name.replace('-', '_')}_command")

    def resolve_command(self, ctx: click.Context, args: list[str]):
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise InputError("command", args[0], "is not a command", nearest(args[0], COMMANDS))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="latebloom")
def cli() -> None:
    """Train shallow, grow deep late: should this model grow in depth during training, when, and what does it save?"""


def main(args: list[str] | None = None) -> None:
    """Run the command line. Exit codes: 0 done, 1 the run failed, 2 bad input, 75 another rank is lost,
    130/143 interrupted; the last two are resumable."""
    try:
        _run(args)
    except SystemExit as end:
        if ranks := sys.modules.get("latebloom.train.ranks"):  # a command trained
            ranks.exit_process(end.code)
        raise


def _run(args: list[str] | None) -> NoReturn:
    """The command, and each way in which it can end as an exit code."""
    try:
        status = cli.main(args=args, prog_name="latebloom", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        sys.exit(2)
    except (InputError, click.ClickException) as error:
        print(f"latebloom: {_one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        print("latebloom: interrupted", file=sys.stderr)
        sys.exit(130)
    except RunError as error:
        print(f"latebloom: {error}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 1))
    except (MemoryError, RuntimeError) as error:
        lines = [line for line in str(error).splitlines() if re.search("out of memory|allocate", line, re.I)]
        if not (lines or isinstance(error, MemoryError)):
            raise
        print(f"latebloom: out of memory ({' '.join(lines)[:200]}); use a smaller model or microbatch", file=sys.stderr)
        sys.exit(1)
    except ValueError as error:
        if "null byte" not in str(error) and "surrogates not allowed" not in str(error):
            raise
        print(f"latebloom: argument: {error}: no path has that; name it again", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:  # whatever no command foresaw: a folder that is a file, no permission, a full disk
        line = InputError(
            "path", error.filename, f"cannot be used ({error.strerror or error})", "check it and its rights"
        )
        print(f"latebloom: {line}", file=sys.stderr)
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)


def _one_line(error: Exception) -> str:
    """A user's mistake as name, value, rule and fix, whoever found it."""
    if not isinstance(error, click.UsageError):
        return str(error)
    help_line = f"see `{error.ctx.command_path if error.ctx else 'latebloom'} --help`"
    if isinstance(error, click.NoSuchOption):
        known = [name for p in error.ctx.command.get_params(error.ctx) for name in p.opts] if error.ctx else []
        return str(InputError("option", error.option_name, "is not an option here", nearest(error.option_name, known)))
    message = error.message.rstrip(".")
    if found := re.match(r"No such command '(.*?)'", message):
        group = error.ctx.command if error.ctx else None
        known = group.list_commands(error.ctx) if error.ctx and isinstance(group, click.Group) else []
        return str(InputError("command", found[1], "is not a command", nearest(found[1], known)))
    if isinstance(error, click.BadOptionUsage):
        rule = re.sub(rf"^Option '{re.escape(error.option_name)}' ", "", message)
        return str(InputError(error.option_name, None, rule, help_line))
    if not isinstance(error, click.BadParameter) or error.param is None:
        found = re.fullmatch(r"Got unexpected extra arguments? \((.*)\)", message)
        if found:
            return str(InputError("argument", found[1], "is not expected here", f"leave it out, or {help_line}"))
        return f"{message}; {help_line}".replace("\n", " ")
    name = str(error.param.opts[-1] if error.param.opts else error.param.name)
    if isinstance(error.param, click.Argument):
        name = error.param.make_metavar(error.ctx) if error.ctx else name
    if isinstance(error, click.MissingParameter):
        return str(InputError(name, None, "is required", help_line))
    found = re.fullmatch(r"(?:[A-Z][a-z]+ )?'(.*?)' (.*)|(\S+) (is not .*)", message, re.DOTALL)  # click's own texts
    if not found:
        return str(InputError(name, message, "does not fit", help_line))
    value, rule = (found[1], found[2]) if found[2] else (found[3], found[4])
    if isinstance(error.param.type, click.Choice):
        help_line = nearest(value, map(str, error.param.type.choices))
        rule = "is not a choice here"
    return str(InputError(name, value, rule, help_line))


if __name__ == "__main__":
    main()
