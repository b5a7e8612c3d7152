"""``latebloom transfer``: the table of what to multiply each hyperparameter by."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
import msgspec

from latebloom.theory.errors import InputError
from latebloom.theory.optimizers import OPTIMIZERS, OptimizerName
from latebloom.theory.transfer import (
    RESIDUAL_MULTIPLIERS,
    Size,
    across_expansion,
    fit_horizon_exponent,
    horizon_exponent,
    table,
    transfer,
)

__all__ = ["transfer_command"]


@click.command("transfer")
@click.option(
    "--optimizer",
    type=click.Choice(list(OPTIMIZERS)),
    default="muon_nsgd",
    show_default=True,
    help="The update rule.",
)
@click.option("--base-width", type=float, required=True, help="Where the hyperparameters were tuned.")
@click.option("--base-depth", type=float, required=True, help="Blocks there.")
@click.option("--width", type=float, default=None, help="Where they are to be used. [default: the base's]")
@click.option("--depth", type=float, default=None, help="Blocks there. [default: the base's]")
@click.option("--base-steps", type=float, default=None, help="Optimizer steps there; needed with --steps.")
@click.option("--steps", type=float, default=None, help="Optimizer steps of the target. [default: the base's]")
@click.option("--base-batch", type=float, default=None, help="Batch there, any unit; needed with --batch.")
@click.option("--batch", type=float, default=None, help="Batch of the target. [default: the base's]")
@click.option("--critical-batch", type=float, default=None, help="In the same unit. [default: far above both batches]")
@click.option("--alpha", type=float, default=1.0, show_default=True, help="Residual multiplier depth^-alpha.")
@click.option("--signal-exponent", type=float, default=1.0, show_default=True, help="Of the loss against area.")
@click.option(
    "--best-lr",
    "best_rates",
    type=(float, float),
    multiple=True,
    metavar="STEPS RATE",
    help="Best rate of a sweep; two or more fit the horizon's exponent, and --signal-exponent is not used for it.",
)
@click.option("--expand-from", type=float, default=None, help="Also: what growing from this depth does to the rate.")
@click.option("--json", "as_json", is_flag=True, help="Rows as JSON.")
def transfer_command(
    optimizer: OptimizerName,
    base_width: float,
    base_depth: float,
    width: float | None,
    depth: float | None,
    base_steps: float | None,
    steps: float | None,
    base_batch: float | None,
    batch: float | None,
    critical_batch: float | None,
    alpha: float,
    signal_exponent: float,
    best_rates: tuple[tuple[float, float], ...],
    expand_from: float | None,
    as_json: bool,
) -> None:
    """Print how learning rates, init, multipliers, weight decay and eps go from one size to another."""
    for name, there, here in (("steps", base_steps, steps), ("batch", base_batch, batch)):
        if here is not None and there is None and not (name == "steps" and best_rates):
            rule = f"is needed with --{name} {here:g}: learning rates go with the ratio of the two"
            raise InputError(f"--base-{name}", None, rule, f"say at how many the base was tuned, or leave --{name} out")
    # where nothing is said of steps or batch they are the same in both, and no factor depends on them
    base = Size(
        width=base_width, depth=base_depth, steps=1.0 if base_steps is None else base_steps,
        batch=1.0 if base_batch is None else base_batch,
    )  # fmt: skip
    changes = {"width": width, "depth": depth, "steps": steps, "batch": batch}
    target = base.replace(**{name: value for name, value in changes.items() if value is not None})
    fit = None
    if best_rates:
        fit = fit_horizon_exponent([pair[0] for pair in best_rates], [pair[1] for pair in best_rates])
    rows = transfer(
        base,
        target,
        optimizer,
        alpha=alpha,
        horizon=horizon_exponent(signal_exponent) if fit is None else fit.exponent,
        critical_batch=critical_batch,
    )
    growth, multipliers = None, {}
    if expand_from is not None:
        growth = across_expansion(expand_from, target.depth, optimizer, alpha=alpha, signal_exponent=signal_exponent)
        multipliers = {
            row.name: across_expansion(
                expand_from, target.depth, optimizer, alpha=row.alpha, signal_exponent=signal_exponent
            )
            for row in RESIDUAL_MULTIPLIERS
        }
    if as_json:
        answer = {
            "rows": [asdict(row) for row in rows],
            "expansion": asdict(growth) if growth else None,
            "residual_multipliers": {name: asdict(one) for name, one in multipliers.items()},
            "horizon": None if fit is None else msgspec.to_builtins(fit),
        }
        click.echo(json.dumps(answer, indent=2))
        return
    click.echo(table(rows))
    if fit is not None:
        around = "" if fit.low is None else f", {fit.level:.0%} interval {fit.low:.3f} to {fit.high:.3f}"
        click.echo(
            f"horizon: eta* ~ T^-{fit.exponent:.3f}{around}; {fit.rate_at(target.steps):.3g} at {target.steps:g}"
        )
    if growth:
        click.echo(f"expansion {expand_from:g} -> {target.depth:g}: {growth.reason}")
        for name, one in multipliers.items():
            click.echo(f"  residual multiplier {name:<11} blocks want {one.trunk:.3g} times their rate after growing")
