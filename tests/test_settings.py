"""Settings: declared once in a Spec, reachable from every command that uses them, written to files and read back."""

import inspect
import json

import click
import msgspec
import pytest

from latebloom import cli
from latebloom.paper_figures.commands_experiments import NOT_OF_JOBS
from latebloom.paper_figures.config import FigureConfig
from latebloom.sim import LowRank, simulate
from latebloom.sim.config import SimulationConfig
from latebloom.theory import read_plan
from latebloom.theory.architectures.model_config import ModelConfig
from latebloom.theory.commands_pilots import NOT_OF_PILOTS
from latebloom.theory.config import PlanConfig
from latebloom.theory.fitting.foreign_runs import RunDescription
from latebloom.theory.options import SettingOption, attribute_lines
from latebloom.theory.plan import Optimizer
from latebloom.theory.planning import plan_expansion
from latebloom.train.config import AblationConfig, DemoConfig, JobConfig, LaunchConfig, LRTransferConfig, TrainConfig

# What a command decides itself, and so does not take.
PLAN_BASE = {(Optimizer, "base")}  # --base-width, --base-depth
PILOTS = {(PlanConfig, field) for field in NOT_OF_PILOTS} | PLAN_BASE  # no pilot depends on them
JOBS = {(PlanConfig, field.removeprefix("PlanConfig.")) for field in NOT_OF_JOBS} | PLAN_BASE  # the job decides
TRUNKS = {(TrainConfig, "checkpoint_every"), (TrainConfig, "keep_checkpoints")}  # where branches of a trunk start
SPECS = {
    "plan make": ((ModelConfig, PlanConfig, Optimizer), PLAN_BASE),
    "pilots": ((ModelConfig, PlanConfig, Optimizer), PILOTS),
    "simulate": ((SimulationConfig,), set()),
    "train": ((TrainConfig,), set()),
    "ablate": ((AblationConfig, TrainConfig), TRUNKS),
    "study job": ((ModelConfig, PlanConfig, Optimizer, JobConfig, TrainConfig), {*JOBS, *TRUNKS}),
    "study grid": ((LaunchConfig, TrainConfig), {*TRUNKS, (TrainConfig, "seed")}),
    "train-all": ((TrainConfig,), TRUNKS),
    "import curve": ((ModelConfig, RunDescription), {(ModelConfig, "depth")}),  # a run has depths
    "lr-transfer": ((LRTransferConfig, TrainConfig), {(TrainConfig, "evals")}),  # only the final loss is read
    "demo": ((ModelConfig, DemoConfig, JobConfig, TrainConfig), set()),
    "figures": ((FigureConfig,), set()),
}
ARGUMENTS = {  # what a command needs beside its settings
    "plan make": ["--model", "gpt2-7b", "--steps", "100000", "--batch-tokens", "524288"],
    "pilots": ["--model", "gpt2-7b", "--steps", "100000", "--batch-tokens", "524288"],
    "simulate": ["plan.json"],
    "train": [],
    "ablate": ["plan.json", "--data", "d", "--out", "o"],
    "study job": ["--data", "d", "--model", "gpt2-7b", "--steps", "100000", "--batch-tokens", "524288"],
    "study grid": ["s.toml"],
    "train-all": ["p.json", "--data", "d", "--out", "o"],
    "import curve": ["c.csv", "--out", "o", "--depths", "1"],
    "lr-transfer": ["p.json", "--data", "d", "--out", "o", "--lrs", "1,2",
                    "--width", "8", "--depth", "2", "--steps", "9"],
    "demo": [],
    "figures": [],
}  # fmt: skip
# Options of one name that are not one setting.
OTHER_THINGS = {
    ("ablate", "init"): "a list of what is compared",
    ("ablate", "order"): "a list of what is compared",
    ("coord-check", "lr"): "a rate",
    ("data prepare", "tokenizer"): "gpt2 as well: the data need not be the demo's",
    ("data prepare", "vocab_size"): "of the tokenizer that is trained; a plan's is the model's",
    ("demo", "batch_tokens"): "the demo is one fixed job",
    ("demo", "peak_lr"): "the demo is one fixed job",
    ("demo", "steps"): "the demo is one fixed job",
    ("fit", "lr"): "a column",
    ("import curve", "batch_tokens"): "of a run that there is; a list of runs takes the plan's",
    ("import curve", "decay"): "of a run that there is: what is not said, its log says",
    ("import curve", "depths"): "of one run, before and after its expansions",
    ("import curve", "lr"): "a column",
    ("import curve", "schedule"): "of a run that there is: what is not said, its log says",
    ("import curve", "name"): "of a run, not of a law",
    ("import curve", "steps"): "of a run that there is: what is not said, its log says",
    ("figures", "width"): "of a picture, inches",
    ("fit", "weight_decay"): "of runs that there are",
    ("fit", "warmup"): "updates before the first logged rate",
    ("judge", "noise"): "of one final loss",
    ("lr-transfer", "depth"): "of the target, which must be given",
    ("lr-transfer", "steps"): "of the target, which must be given",
    ("lr-transfer", "width"): "of the target, which must be given",
    ("sample", "device"): "a CPU is enough for text",
    ("hellaswag", "device"): "a CPU is enough for a score",
    ("schedule", "name"): "laws over schedules alone; the default is the one whose best schedule is a closed form",
    ("schedule", "warmup"): "updates before the first logged rate",
    ("simulate", "alpha"): "of the toy",
    ("simulate", "batch"): "of the toy",
    ("simulate", "peak_lr"): "of the toy",
    ("simulate", "seeds"): "of the toy: cheap, so there are more",
    ("simulate", "steps"): "of the toy",
    ("simulate", "tolerance"): "of one run's loss, noisy, not of the plan's",
    ("simulate", "width"): "of the toy",
    ("transfer", "base_depth"): "sizes between which is transferred, any positive number",
    ("transfer", "base_width"): "sizes between which is transferred, any positive number",
    ("transfer", "depth"): "sizes between which is transferred, any positive number",
    ("transfer", "optimizer"): "rules, not optimizers: muon_adamw is two of them",
    ("transfer", "steps"): "sizes between which is transferred, any positive number",
    ("transfer", "width"): "sizes between which is transferred, any positive number",
}
PLUMBING = {"as_json", "json_path", "out", "data", "only", "parquet", "config_file", "print_config", "help"}


def commands():
    """(name, command) of every command, those of groups by both words."""

    def walk(command, name):
        if isinstance(command, click.Group):
            for child in command.list_commands(None):
                yield from walk(command.get_command(None, child), f"{name} {child}".strip())
        else:
            yield name, command

    return dict(walk(cli.cli, ""))


COMMANDS = commands()


def run(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        cli.main([str(word) for word in args])
    out = capsys.readouterr()
    return stop.value.code, out.out, out.err


def setting_options(name):
    return [option for option in COMMANDS[name].params if isinstance(option, SettingOption)]


def test_commands_with_settings_are_listed():
    assert {name for name in COMMANDS if setting_options(name)} == set(SPECS)


@pytest.mark.parametrize("name", SPECS)
def test_every_field_is_reachable_in_every_command(name):
    specs, decided = SPECS[name]
    fields = {(cls, field) for cls in specs for field in cls.__struct_fields__}
    reached = {(option.setting.owner, option.setting.field) for option in setting_options(name)}
    assert reached == fields - decided


@pytest.mark.parametrize("cls", dict.fromkeys(cls for specs, _ in SPECS.values() for cls in specs))
def test_every_field_is_described_on_a_line_of_its_own(cls):
    lines = attribute_lines(cls)
    assert set(lines) == set(cls.__struct_fields__)
    assert all(line.endswith(".") and len(line) < 120 for line in lines.values())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is(name):
    for option in COMMANDS[name].params:
        assert not isinstance(option, click.Option) or option.name == "help" or (option.help or "").strip(), option.opts


def test_one_setting_has_one_name_type_and_default():
    """Options of one name are the same setting in all commands, or it is said above why not."""
    seen = {}
    for name, command in COMMANDS.items():
        for option in command.params:
            if not isinstance(option, click.Option) or option.name in PLUMBING or (name, option.name) in OTHER_THINGS:
                continue
            is_setting = isinstance(option, SettingOption)
            default = option.setting.default if is_setting else option.default
            if default is msgspec.NODEFAULT or default is False or "UNSET" in repr(default):
                default = None  # nothing holds unless it is given
            kind = option.type.name.removesuffix(" range")
            what = (option.opts, kind, getattr(option.type, "choices", None), default)
            assert seen.setdefault(option.name, (name, what))[1] == what, (name, seen[option.name])
    assert {key for key in OTHER_THINGS if key[1] not in {o.name for o in COMMANDS[key[0]].params}} == set()


def test_a_field_has_one_default_wherever_it_is_declared():
    """The functions behind the commands begin with the settings' defaults."""

    def defaults(function):
        return {name: p.default for name, p in inspect.signature(function).parameters.items()}

    plan = PlanConfig(steps=1, batch_tokens=1)
    for name in ("tolerance", "budget", "init", "order"):
        assert defaults(plan_expansion)[name] == getattr(plan, name)
    toy = SimulationConfig()
    for name in ("seeds", "steps", "max_depth", "tolerance", "peak_lr"):
        assert defaults(simulate)[name] == getattr(toy, name)
    assert all(getattr(LowRank(), name) == getattr(toy, name) for name in ("width", "rank", "alpha", "noise", "batch"))


def another(setting):
    """Words for the command line that give a setting a value other than its default."""
    flag = f"--{setting.name.replace('_', '-')}"
    option = SettingOption(setting)
    if option.is_flag or option.secondary_opts:
        return [option.secondary_opts[0] if setting.default else option.opts[0]]
    if isinstance(option.type, click.Choice):
        return [flag, next(choice for choice in option.type.choices if choice != setting.default)]
    if option.type.name == "list":
        return [flag, {"init": "zero", "order": "inter", "format": "png"}.get(setting.field, "3,4,5,6")]
    if option.type.name.startswith("integer"):
        return [flag, str((setting.default if isinstance(setting.default, int) else 6) + 1)]
    if option.type.name.startswith("float"):
        return [flag, {"width": "4.5"}.get(setting.field, "0.25")]
    return [flag, "cpu"]


@pytest.mark.parametrize("name", SPECS)
def test_what_print_config_writes_config_reads(name, capsys, tmp_path):
    words = [word for option in setting_options(name) for word in another(option.setting)]
    code, changed, err = run(capsys, *name.split(), *ARGUMENTS[name], *words, "--print-config")
    assert (code, err) == (0, "")
    (tmp_path / "settings.toml").write_text(changed)
    count = {"simulate": 1, "ablate": 5, "study grid": 1, "study job": 2, "lr-transfer": 5, "train-all": 5,
             "import curve": 3}.get(name, 0)  # fmt: skip
    given = [*ARGUMENTS[name][:count], "--config", tmp_path / "settings.toml"]
    again = run(capsys, *name.split(), *given, "--print-config")
    assert again == (0, changed, "")
    usual = run(capsys, *name.split(), *ARGUMENTS[name], "--print-config")[1]
    for before, after in zip(usual.splitlines(), changed.splitlines(), strict=True):
        assert (before == after) == (" = " not in after or before.startswith("# ") is after.startswith("# ") is True)


def test_options_win_over_the_file_and_the_file_over_defaults(capsys, tmp_path):
    file = tmp_path / "settings.toml"
    file.write_text('seed = 4\ncompile = true\ndevice = "cpu"\n')
    words = ("train", "--config", file, "--seed", "0", "--no-compile", "--print-config")
    lines = run(capsys, *words)[1].splitlines()
    assert {"seed = 0", "compile = false", 'device = "cpu"', "evals = 24"} <= set(lines)


def test_a_runs_own_settings_are_a_file_too(capsys, tmp_path):
    (tmp_path / "config.json").write_text(TrainConfig(seed=7, microbatch=2).to_json().replace('"quiet": false,', ""))
    code, out, err = run(capsys, "train", "--config", tmp_path / "config.json", "--print-config")
    assert (code, err) == (0, "")
    assert {"seed = 7", "microbatch = 2"} <= set(out.splitlines())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sedd = 4", "sedd = 4: is not a setting here; did you mean 'seed'?"),
        ("seed = 4\nseed = 5", "seed = '5': stands more than once; keep one of them"),
        ('seed = "x"', "seed = 'x': expected int, got str; give a value that fits"),
        ("seed = -1", "seed = -1: expected int >= 0; give a value that fits"),
        ("peak_tflops = nan", "peak_tflops = nan: must be a finite number"),
        ('dtype = "float16"', "dtype = 'float16': invalid enum value 'float16'; did you mean 'bfloat16'?"),
        ("[train]\nseed = 1", "train = {'seed': 1}: is not a setting here"),
        ("seed = = 1", "file = 'seed = = 1': is not TOML (Unexpected character: '=' at line 1 col 7)"),
    ],
)
def test_mistakes_in_a_file_are_named_with_it(text, message, capsys, tmp_path):
    (tmp_path / "s.toml").write_text(text)
    code, out, err = run(capsys, "train", "--config", tmp_path / "s.toml", "--print-config")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"latebloom: {tmp_path / 's.toml'}: {message}")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "--config", "none.toml"], "--config = 'none.toml': cannot be read (No such file or directory)"),
        (["train", "--seed", "-1"], "--seed = '-1': is not in the range x>=0; see `latebloom train --help`"),
        (["train", "--init-from", ""], "--init-from = '': is empty; see `latebloom train --help`"),
        (["train", "--log-every", "0"], "--log-every = '0': is not in the range x>=1"),
        (["ablate", "p", "--data", "d", "--out", "o", "--init", "copi"], "--init = 'copi': is not one of its values"),
        (["ablate", "p", "--data", "d", "--out", "o", "--small", "x"], "--small = 'x': is not a list of whole numbers"),
        (
            ["lr-transfer", "p", "--data", "d", "--out", "o", "--width", "8"],
            "--lrs = None: is required; see `latebloom",
        ),
        (
            ["plan", "--config", "p.json", "--optimizer", "adamm"],
            "--optimizer = 'adamm': is not a choice here",
        ),
    ],
)
def test_mistakes_in_options_are_one_line(args, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"latebloom: {message}")


def test_what_a_command_decides_itself_is_said(capsys, tmp_path):
    (tmp_path / "s.toml").write_text("checkpoint_every = 5")
    err = run(capsys, "ablate", *ARGUMENTS["ablate"], "--config", tmp_path / "s.toml")[2]
    assert "s.toml: checkpoint_every = 5: is decided by this command itself; leave it out" in err


def test_json_names_a_key_twice(capsys, tmp_path):
    (tmp_path / "s.json").write_text('{"seed": 1, "seed": 2}')
    err = run(capsys, "train", "--config", tmp_path / "s.json", "--print-config")[2]
    assert err == f"latebloom: {tmp_path / 's.json'}: seed = 2: stands more than once; keep one of them\n"


def test_yaml(capsys, tmp_path):
    """YAML 1.2: 1e-3 is a number, `on` is a word."""
    pytest.importorskip("ruamel.yaml", reason="pip install 'latebloom[yaml]' to read YAML")
    file = tmp_path / "s.yaml"
    file.write_text("# mine\npeak_tflops: 1e-3\nseed: 3\ncompile: true\n")
    lines = run(capsys, "train", "--config", file, "--print-config")[1].splitlines()
    assert {"peak_tflops = 0.001", "seed = 3", "compile = true"} <= set(lines)
    for text, message in {
        "seed: 1\nseed: 2\n": "seed = '2': stands more than once; keep one",
        "seed: [1\n": "file = '': is not YAML (",
        "- 1\n": "file = '[1]': must be keys and values; give `name: value` a line",
        "compile: on\n": "compile = 'on': expected bool, got str",
    }.items():
        file.write_text(text)
        code, out, err = run(capsys, "train", "--config", file, "--print-config")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"latebloom: {file}: {message}"), err


def test_a_plan_from_a_file_with_its_optimizer(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.toml").write_text(
        'model = "gpt2-7b"\nsteps = 100000\nbatch_tokens = 524288\nu_mix = 0.12\noptimizer = "adamw"\n'
        'optimizer_state = "keep_copied"\npeak_lr = 3e-4\nbase_width = 256\n'
    )
    assert run(capsys, "plan", "--config", "plan.toml", "--weight-decay", "0.1")[0] == 0
    plan = read_plan("plan.json")
    assert (plan.optimizer.name, plan.optimizer.weight_decay, plan.optimizer.base.width) == ("adamw", 0.1, 256)
    assert plan.stages[1].optimizer_state == "keep_copied"
    assert plan.schedule.peak == 3e-4
    assert json.loads(plan.to_json())["optimizer"]["momentum"] == 0.95
