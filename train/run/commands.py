"""Commands of one run: train, resume, branch, verify; doctor looks at the machine.

torch is imported inside them, when they need it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from latebloom.theory.errors import InputError
from latebloom.theory.options import settings
from latebloom.theory.words import blocks_text
from latebloom.train.config import TrainConfig
from latebloom.train.options import PATH, plan_of, use_threads
from latebloom.train.ranks import speaks

__all__ = ["branch_command", "doctor_command", "resume_command", "train_command", "verify_command"]


@click.command("train")
@click.argument("plan_path", metavar="[PLAN]", required=False, type=PATH)
@click.option("--plan", "plan_option", type=PATH, help="The plan file.")
@click.option("--model", "model_name", help="Must be the plan's model; a check, not a choice.")
@click.option("--data", type=PATH, help="Directory of token shards (see `latebloom data prepare`).")
@click.option("--out", type=PATH, help="New directory for the run. [default: runs/NAME]")
@click.option(
    "--online", is_flag=True, help="Decide the expansion while running: by --online-law, or the plan's mixing area."
)
@click.option(
    "--online-law", type=PATH, help="With --online: a landscape that `latebloom fit --out` wrote; sets a deadline."
)
@click.option("--threads", type=int, help="CPU threads. [default: torch's]")
@click.option("--dry-run", "dry", is_flag=True, help="Print parameters, FLOPs, memory and time; train nothing.")
@click.option("--mfu", type=float, default=0.5, show_default=True, help="Share of the peak that is reached (dry run).")
@click.option("--devices", type=int, default=1, show_default=True, help="Number of devices (dry run).")
@click.option(
    "--device-memory",
    type=float,
    default=139.0,
    show_default=True,
    help="Memory of one device in GiB (dry run); 139 is an H200's.",
)
@click.option(
    "--link",
    type=float,
    default=300.0,
    show_default=True,
    help="GB/s that a device sends to others of its machine (dry run).",
)
@click.option(
    "--network",
    type=float,
    default=50.0,
    show_default=True,
    help="GB/s that a device sends to other machines (dry run).",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@settings({"config": TrainConfig})
def train_command(
    plan_path: Path | None,
    plan_option: Path | None,
    model_name: str | None,
    data: Path | None,
    out: Path | None,
    config: TrainConfig,
    online: bool,
    online_law: Path | None,
    threads: int | None,
    dry: bool,
    mfu: float,
    devices: int,
    device_memory: float,
    link: float,
    network: float,
    as_json: bool,
) -> None:
    """Train the model of PLAN, as it says."""
    plan = plan_of(plan_path, plan_option, model_name)
    if dry:
        from latebloom.train.run.dryrun import dry_run, fit_text

        estimate = dry_run(
            plan, peak_tflops=790.0 if config.peak_tflops is None else config.peak_tflops, mfu=mfu, devices=devices,
            shard=config.shard, gather=config.gather, micro_sequences=config.microbatch or 8,
            activations=config.activations, dtype=config.dtype, link=link, network=network,
            keep=config.keep_checkpoints,
        )  # fmt: skip
        if as_json:
            click.echo(json.dumps(estimate.as_dict(), indent=2))
            return
        fits = fit_text(
            plan, memory_gib=device_memory, devices=devices, shard=config.shard, gather=config.gather,
            micro_sequences=config.microbatch or 8, activations=config.activations, dtype=config.dtype,
        )  # fmt: skip
        click.echo(f"{fits}\n{estimate.text()}")
        return
    from latebloom.train.run.loop import summary, train

    config = config.replace(quiet=config.quiet or as_json)
    if data is None:
        raise InputError("--data", None, "is required to train", "make shards with `latebloom data prepare`")
    use_threads(threads)
    if online_law is not None and not online:
        raise InputError("--online-law", str(online_law), "is for --online", "add --online")
    auto = None
    if online:
        from latebloom.theory.landscapes.registry import read_fitted
        from latebloom.theory.online_expansion import rule_of_plan

        auto = rule_of_plan(plan, None if online_law is None else read_fitted(online_law).law)
    record = train(
        plan, data=data, out=out or Path("runs") / (_file_name(plan.name) or plan.digest[:12]), config=config, auto=auto
    )
    result = summary(record)
    if speaks():
        click.echo(
            json.dumps(result) if as_json else f"{result['name']}: final validation loss {result['final_loss']:.6f}"
        )


@click.command("resume")
@click.argument("run", type=PATH)
@click.option("--data", type=PATH, help="Where the shards are now. [default: where they were]")
@click.option("--threads", type=int, help="CPU threads; for bit-equal results the number the run began with.")
@click.option("--quiet", is_flag=True, help="Show nothing while training.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def resume_command(run: Path, data: Path | None, threads: int | None, quiet: bool, as_json: bool) -> None:
    """Go on with RUN from its newest complete checkpoint; the final loss is that of a run never stopped."""
    from latebloom.train.run.loop import resume, summary

    use_threads(threads)
    result = summary(resume(run, data=data, quiet=quiet or as_json))
    if speaks():
        click.echo(
            json.dumps(result) if as_json else f"{result['name']}: final validation loss {result['final_loss']:.6f}"
        )


@click.command("branch")
@click.argument("run", type=PATH)
@click.argument("plan_path", metavar="PLAN", type=PATH)
@click.option("--out", type=PATH, required=True, help="New directory for the run.")
@click.option("--data", type=PATH, help="Where the shards are now. [default: where they were]")
@click.option("--threads", type=int, help="CPU threads; for bit-equal results the number the run began with.")
@click.option("--quiet", is_flag=True, help="Show nothing while training.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def branch_command(
    run: Path, plan_path: Path, out: Path, data: Path | None, threads: int | None, quiet: bool, as_json: bool
) -> None:
    """Go on with RUN as PLAN, from the newest checkpoint up to which both do the same.

    One trunk, trained once with --keep-checkpoints, serves every way of growing it.
    """
    from latebloom.train.run.branch import branch
    from latebloom.train.run.loop import summary

    use_threads(threads)
    plan = plan_of(plan_path)
    result = summary(branch(run, plan, out=out, data=data, quiet=quiet or as_json or None))
    _show(result, as_json)


@click.command("verify")
@click.argument("checkpoint", type=PATH)
def verify_command(checkpoint: Path) -> None:
    """Check the files of CHECKPOINT against its manifest."""
    from latebloom.train.run.checkpoint import verify

    manifest = verify(checkpoint)
    click.echo(f"{checkpoint}: step {manifest.step}, {blocks_text(manifest.depth)}, plan {manifest.plan_digest}")
    for file in manifest.files:
        click.echo(f"  {file.name}: {file.bytes:,} bytes, SHA-256 as written")


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def doctor_command(as_json: bool) -> None:
    """Say what this machine can do: devices, matrix-product rate, packages, disk."""
    from latebloom.train.run.doctor import examine_machine, examine_text

    findings = examine_machine()
    click.echo(json.dumps(findings, indent=2) if as_json else examine_text(findings))


def _show(result: dict[str, Any], as_json: bool) -> None:
    """Print the summary of a finished run."""
    click.echo(json.dumps(result) if as_json else f"{result['name']}: final validation loss {result['final_loss']:.6f}")


def _file_name(name: str) -> str:
    """A name as that of a directory; never one that means another place, such as ".."."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in name).strip(".-")
