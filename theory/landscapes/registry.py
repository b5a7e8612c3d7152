"""The landscapes in which a run may grow, by name: the class of each, and the fit that makes it from pilot records.

To add one: a class with a tag (:class:`latebloom.theory.landscapes.growth.GrowthLandscape`), a fit
(:class:`latebloom.theory.fitting.landscape_fit.LandscapeFit`) in a file of :mod:`latebloom.theory.fitting`, a row here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from latebloom.theory.errors import InputError, nearest
from latebloom.theory.fitting.area import fit_area_law
from latebloom.theory.fitting.field_fit import fit_field
from latebloom.theory.fitting.landscape_fit import LandscapeFit
from latebloom.theory.fitting.normalised import fit_normalised_pilots
from latebloom.theory.fitting.pair import fit_law_pair
from latebloom.theory.fitting.reuse import fit_reuse_law
from latebloom.theory.landscapes.area import AreaLaw
from latebloom.theory.landscapes.coupled import CoupledQuadratic
from latebloom.theory.landscapes.field import FieldLaw
from latebloom.theory.landscapes.growth import GrowthLandscape
from latebloom.theory.landscapes.law_pair import LawPair
from latebloom.theory.landscapes.normalised import NormalisedLaw
from latebloom.theory.landscapes.reuse import ReuseLaw
from latebloom.theory.plan import Sha256
from latebloom.theory.record import Record
from latebloom.theory.spec import Spec, read_spec

__all__ = [
    "DEFAULT", "FITTED", "LANDSCAPES", "AnyLandscape", "FittedLandscape", "Member", "fit_landscape", "read_fitted",
    "write_fitted",
]  # fmt: skip

AnyLandscape = AreaLaw | NormalisedLaw | LawPair | ReuseLaw | CoupledQuadratic | FieldLaw
DEFAULT = "area"  # what is fitted to pilots when no name is given


@dataclass(frozen=True, kw_only=True)
class Member:
    """One row of the registry.

    Attributes:
        law: The class, a Spec with the row's name as its tag.
        fit: From pilot records and a seed to a fit; None for a landscape that is given and never fitted.
        about: One line for people.
    """

    law: type[GrowthLandscape]
    fit: Callable[[Sequence[Record], int], LandscapeFit] | None
    about: str


LANDSCAPES: dict[str, Member] = {
    "area": Member(
        law=AreaLaw,
        fit=lambda records, seed: fit_area_law(records, seed=seed),
        about="power laws of learning-rate area: gradient descent, AdamW",
    ),
    "normalised": Member(
        law=NormalisedLaw,
        fit=lambda records, seed: fit_normalised_pilots(records, seed=seed),
        about="constant speed until each mode is hit, delayed by momentum: Muon, NSGD",
    ),
    "pair": Member(
        law=LawPair,
        fit=lambda records, seed: fit_law_pair(records, seed=seed),
        about="a functional scaling law for each depth",
    ),
    "reuse": Member(
        law=ReuseLaw,
        fit=lambda records, seed: fit_reuse_law(records, seed=seed),
        about="the law of reuse: a better trained trunk gains less from each further step",
    ),
    "coupled": Member(
        law=CoupledQuadratic, fit=None, about="quadratic with curvature shared by trunk and new layers: exact"
    ),
    "field": Member(
        law=FieldLaw,
        fit=lambda records, seed: fit_field(records),
        about="posterior means of the recovery field: annealed ends, no law assumed",
    ),
}
FITTED = tuple(name for name, member in LANDSCAPES.items() if member.fit is not None)


class FittedLandscape(Spec, frozen=True, kw_only=True):
    """What is kept of a fit in a file.

    Attributes:
        law: The landscape.
        replicas: The same fitted to resampled pilots, for intervals.
        pilots: Plan digests of the pilots.
        left_open: What the pilots leave open, a line each.
    """

    law: AnyLandscape
    replicas: tuple[AnyLandscape, ...] = ()
    pilots: tuple[Sha256, ...] = ()
    left_open: tuple[str, ...] = ()


def fit_landscape(name: str, records: Sequence[Record], *, seed: int = 0) -> LandscapeFit:
    """Fit the landscape called ``name`` to pilot records.

    Args:
        name: One of :data:`FITTED`.
        records: Pilots: runs of two depths, and some that grow.
        seed: Of the search.

    Returns:
        The fit.

    Raises:
        InputError: for an unknown name, and for pilots from which the law cannot be fitted.
    """
    if name not in FITTED:
        raise InputError("--law", name, "is not a landscape that is fitted to pilots", nearest(name, FITTED))
    fit = LANDSCAPES[name].fit
    assert fit is not None
    return fit(records, seed)


def write_fitted(fit: LandscapeFit, replicas: Sequence[GrowthLandscape], path: str | Path) -> None:
    """Write a fit's law and its replicas as JSON.

    Args:
        fit: The fit.
        replicas: Of its bootstrap.
        path: File to write.
    """
    kept = FittedLandscape(
        law=fit.law,  # type: ignore[arg-type]
        replicas=tuple(replicas),  # type: ignore[arg-type]
        pilots=fit.digests,
        left_open=fit.identifiability,
    )
    Path(path).write_text(kept.to_json(), encoding="utf-8")


def read_fitted(path: str | Path) -> FittedLandscape:
    """Read what :func:`write_fitted` wrote.

    Args:
        path: The file.

    Returns:
        Law, replicas and origin.

    Raises:
        InputError: for a file that is none.
    """
    return read_spec(path, FittedLandscape)
