"""What a theory that averages over data would have to be given to fit: its allowed parameters.

Theories have none that are free. Two are uncertain at finite size: the temperature of the closure,
T_eff, and χ, whose corrections are of order 1/χ. Each is fitted alone, in every cell, to the
observables of the joint test that it moves, with datasets as units; the theory is falsified where
even the best value is rejected. The slope of the bias of an unadjusted sampler is measured by the
step check, not fitted.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.analysis.comparison import Comparison
from pipelines.analysis.joint_tests import Tested, tested
from pipelines.theories.averaged_theories import ADJUSTABLE, varied
from storage.arrays.coordinates import physical_temperature
from storage.arrays.schema import PARTS, Variable
from storage.planning.plan import Cell, Plan
from theory.spectrum.curve_fit import profile

Array = NDArray[np.float64]

PARAMETERS = ("temperature", "chi")
FACTORS = np.exp(np.linspace(-1.0, 1.0, 33))

_FITTED = ("theory", "cell", "parameter")
VARIABLES = {
    "nuisance": Variable(
        _FITTED, "f8", "T_eff/T, and χ_eff/χ, at which the theory comes closest; nan if not fitted"
    ),
    "nuisance_low": Variable(_FITTED, "f8", "lower end of its interval of 68 %"),
    "nuisance_high": Variable(_FITTED, "f8", "upper end of its interval of 68 %"),
    "nuisance_predicted": Variable(_FITTED, "f8", "what the theory itself says of the parameter"),
    "nuisance_p_value": Variable(_FITTED, "f8", "p-value of the theory at the fitted value"),
}


def evaluate(planned: Plan, comparison: Comparison) -> dict[str, Array]:
    """The values of `VARIABLES`."""
    shape = (len(comparison.theories), len(planned.cells), len(PARAMETERS))
    values = {name: np.full(shape, np.nan) for name in VARIABLES}
    for place, theory in enumerate(comparison.theories):
        if theory not in ADJUSTABLE:
            continue
        bare = np.array([physical_temperature(cell.spec) for cell in planned.cells])
        effective = varied(theory, planned.cells)["closure_temperature"]
        units = {"temperature": effective.numpy() / bare, "chi": np.ones(len(bare))}
        values["nuisance_predicted"][place] = np.stack([units[name] for name in PARAMETERS], 1)
        asked = [cell for cell in range(len(bare)) if tested(comparison, place, cell) is not None]
        for column, parameter in enumerate(PARAMETERS):
            table = _scanned(comparison, theory, planned.cells, effective, asked, parameter)
            for cell in asked:
                found = _fitted(comparison, place, cell, table[:, cell], units[parameter][cell])
                for name, value in found.items():
                    values[name][place, cell, column] = value
    return values


def _scanned(
    comparison: Comparison,
    theory: str,
    cells: Sequence[Cell],
    effective: torch.Tensor,
    asked: list[int],
    parameter: str,
) -> Array:
    """Observables at every value of a parameter, (value, cell, observable), of the cells asked for.

    From the theory itself outwards: beyond a value at which its equations are not solved a cell is
    not tried, since what fails takes the most time. There it is nan, as what is unmoved is.
    """
    table = np.full((len(FACTORS), len(cells), len(comparison.observables)), np.nan)
    middle = len(FACTORS) // 2
    for side in (range(middle, len(FACTORS)), range(middle - 1, -1, -1)):
        left = np.array(asked, dtype=np.intp)
        if side.start < middle:
            left = left[np.isfinite(table[middle, left]).any(1)]
        for value in side:
            if not len(left):
                break
            some, factor = [cells[cell] for cell in left], float(FACTORS[value])
            if parameter == "temperature":
                found = varied(theory, some, temperature=factor * effective[left])
            else:
                found = varied(theory, some, chi=factor)
            table[value, left] = _row(comparison, found)
            left = left[found["closure_temperature"].isfinite().numpy()]
    return table


def _row(comparison: Comparison, found: dict[str, torch.Tensor]) -> Array:
    """The observables that a parameter moves, (cell, observable); nan if unmoved."""
    row = np.full((len(found["weight_norm"]), len(comparison.observables)), np.nan)
    for place, entry in enumerate(comparison.entries):
        if entry.kind in ("learnability", "weight_norm") or (
            entry.kind == "hidden_variance" and entry.labels == PARTS[:1]
        ):
            row[:, place] = found[entry.kind][(..., *entry.places)]
    return row


def _fitted(
    comparison: Comparison, theory: int, cell: int, table: Array, unit: float
) -> dict[str, float]:
    """One parameter of one theory at one cell; empty where there are too few units."""
    found = tested(comparison, theory, cell)
    if found is None:
        return {}
    found = _moved(found, table)
    known = np.isfinite(table[:, found.observables]).all(1)
    if not len(found.observables) or known.sum() < len(FACTORS) // 2:
        return {}
    predicted = comparison.predicted[theory, cell, 0, found.observables]
    sample = found.groups[0] + predicted
    fit = profile(sample, np.log(FACTORS), table[:, found.observables])
    value, low, high = (unit * np.exp(x) for x in (fit.value, fit.low, fit.high))
    inside = np.isfinite(fit.low) and np.isfinite(fit.high)
    return {
        "nuisance": value if inside else np.nan,
        "nuisance_low": low,
        "nuisance_high": high,
        "nuisance_p_value": fit.p_value,
    }


def _moved(found: Tested, table: Array) -> Tested:
    """The observables that the parameter moves."""
    kept = np.isfinite(table[:, found.observables]).any(0)
    return replace(
        found,
        observables=found.observables[kept],
        groups=[group[:, kept] for group in found.groups],
        predicted=found.predicted[kept],
    )
