"""The validation programme: its quick checks hold, false theory fails, results are stored and gone on with."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from latebloom.sim.chain import FullRank
from latebloom.sim.claims import claim
from latebloom.sim.commands import validate_command
from latebloom.sim.validation import dynamics, expansions, programme, regret, retention, transfer
from latebloom.theory.errors import InputError

QUICK = {
    "saxe": dynamics, "time_scaling": dynamics, "edge_of_stability": dynamics, "muon_hits": dynamics,
    "noise_floors": dynamics, "area_law": expansions, "initialisations": expansions, "copies": expansions,
    "memory": expansions, "stages": expansions, "coupled_kappa": retention, "width_slopes": transfer,
    "one_step_optima": transfer,
}  # fmt: skip


@pytest.mark.parametrize("name", QUICK)
def test_quick_check_holds(name):
    """Each tolerance stands, with its reason, in the check's docstring."""
    claims = getattr(QUICK[name], name)(quick=True)
    assert claims
    assert [(c.name, c.verdict) for c in claims if not c.holds] == []


def test_every_check_is_listed():
    assert set(QUICK) < set(programme.CHECKS)
    for name, home in programme.CHECKS.items():
        assert callable(getattr(__import__(f"latebloom.sim.validation.{home}", fromlist=[name]), name))


def test_regret_of_theorys_tau_and_of_a_wrong_one(monkeypatch):
    """Theory's tau* loses at most 1 %; that of a flat landscape (grow at the last step) much more."""
    good = [r for *_, r in regret.regrets("sgd", quick=True)]
    assert max(good) < 0.01
    curves = regret._curves

    def flat(*args, **options):
        tau, simulated, predicted = curves(*args, **options)
        return tau, simulated, np.full_like(predicted, predicted.mean())

    monkeypatch.setattr(regret, "_curves", flat)
    assert min(r for *_, r in regret.regrets("sgd", quick=True)) > 0.5


def test_a_wrong_formula_fails(monkeypatch):
    """A factor of 2 in eta_c: every claim about it fails."""
    limit = FullRank.step_limit
    monkeypatch.setattr(FullRank, "step_limit", lambda self, depth: 2 * limit(self, depth))
    assert all(c.verdict.startswith("fails by") for c in dynamics.edge_of_stability(quick=True))


def test_values_that_are_not_finite_are_reported_and_in_no_mean():
    common = {"optimizer": "sgd", "tolerance": 0.1, "unit": "loss"}
    one = claim("x", theory=[1.0, 1.0, 1.0], values=[1.0, float("nan"), 1.0], **common)
    assert one.verdict == "not tested: 1 of 3 seeds diverged"
    assert one.simulated == 1.0
    none = claim("x", theory=[1.0], values=[float("inf")], **common)
    assert none.verdict == "not tested: 1 of 1 seeds diverged"
    assert none.simulated is None


def run(*arguments):
    return CliRunner().invoke(validate_command, [str(a) for a in arguments], catch_exceptions=False)


def test_command_stores_and_goes_on(tmp_path, monkeypatch):
    path, out = tmp_path / "claims.json", tmp_path / "out"
    arguments = ("--quick", "--only", "saxe", "--only", "stages", "--processes", 1, "--out", out, "--json", path)
    first = run(*arguments)
    assert first.exit_code == 0
    assert "5 of 5 claims hold" in first.output
    claims = json.loads(path.read_text())["claims"]
    assert {"name", "theory", "simulated", "interval", "tolerance", "holds"} <= set(claims[0])
    monkeypatch.setattr(programme, "_check", lambda name, quick: pytest.fail(f"{name} was computed again"))
    again = run(*arguments)
    assert again.exit_code == 0
    assert "saxe: 4 of 4 claims hold, stored before" in again.output
    assert json.loads(path.read_text())["claims"] == claims


def test_command_fails_when_a_claim_does(tmp_path):
    stored = tmp_path / "quick" / "saxe.json"
    stored.parent.mkdir()
    wrong = {"name": "x", "optimizer": "sgd", "theory": 1.0, "simulated": 2.0, "interval": None, "tolerance": 0.1,
             "unit": "loss", "holds": False, "verdict": "fails by 1 (+100%)"}  # fmt: skip
    stored.write_text(json.dumps({"check": "saxe", "quick": True, "claims": [wrong]}))
    result = run("--quick", "--only", "saxe", "--out", tmp_path)
    assert result.exit_code == 1
    assert "fails by 1 (+100%): sgd: x: theory 1, simulated 2" in result.output


def test_command_refuses_bad_input(tmp_path):
    with pytest.raises(InputError, match=r"only = 'sax': is not a check; did you mean 'saxe'\?"):
        run("--quick", "--only", "sax")
    with pytest.raises(InputError, match="a directory that is not there"):
        run("--quick", "--json", tmp_path / "none" / "out.json")
    assert run("--processes", 0).exit_code == 2


def test_claims_as_a_record_and_their_figure(tmp_path):
    """What the record holds is what the checks said, through Parquet; the figure's title counts it."""
    from latebloom.paper_figures import registry
    from latebloom.sim.claims import claim_data
    from latebloom.sim.validation.table import claims_record
    from latebloom.theory.record import read_record, write_parquet

    common = {"tolerance": 0.1, "unit": "loss"}
    found = {
        "area_law": [claim("area law, noise = 0, x", optimizer="sgd", theory=[1.0, 1.0], values=[1.0, 1.1], **common)],
        "normalised_law": [claim("law, noise = 0, x", optimizer="muon", theory=[1.0], values=[1.5], **common)],
        "saxe": [claim("never", optimizer="sgd", theory=[None], values=[None], **common)],
    }
    data = {check: [claim_data(c) for c in claims] for check, claims in found.items()}
    write_parquet(claims_record(data, quick=True), tmp_path / "sim_validation.parquet")
    record = read_record(tmp_path / "sim_validation.parquet")
    series = record.select(split="simulated", metric="area_law/sgd/area law, noise = 0, x")
    assert series["value"].tolist() == [pytest.approx(1.05)]
    assert np.isnan(record.select(split="low", metric="saxe/sgd/never")["value"][0])
    figure = registry.draw("fig02", tmp_path)
    assert figure.axes[1].get_title(loc="left") == "2 of 3 claims hold"
    caption = registry.module("fig02").caption({"sim_validation": record})
    assert "law, noise = 0, x (Muon)" in caption
    assert "Muon 50.0% of 1" in caption
