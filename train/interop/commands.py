"""Commands that take a run elsewhere: Hugging Face, text, tasks of lm_eval, HellaSwag.

torch is imported inside them, when they need it.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from latebloom.theory.words import text_table
from latebloom.train.options import PATH

__all__ = ["eval_command", "export_command", "hellaswag_command", "sample_command"]


@click.command("export")
@click.argument("run", type=PATH)
@click.option("--to", type=click.Choice(["hf"]), default="hf", show_default=True, help="Format.")
@click.option("--out", type=PATH, required=True, help="New directory.")
def export_command(run: Path, to: str, out: Path) -> None:
    """Write RUN's newest checkpoint for Hugging Face: safetensors, configuration, tokenizer, model card."""
    from latebloom.train.model.hf import export

    export(run, out, to=to)
    click.echo(f"{out}: transformers.AutoModelForCausalLM.from_pretrained({str(out)!r}) loads it")


@click.command("sample")
@click.argument("run", type=PATH)
@click.argument("prompt", default="")
@click.option("--tokens", type=int, default=100, show_default=True, help="How many to add.")
@click.option("--temperature", type=float, default=1.0, show_default=True, help="0 takes the likeliest token.")
@click.option("--top-k", type=int, default=50, show_default=True, help="Draw among so many.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the draws.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or auto.")
def sample_command(run: Path, prompt: str, tokens: int, temperature: float, top_k: int, seed: int, device: str) -> None:
    """Let RUN's newest checkpoint go on from PROMPT."""
    from latebloom.train.interop.sample import load_run, sample

    model, tokenizer = load_run(run, device=device)
    text = sample(model, tokenizer, prompt, tokens=tokens, temperature=temperature, top_k=top_k, seed=seed)
    click.echo(text)


@click.command("eval")
@click.argument("run", type=PATH)
@click.option("--tasks", required=True, help="Of lm_eval, separated by commas, such as hellaswag,arc_easy.")
@click.option("--tasks-dir", type=PATH, help="Folder of more tasks, as YAML files.")
@click.option("--examples", type=click.IntRange(min=0), help="Solved before each question; else the task's.")
@click.option("--limit", type=click.IntRange(min=1), help="Take so many questions of each task.")
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Sequences at once.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda or auto.")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def eval_command(
    run: Path, tasks: str, tasks_dir: Path | None, examples: int | None, limit: int | None, batch_size: int,
    device: str, as_json: bool,
) -> None:  # fmt: skip
    """Score RUN's newest checkpoint on tasks of lm_eval, by way of its export."""
    from latebloom.train.interop.harness import evaluate

    scores = evaluate(
        run, [name.strip() for name in tasks.split(",") if name.strip()], tasks_dir=tasks_dir, examples=examples,
        limit=limit, batch_size=batch_size, device=device,
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps(scores))
        return
    rows = [
        (name, ", ".join(f"{key} {row[key]:.4f}" for key in row if "stderr" not in key and key != "sample_len"))
        for name, row in scores.items()
    ]
    click.echo(text_table("<<", ("task", "scores"), rows))


@click.command("hellaswag")
@click.argument("run", type=PATH)
@click.option("--data", type=PATH, required=True, help="HellaSwag's validation file, JSON lines.")
@click.option("--limit", type=click.IntRange(min=1), help="Take so many examples.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or auto.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def hellaswag_command(run: Path, data: Path, limit: int | None, device: str, as_json: bool) -> None:
    """Score RUN's newest checkpoint on HellaSwag."""
    from latebloom.train.interop.sample import hellaswag, load_run

    result = hellaswag(*load_run(run, device=device), data, limit=limit)
    shares = {"accuracy": result.accuracy, "accuracy_normalised": result.accuracy_normalised}
    if as_json:
        click.echo(json.dumps({"examples": result.examples, **shares}))
    else:
        click.echo(f"{result.examples} examples: " + ", ".join(f"{k} {v:.4f}" for k, v in shares.items()))
