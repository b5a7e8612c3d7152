"""Commands of train. torch is imported inside them, when they need it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from latebloom.theory.architectures.presets import preset
from latebloom.theory.errors import InputError
from latebloom.theory.plan import Plan, read_plan

if TYPE_CHECKING:
    from latebloom.train.config import Activations, DType

__all__ = [
    "ablate_command", "branch_command", "coord_check_command", "data_command", "doctor_command", "export_command",
    "hellaswag_command", "lr_transfer_command", "resume_command", "sample_command", "train_command", "verify_command",
]  # fmt: skip


class _Named(click.Path):
    """A path; an empty one, as an unset shell variable leaves it, is refused: it would mean the current directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("'' is not a path", param, ctx)
        return super().convert(value, param, ctx)


DIRECTORY = _Named(path_type=Path)


@click.command("train")
@click.argument("plan_path", metavar="[PLAN]", required=False, type=DIRECTORY)
@click.option("--plan", "plan_option", type=DIRECTORY, help="The plan file.")
@click.option("--model", "model_name", help="Must be the plan's model; a check, not a choice.")
@click.option("--data", type=DIRECTORY, help="Directory of token shards (see `latebloom data prepare`).")
@click.option("--out", type=DIRECTORY, help="New directory for the run. [default: runs/NAME]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of initialisation and data order.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda or auto.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option("--compile", "compile_blocks", is_flag=True, help="Compile each block.")
@click.option("--microbatch", type=int, help="Sequences per forward pass. [default: the whole batch]")
@click.option("--evals", type=int, default=24, show_default=True, help="Validation points.")
@click.option("--eval-tokens", type=int, default=16384, show_default=True)
@click.option("--checkpoint-every", type=int, default=200, show_default=True, help="Steps.")
@click.option("--keep-checkpoints", type=int, default=2, show_default=True, help="How many stay, the newest ones.")
@click.option("--repeat-data", is_flag=True, help="Allow more than one epoch.")
@click.option(
    "--activations",
    type=click.Choice(["keep", "selective", "recompute"]),
    default="keep",
    show_default=True,
    help="What blocks keep for the backward pass: all, products and attention, or their input (checkpointing).",
)
@click.option("--init-from", type=DIRECTORY, help="Start from a Hugging Face model of the first stage's size.")
@click.option("--online", is_flag=True, help="Decide the expansion while running, by the plan's mixing area.")
@click.option("--diagnostics", is_flag=True, help="Log the RMS of updates and weights.")
@click.option(
    "--tracker", type=click.Choice(["none", "tensorboard", "wandb", "trackio"]), default="none", show_default=True
)
@click.option("--threads", type=int, help="CPU threads. [default: torch's]")
@click.option("--quiet", is_flag=True)
@click.option("--dry-run", "dry", is_flag=True, help="Print parameters, FLOPs, memory and time; train nothing.")
@click.option("--peak-tflops", type=float, help="Of one device, for the MFU. [default of a dry run: 790, an H200]")
@click.option("--mfu", type=float, default=0.5, show_default=True, help="Share of it that training reaches (dry run).")
@click.option("--devices", type=int, default=1, show_default=True, help="Number of devices (dry run).")
@click.option("--print-config", is_flag=True, help="Print plan and configuration as JSON; train nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def train_command(
    plan_path: Path | None,
    plan_option: Path | None,
    model_name: str | None,
    data: Path | None,
    out: Path | None,
    seed: int,
    device: str,
    dtype: DType,
    compile_blocks: bool,
    microbatch: int | None,
    evals: int,
    eval_tokens: int,
    checkpoint_every: int,
    keep_checkpoints: int,
    repeat_data: bool,
    activations: Activations,
    init_from: Path | None,
    online: bool,
    diagnostics: bool,
    tracker: str,
    threads: int | None,
    quiet: bool,
    dry: bool,
    peak_tflops: float | None,
    mfu: float,
    devices: int,
    print_config: bool,
    as_json: bool,
) -> None:
    """Train a GPT-2 as PLAN says."""
    plan = _plan(plan_path, plan_option, model_name)
    if dry:
        from latebloom.train.run.dryrun import dry_run

        peak = 790.0 if peak_tflops is None else peak_tflops
        sequences = 8 if microbatch is None else microbatch
        estimate = dry_run(
            plan, peak_tflops=peak, mfu=mfu, devices=devices, micro_sequences=sequences, activations=activations,
            dtype=dtype,
        )  # fmt: skip
        click.echo(json.dumps(estimate.as_dict(), indent=2) if as_json else estimate.text())
        return
    from latebloom.train.run.loop import TrainConfig, summary, train

    config = TrainConfig(
        seed=seed, device=device, dtype=dtype, compile=compile_blocks, microbatch=microbatch, evals=evals,
        eval_tokens=eval_tokens, checkpoint_every=checkpoint_every, keep_checkpoints=keep_checkpoints,
        repeat_data=repeat_data, quiet=quiet or as_json, activations=activations,
        init_from=str(init_from) if init_from else None,
        diagnostics=diagnostics, peak_tflops=peak_tflops, tracker=tracker,  # type: ignore[arg-type]
    )  # fmt: skip
    if print_config:
        from latebloom.theory.plan_transfer import peak_rates

        shown = {"plan": json.loads(plan.to_json()), "config": json.loads(config.to_json())}
        click.echo(json.dumps(shown | {"peak_learning_rates": peak_rates(plan)}, indent=2))
        return
    if data is None:
        raise InputError("--data", None, "is required to train", "make shards with `latebloom data prepare`")
    _threads(threads)
    auto = None
    if online:
        from latebloom.theory.online_expansion import AutoExpansion

        if plan.predicted.mixing_area is None:
            raise InputError("--online", True, "needs a plan with a mixing area", "make it with `latebloom plan`")
        auto = AutoExpansion(schedule=plan.schedule, mixing_area=plan.predicted.mixing_area)
    record = train(plan, data=data, out=out or Path("runs") / _file_name(plan), config=config, auto=auto)
    result = summary(record)
    click.echo(json.dumps(result) if as_json else f"{result['name']}: final validation loss {result['final_loss']:.6f}")


@click.command("resume")
@click.argument("run", type=DIRECTORY)
@click.option("--data", type=DIRECTORY, help="Where the shards are now. [default: where they were]")
@click.option("--threads", type=int, help="CPU threads; for bit-equal results the number the run began with.")
@click.option("--quiet", is_flag=True)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def resume_command(run: Path, data: Path | None, threads: int | None, quiet: bool, as_json: bool) -> None:
    """Go on with RUN from its newest complete checkpoint; the final loss is that of a run never stopped."""
    from latebloom.train.run.loop import resume, summary

    _threads(threads)
    result = summary(resume(run, data=data, quiet=quiet or as_json))
    click.echo(json.dumps(result) if as_json else f"{result['name']}: final validation loss {result['final_loss']:.6f}")


@click.command("branch")
@click.argument("run", type=DIRECTORY)
@click.argument("plan_path", metavar="PLAN", type=DIRECTORY)
@click.option("--out", type=DIRECTORY, required=True, help="New directory for the run.")
@click.option("--data", type=DIRECTORY, help="Where the shards are now. [default: where they were]")
@click.option("--threads", type=int, help="CPU threads; for bit-equal results the number the run began with.")
@click.option("--quiet", is_flag=True)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def branch_command(
    run: Path, plan_path: Path, out: Path, data: Path | None, threads: int | None, quiet: bool, as_json: bool
) -> None:
    """Go on with RUN as PLAN, from the newest checkpoint up to which both do the same.

    One trunk, trained once with --keep-checkpoints, serves every way of growing it.
    """
    from latebloom.train.run.branch import branch
    from latebloom.train.run.loop import summary

    _threads(threads)
    plan = _plan(plan_path, None, None)
    result = summary(branch(run, plan, out=out, data=data, quiet=quiet or as_json or None))
    click.echo(json.dumps(result) if as_json else f"{result['name']}: final validation loss {result['final_loss']:.6f}")


@click.command("ablate")
@click.argument("plan_path", metavar="PLAN", type=DIRECTORY)
@click.option("--data", type=DIRECTORY, required=True, help="Directory of token shards.")
@click.option("--out", type=DIRECTORY, required=True, help="Directory of the runs; finished ones are kept.")
@click.option("--small", default="0,1,2", show_default=True, help="Depths before the expansion.")
@click.option("--init", "inits", default="random,copy,copy_zero_last", show_default=True, help="How new blocks begin.")
@click.option("--order", "orders", default="stack,inter,last", show_default=True, help="Where they stand.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Number of seeds.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="The first of them.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda or auto.")
@click.option("--dtype", type=click.Choice(["float32", "bfloat16"]), default="float32", show_default=True)
@click.option("--compile", "compile_blocks", is_flag=True, help="Compile each block.")
@click.option("--eval-tokens", type=int, default=16384, show_default=True)
@click.option("--repeat-data", is_flag=True, help="Allow more than one epoch.")
@click.option("--parquet", type=DIRECTORY, help="Write each record there as OUT's name and the arm's.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def ablate_command(
    plan_path: Path,
    data: Path,
    out: Path,
    small: str,
    inits: str,
    orders: str,
    seeds: int,
    seed: int,
    device: str,
    dtype: str,
    compile_blocks: bool,
    eval_tokens: int,
    repeat_data: bool,
    parquet: Path | None,
    as_json: bool,
) -> None:
    """Compare ways of growing as PLAN does: starting depths, initialisations, orders, with every control."""
    from rich.console import Console

    from latebloom.theory.expansion import Init, Order
    from latebloom.theory.record import write_parquet
    from latebloom.train.config import TrainConfig
    from latebloom.train.experiments.ablation import ablate

    config = TrainConfig(
        seed=seed, device=device, dtype=dtype, compile=compile_blocks, eval_tokens=eval_tokens,  # type: ignore[arg-type]
        repeat_data=repeat_data, quiet=True,
    )  # fmt: skip
    ranking = ablate(
        _plan(plan_path, None, None), data=data, out=out, small=_words("--small", small, range(1000)),
        inits=_words("--init", inits, get_args(Init)), orders=_words("--order", orders, get_args(Order)), seeds=seeds,
        config=config, console=Console(quiet=as_json),
    )  # fmt: skip
    for name, record in ranking.records.items():
        if parquet:
            write_parquet(record, parquet / f"{out.name}_{name.replace('-', '_')}.parquet")
    if as_json:
        rows = [{"arm": a.name, "losses": a.losses, "flops": a.flops} for a in ranking.arms]
        click.echo(json.dumps(rows))
        return
    click.echo(f"{'arm':<28}{'final loss':>11}{'against fixed':>22}{'compute':>9}")
    for arm in ranking.arms:
        mean, error = ranking.against(arm)
        spread = f"{mean:+.4f}" + (f" +- {error:.4f}" if seeds > 1 else "")
        click.echo(f"{arm.name:<28}{arm.mean:>11.4f}{spread:>22}{arm.flops / ranking.fixed.flops:>9.0%}")


@click.command("verify")
@click.argument("checkpoint", type=DIRECTORY)
def verify_command(checkpoint: Path) -> None:
    """Check the files of CHECKPOINT against its manifest."""
    from latebloom.train.run.checkpoint import verify

    manifest = verify(checkpoint)
    click.echo(f"{checkpoint}: step {manifest.step}, depth {manifest.depth}, plan {manifest.plan_digest}")
    for file in manifest.files:
        click.echo(f"  {file.name}: {file.bytes:,} bytes, SHA-256 as written")


@click.command("export")
@click.argument("run", type=DIRECTORY)
@click.option("--to", type=click.Choice(["hf"]), default="hf", show_default=True, help="Format.")
@click.option("--out", type=DIRECTORY, required=True, help="New directory.")
def export_command(run: Path, to: str, out: Path) -> None:
    """Write RUN's newest checkpoint for Hugging Face: safetensors, configuration, tokenizer, model card."""
    from latebloom.train.model.hf import export

    export(run, out, to=to)
    click.echo(f"{out}: transformers.AutoModelForCausalLM.from_pretrained({str(out)!r}) loads it")


@click.command("sample")
@click.argument("run", type=DIRECTORY)
@click.argument("prompt", default="")
@click.option("--tokens", type=int, default=100, show_default=True)
@click.option("--temperature", type=float, default=1.0, show_default=True, help="0 takes the likeliest token.")
@click.option("--top-k", type=int, default=50, show_default=True, help="Draw among so many.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True)
def sample_command(run: Path, prompt: str, tokens: int, temperature: float, top_k: int, seed: int, device: str) -> None:
    """Let RUN's newest checkpoint go on from PROMPT."""
    from latebloom.train.interop.sample import load_run, sample

    model, tokenizer = load_run(run, device=device)
    text = sample(model, tokenizer, prompt, tokens=tokens, temperature=temperature, top_k=top_k, seed=seed)
    click.echo(text)


@click.command("hellaswag")
@click.argument("run", type=DIRECTORY)
@click.option("--data", type=DIRECTORY, required=True, help="HellaSwag's validation file, JSON lines.")
@click.option("--limit", type=click.IntRange(min=1), help="Take so many examples.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--json", "as_json", is_flag=True)
def hellaswag_command(run: Path, data: Path, limit: int | None, device: str, as_json: bool) -> None:
    """Score RUN's newest checkpoint on HellaSwag."""
    from latebloom.train.interop.sample import hellaswag, load_run

    result = hellaswag(*load_run(run, device=device), data, limit=limit)
    shares = {"accuracy": result.accuracy, "accuracy_normalised": result.accuracy_normalised}
    if as_json:
        click.echo(json.dumps({"examples": result.examples, **shares}))
    else:
        click.echo(f"{result.examples} examples: " + ", ".join(f"{k} {v:.4f}" for k, v in shares.items()))


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True)
def doctor_command(as_json: bool) -> None:
    """Say what this machine can do: devices, matrix-product rate, packages, disk."""
    from latebloom.train.run.doctor import examine, examine_text

    found = examine()
    click.echo(json.dumps(found, indent=2) if as_json else examine_text(found))


@click.command("coord-check")
@click.option("--optimizer", type=click.Choice(["muon_nsgd", "muon_adamw", "adamw", "sgd"]), default="muon_nsgd")
@click.option("--rule", type=click.Choice(["transfer", "none"]), default="transfer", show_default=True)
@click.option("--lr", type=float, default=0.002, show_default=True, help="At the smallest size.")
@click.option("--json", "as_json", is_flag=True)
def coord_check_command(optimizer: str, rule: str, lr: float, as_json: bool) -> None:
    """Do features move alike in wide and deep models? Exit code 0: pass, 1: fail. Under a minute on a CPU."""
    from dataclasses import asdict

    from latebloom.train.experiments.coord_check import check_text, coord_check

    check = coord_check(optimizer=optimizer, rule=rule, lr=lr)
    click.echo(json.dumps(asdict(check) | {"passed": check.passed}, indent=2) if as_json else check_text(check))
    sys.exit(0 if check.passed else 1)


@click.command("lr-transfer")
@click.argument("plan_path", metavar="PLAN", type=DIRECTORY)
@click.option("--data", type=DIRECTORY, required=True, help="Directory of token shards.")
@click.option("--lrs", required=True, help="Peak learning rates, such as 0.005,0.01,0.02,0.04.")
@click.option("--width", type=int, required=True, help="Of the target.")
@click.option("--depth", type=int, required=True, help="Of the target.")
@click.option("--steps", type=int, required=True, help="Of the target.")
@click.option("--out", type=DIRECTORY, required=True, help="Directory of the runs; finished ones are kept.")
@click.option("--plot", "plot_path", type=DIRECTORY, help="Write the curve there (.svg, .pdf, .png).")
@click.option("--repeat-data", is_flag=True, help="Allow more than one epoch.")
@click.option("--json", "as_json", is_flag=True)
def lr_transfer_command(
    plan_path: Path,
    data: Path,
    lrs: str,
    width: int,
    depth: int,
    steps: int,
    out: Path,
    plot_path: Path | None,
    repeat_data: bool,
    as_json: bool,
) -> None:
    """Sweep the learning rate of the small PLAN at its full depth, and predict the optimum at the target."""
    from latebloom.train.config import TrainConfig
    from latebloom.train.experiments.lr_transfer import lr_transfer, plot, transfer_text

    try:
        rates = [float(text) for text in lrs.split(",")]
    except ValueError:
        raise InputError("--lrs", lrs, "is not a list of numbers", "give such as 0.005,0.01,0.02,0.04") from None
    if plot_path and (plot_path.suffix not in (".svg", ".pdf", ".png") or not plot_path.absolute().parent.is_dir()):
        rule = "is not a .svg, .pdf or .png in a directory that is there"
        raise InputError("--plot", str(plot_path), rule, "name such a file")
    result = lr_transfer(
        _plan(plan_path, None, None), data=data, out=out, lrs=rates, width=width, depth=depth, steps=steps,
        config=TrainConfig(quiet=True, repeat_data=repeat_data, evals=0),
    )  # fmt: skip
    if plot_path:
        plot(result, plot_path)
    click.echo(json.dumps(result.as_dict(), indent=2) if as_json else transfer_text(result))


@click.group("data")
def data_command() -> None:
    """Prepare token shards."""


@data_command.command("prepare")
@click.argument("paths", nargs=-1, type=DIRECTORY)
@click.option("--stdlib", is_flag=True, help="Take the text of this Python's standard library.")
@click.option("--dataset", help="A Hugging Face data set: a directory, or a name (downloaded).")
@click.option("--dataset-config", help="Its configuration.")
@click.option("--dataset-split", default="train", show_default=True, help="Its split.")
@click.option("--text-key", default="text", show_default=True, help="Field or column of the text.")
@click.option("--tokenizer", type=click.Choice(["bpe", "bytes", "gpt2"]), default="bpe", show_default=True)
@click.option("--vocab-size", type=int, default=4096, show_default=True, help="Of the BPE, trained here.")
@click.option("--bpe-dir", type=DIRECTORY, help="GPT-2's encoder.json and vocab.bpe.")
@click.option("--val-share", type=float, default=0.1, show_default=True, help="Share of documents held out.")
@click.option("--out", type=DIRECTORY, required=True, help="New directory.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def prepare_command(
    paths: tuple[Path, ...],
    stdlib: bool,
    dataset: str | None,
    dataset_config: str | None,
    dataset_split: str,
    text_key: str,
    tokenizer: str,
    vocab_size: int,
    bpe_dir: Path | None,
    val_share: float,
    out: Path,
    as_json: bool,
) -> None:
    """Tokenise documents into train.bin, val.bin and a manifest; called again after an interruption, it goes on.

    PATHS are text files, .jsonl, .parquet, directories of them, or of `datasets.save_to_disk`.
    """
    from latebloom.train.data.corpus import prepare, python_stdlib_corpus, text_files

    files = text_files(paths) + (python_stdlib_corpus() if stdlib else [])
    live = sys.stderr.isatty() and not as_json

    def tell(count: int, size: int) -> None:
        click.echo(f"\r{count:,} documents, {size / 1e6:,.0f} MB", nl=False, err=True)

    manifest = prepare(
        files, out, tokenizer=tokenizer, vocab_size=vocab_size, val_share=val_share, text_key=text_key,
        bpe_dir=bpe_dir, dataset=dataset, dataset_config=dataset_config, dataset_split=dataset_split,
        on_progress=tell if live else None,
    )  # fmt: skip
    if live:
        click.echo(err=True)
    if as_json:
        click.echo(manifest.to_json(), nl=False)
        return
    counts = ", ".join(f"{entry.split} {entry.tokens:,} tokens" for entry in manifest.files)
    click.echo(f"{out}: {manifest.source_files} documents, {counts}, vocabulary {manifest.vocab_size}")


def _plan(argument: Path | None, option: Path | None, model_name: str | None) -> Plan:
    if (argument is None) == (option is None):
        rule = "is given twice" if argument else "is required"
        raise InputError("PLAN", str(argument) if argument else None, rule, "give one plan file, as PLAN or --plan")
    path = argument or option
    assert path is not None
    plan = read_plan(path)
    if model_name is not None:
        preset(model_name)
        if model_name != plan.model.name:
            rule = f"is not the plan's model {plan.model.name!r}"
            raise InputError("--model", model_name, rule, "make a plan for it with `latebloom plan --model`")
    return plan


def _threads(count: int | None) -> None:
    if count is None:
        return
    cores = os.cpu_count() or 1
    if not 1 <= count <= cores:
        raise InputError("--threads", count, f"must lie in 1 ... {cores}", "give the number of cores to use")
    import torch

    torch.set_num_threads(count)
    os.environ["OPENBLAS_NUM_THREADS"] = str(count)  # read when scipy.linalg is loaded, at Muon's first step


def _file_name(plan: Plan) -> str:
    """The plan's name as that of a directory; never one that means another place, such as ".."."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in plan.name).strip(".-") or plan.digest[:12]


def _words(name: str, text: str, valid: Sequence[Any]) -> list[Any]:
    """The comma-separated words of an option, each one of ``valid``."""
    known = {str(value): value for value in valid}
    for word in (words := [word.strip() for word in text.split(",")]):
        if word not in known:
            shown = f"0 to {len(known) - 1}" if isinstance(valid, range) else ", ".join(known)
            raise InputError(name, word, "is not one of its values", f"valid: {shown}, separated by commas")
    return [known[word] for word in words]
