"""Every derivation ends in zero; the index of equations names what exists and is up to date."""

import importlib
import pkgutil
import re

import pytest

import latebloom.theory.derivations
from latebloom.theory.derivations import index
from tests.benchmarks.mutation import MUTATIONS, source
from tests.helpers import needs_checkout

MODULES = [m.name for m in pkgutil.iter_modules(latebloom.theory.derivations.__path__) if m.name != "index"]
PROOFS = [
    (module, name)
    for module in MODULES
    for name in importlib.import_module(f"latebloom.theory.derivations.{module}").__all__
    if name.endswith("_residual")
]


@pytest.mark.parametrize(("module", "name"), PROOFS, ids=lambda v: v)
def test_derivation(module, name):
    found = getattr(importlib.import_module(f"latebloom.theory.derivations.{module}"), name)()
    assert [term for term in (found if isinstance(found, list) else [found]) if term != 0] == []


def test_a_wrong_factor_does_not_vanish(monkeypatch):
    """The proofs can fail: half of u*'s weight is no optimum."""
    tradeoff = importlib.import_module("latebloom.theory.derivations.tradeoff")
    monkeypatch.setattr(tradeoff, "OPTIMUM", tradeoff.OPTIMUM / 2)
    assert tradeoff.iso_loss_residual() != 0
    assert tradeoff.iso_compute_residual() != 0


def test_every_proof_is_in_the_index():
    """A derivation that no equation names proves nothing that is used."""
    named = {entry[2] for _, entry in index.entries()}
    helpers = {"area:tau_wsd_residual", "exam:linear_decay_residual", "exam:stable_phase_residual"}
    helpers |= {"exam:constant_fails_residual", "exam:cosine_integrand_residual"}  # parts of an entry's formula
    assert {f"{module}:{name}" for module, name in PROOFS} - named - helpers == set()


@needs_checkout
def test_index_names_what_exists():
    assert index.problems() == []


@needs_checkout
def test_index_is_up_to_date():
    assert index.PAGE.read_text() == index.render(), "run python -m latebloom.theory.derivations.index"


@needs_checkout
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.module}:{m.old.strip()}")
def test_mutations_still_stand_in_their_sources(mutation):
    """``python -m tests.benchmarks.mutation`` needs each text exactly once."""
    assert source(mutation).read_text().count(mutation.old) == 1
    assert mutation.old != mutation.new


def test_there_are_twenty_two_mutations():
    assert len(MUTATIONS) == 22


@needs_checkout
def test_the_page_names_what_exists():
    """Every test, function and file that docs/derivation.md mentions."""
    text = (index.ROOT / "docs" / "derivation.md").read_text()
    tests = "\n".join(path.read_text() for path in (index.ROOT / "tests").glob("test_*.py"))
    for name in set(re.findall(r"`(test_\w+)`", text)):
        assert f"def {name}(" in tests, name
    for path in set(re.findall(r"`(theory\.[\w.]+)`", text)):
        assert pkgutil.resolve_name(path), path
    proofs = {name for _, name in PROOFS}
    for name in set(re.findall(r"`(\w+_residual)`", text)):
        assert name in proofs, name
    for file in set(re.findall(r"`(tests/[\w/]+\.py)`", text)):
        assert (index.ROOT / file).exists(), file
