"""The Wilsonian flow of a regression, from the spectrum of its pool alone: `flow`.

Running couplings of `theory.renormalization.wilson` at cutoffs Λ evenly spaced in ln Λ. The ridge
T(Λ) runs the hard way, each mode with the whole of its prior variance, and the soft one, with its
posterior variance, which ends at the effective ridge. The pull of the data r' = n λ_Λ/T(Λ) falls as
Λ^-D on intervals of scales and ends the flow at the last mode learned, k*. Where that lies in such
an interval the error falls with the exponent min(β, 2 + 2α)/D. n only multiplies r'.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.theories import regression_theories
from storage.arrays.schema import Variable, regression_sizes
from storage.campaign.resolved import Regressed, regressed
from storage.planning.plan import Plan
from storage.store.results import labels, regression_grid, write_group
from storage.store.store import Store
from theory.renormalization import rg, wilson
from theory.spectrum.exponents import learning_exponent

Array = NDArray[np.float64]

STEPS = 61  # cutoffs
INTERVALS = 4  # at most, from the highest cutoffs down
ROUNDING = 1e-12  # of the largest eigenvalue: smaller ones are zero
FEWEST_MODES = 16  # modes of a flow
BIN = 1.5  # ratio of the ends of a bin in which a dimension is measured

_RIDGE = ("cell", "ridge")
_POINT = ("cell", "train", "ridge")
_INTERVAL = (*_RIDGE, "interval")
VARIABLES = {
    "hard_ridge": Variable(
        (*_RIDGE, "flow_cutoff"), "f8", "T(Λ), modes removed with their prior variance"
    ),
    "soft_ridge": Variable(
        (*_POINT, "flow_cutoff"), "f8", "T(Λ), modes removed with their posterior variance"
    ),
    "mass": Variable((*_POINT, "flow_cutoff"), "f8", "r' = n λ_Λ/T(Λ), pull of the data on a mode"),
    "target_square": Variable(("cell", "flow_cutoff"), "f8", "y'² = w_Λ²/λ_Λ"),
    "last_learned": Variable(_POINT, "f8", "k*, last mode with r' of at least 1"),
    "dimension": Variable(_POINT, "f8", "D = -d ln r'/d ln Λ at k*"),
    "flow_exponent": Variable(_POINT, "f8", "min(β, 2 + 2α)/D, exponent of the error in n"),
    "interval_first": Variable(_INTERVAL, "f8", "highest cutoff of an interval where r' scales"),
    "interval_last": Variable(_INTERVAL, "f8", "lowest cutoff of the interval"),
    "interval_dimension": Variable(_INTERVAL, "f8", "D of the interval"),
    "interval_error": Variable(_INTERVAL, "f8", "standard error of D over bins of the interval"),
}
QUARTIC = Variable(
    (*_RIDGE, "coupling", "flow_cutoff"), "f8", "u' = 6u(Λ) Λ λ_Λ, the quartic coupling"
)


def write(store: Store, planned: Plan) -> None:
    """Write the group `flow`, as far as spectra and exponents are stored."""
    spec = regressed(planned.spec)
    cutoffs = np.unique(np.geomspace(1, spec.regression.pool, STEPS).round().astype(int))
    variables = VARIABLES | ({} if spec.regression.quartic is None else {"quartic": QUARTIC})
    sizes = regression_sizes(planned) | {"flow_cutoff": len(cutoffs), "interval": INTERVALS}
    values = {
        name: np.full([sizes[dim] for dim in variable.dims], np.nan)
        for name, variable in variables.items()
    }
    laws = store.root.group("exponents")
    for cell in planned.regressions:
        eigenvalues, squares = regression_theories.stored_spectrum(store, cell.index)
        known = int((eigenvalues > ROUNDING * eigenvalues[0]).sum())
        if known < FEWEST_MODES:
            continue
        alpha, beta = (
            float(np.asarray(laws[name][cell.index])[0])
            for name in ("spectral_exponent", "target_exponent")
        )
        spectrum, power = eigenvalues[:known], squares[:known]
        at = cutoffs[cutoffs <= known]
        for name, value in _flow(cell.spec, spectrum, power, at, alpha, beta).items():
            values[name][cell.index][..., : value.shape[-1]] = value
    coordinates, grid = regression_grid(planned)
    coordinates["flow_cutoff"] = labels("flow_cutoff", cutoffs, "cutoff Λ, modes that are left")
    coordinates["interval"] = labels("interval", np.arange(INTERVALS), "interval of scales")
    write_group(store, "flow", variables, values, coordinates, grid)


def _flow(
    spec: Regressed,
    spectrum: Tensor,
    power: Tensor,
    cutoffs: NDArray[np.intp],
    alpha: float,
    beta: float,
) -> dict[str, Array]:
    """Everything of one cell, at cutoffs up to the modes that there are."""
    train, ridge = regression_theories.settings(spec)
    found = wilson.running_couplings(spectrum, power, train, ridge)
    places = torch.from_numpy(cutoffs) - 1
    last = wilson.last_learned(found.mass)
    scaled = [_scaling(mass, last[:, i]) for i, mass in enumerate(found.mass[0])]
    dimension = np.stack([at_end for at_end, _ in scaled], axis=1)
    intervals = np.stack([rows for _, rows in scaled])  # (ridge, interval, 4)
    inside = _inside(last.numpy(), intervals[..., :2])
    values = {
        "hard_ridge": found.ridge[0, :, places],
        "soft_ridge": rg.soft_flow(spectrum, train, ridge)[..., places + 1],
        "mass": found.mass[..., places],
        "target_square": found.target[places],
        "last_learned": last,
    }
    return (
        {name: value.numpy() for name, value in values.items()}
        | {"dimension": dimension, "flow_exponent": _exponents(alpha, beta, dimension, inside)}
        | {
            f"interval_{name}": intervals[..., place]
            for place, name in enumerate(("first", "last", "dimension", "error"))
        }
        | _quartic(spec, spectrum, power, places)
    )


def _scaling(mass: Tensor, last: Tensor) -> tuple[Array, Array]:
    """D at each k*, and rows of intervals: first, last, D and its error."""
    cutoffs, slopes = wilson.local_dimensions(mass.numpy(), BIN)
    at_end = np.interp(np.log(np.maximum(last.numpy(), 1)), np.log(cutoffs), slopes)
    at_end[last.numpy() < 1] = np.nan
    rows = np.full((INTERVALS, 4), np.nan)
    for place, interval in enumerate(wilson.scaling_intervals(mass.numpy(), ratio=BIN)[:INTERVALS]):
        rows[place] = interval
    return at_end, rows


def _inside(last: Array, bounds: Array) -> NDArray[np.bool_]:
    """Whether k*, (train, ridge), is in an interval, (ridge, interval, 2), to within a bin."""
    high, low = bounds[..., 0] * BIN, bounds[..., 1] / BIN
    return np.any((last[..., None] <= high) & (last[..., None] >= low), axis=-1)


def _exponents(alpha: float, beta: float, dimensions: Array, inside: NDArray[np.bool_]) -> Array:
    """Exponents of the error; nan outside an interval, or where D is not positive."""
    found = np.full(dimensions.shape, np.nan)
    for place in zip(*np.nonzero(inside & (dimensions > 0)), strict=True):
        found[place] = learning_exponent(alpha, beta, float(dimensions[place]))
    return found


def _quartic(spec: Regressed, spectrum: Tensor, power: Tensor, places: Tensor) -> dict[str, Array]:
    """u' of every ridge and coupling, the same for all sizes."""
    if (asked := spec.regression.quartic) is None:
        return {}
    ridge = torch.tensor(spec.regression.ridges, dtype=torch.float64)[:, None]
    coupling = torch.tensor(asked.couplings, dtype=torch.float64)
    found = wilson.running_couplings(spectrum, power, 1.0, ridge, coupling)
    return {"quartic": found.quartic[..., places].numpy()}
