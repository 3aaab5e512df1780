"""Exponents of a regression, and the parameters that its theories may leave free: `exponents`.

Spectral exponents α and β are those of the population behind the pool, from the spectrum alone.
The exponent of the learning curve is that of the measured error over sizes within 0.3 of the pool;
theories are given theirs on the same sizes. Free parameters are what a fit of the error over the
pool may move: a factor of the effective ridge, whose prediction is 1, and the least learnability
that a decimated theory keeps. What needs other freedom than that is falsified.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.analysis.regression.learning_curve import predicted_theories, spread_out
from pipelines.theories import regression_theories
from pipelines.theories.theory_groups import group_name
from storage.arrays.schema import Variable, regression_sizes
from storage.campaign.regression_spec import SPECTRAL_THEORIES
from storage.campaign.resolved import Regressed, regressed
from storage.planning.plan import Plan, RegressionCell
from storage.store.results import labels, regression_grid, write_group
from storage.store.store import Store
from theory.renormalization import rg
from theory.spectrum.curve_fit import Profile, errors_at, profile
from theory.spectrum.exponents import (
    LEADING_MODES,
    SPECTRUM_SHARE,
    TARGET_SHARE,
    PowerLaw,
    learning_exponent,
    learning_slope,
    spectral_law,
    target_law,
)
from theory.spectrum.learning_curves import effective_ridge
from theory.statistics import FEWEST_UNITS, UNITS_PER_OBSERVABLE

Array = NDArray[np.float64]

LAWS = ("power", "zipf_mandelbrot")
PARAMETERS = ("ridge_factor", "cutoff_rg_ridge", "cutoff_rg_ek")
FACTORS = np.linspace(-1.0, 1.0, 21)  # ln of the factor of the effective ridge
LEARNABILITIES = np.linspace(np.log(1e-4), np.log(0.5), 25)  # ln of the least one kept
FEWEST_SIZES = 3  # of a slope
ROUNDING = 1e-12  # of the largest eigenvalue: smaller ones are zero

_LAW = ("cell", "law")
_RIDGE = ("cell", "ridge")
_FIT = ("cell", "ridge", "parameter")
_POINT = ("cell", "train", "ridge")
VARIABLES = {
    "spectral_exponent": Variable(
        _LAW, "f8", "exponent of the spectrum: eigenvalues fall as k^-(1 + α)"
    ),
    "spectral_exponent_error": Variable(_LAW, "f8", "standard error of α"),
    "amplitude": Variable(_LAW, "f8", "eigenvalue that the law has at k = 1, or k + b = 1"),
    "offset": Variable(_LAW, "f8", "b of the law (k + b)^-(1 + α)"),
    "offset_error": Variable(_LAW, "f8", "standard error of b"),
    "target_exponent": Variable(
        _LAW, "f8", "exponent of the target: its squared coefficients fall as 1 + β"
    ),
    "target_exponent_error": Variable(_LAW, "f8", "standard error of β"),
    "ridgeless_exponent": Variable(
        _LAW, "f8", "min(β, 2 + 2α): exponent of the error in n at small ridge"
    ),
    "equivalent_kernel_exponent": Variable(
        _LAW, "f8", "min(β/(1 + α), 2): exponent of the error in n at large ridge"
    ),
    "slope": Variable(_RIDGE, "f8", "measured exponent of the error over the pool in n"),
    "slope_error": Variable(_RIDGE, "f8", "standard error of slope, over repeats"),
    "slope_predicted": Variable(("theory", *_RIDGE), "f8", "exponent on the same sizes"),
    "ridge_ratio": Variable(_POINT, "f8", "measured T_eff/T, √((error + s²)/training error)"),
    "ridge_ratio_error": Variable(_POINT, "f8", "standard error of ridge_ratio"),
    "fitted": Variable(_FIT, "f8", "value of the free parameter"),
    "fitted_low": Variable(_FIT, "f8", "lower end of its interval of 68 %"),
    "fitted_high": Variable(_FIT, "f8", "upper end of its interval of 68 %"),
    "fitted_p_value": Variable(_FIT, "f8", "p-value of the theory with this parameter free"),
    "fitted_criterion": Variable(_FIT, "f8", "Akaike's criterion, as in learning_curve"),
    "expected": Variable(("parameter",), "f8", "value of the parameter in the theory"),
}


def write(store: Store, planned: Plan) -> None:
    """Write the group `exponents`, as far as spectra and repeats are stored."""
    theories = [name for name in predicted_theories(store, planned) if name in SPECTRAL_THEORIES]
    sizes = regression_sizes(planned) | {
        "law": len(LAWS),
        "theory": len(theories),
        "parameter": len(PARAMETERS),
    }
    values = {
        name: np.full([sizes[dim] for dim in variable.dims], np.nan)
        for name, variable in VARIABLES.items()
    }
    cutoff = planned.spec.cutoff
    kept = cutoff if isinstance(cutoff, float) else np.nan
    values["expected"][:] = 1.0, kept, kept
    finished = np.asarray(store.root["regression/finished"][...]) > 0
    spec = regressed(planned.spec)
    for cell in planned.regressions:
        spectrum = regression_theories.stored_spectrum(store, cell.index)
        if not bool(spectrum[0].isfinite().all()):
            continue
        _put(values, cell.index, _laws(*spectrum))
        slopes = {theory: _curve(store, theory, cell.index) for theory in theories}
        _put(values, cell.index, _measured(store, spec, cell, finished[cell.index]))
        for j, predicted in enumerate(slopes.values()):
            values["slope_predicted"][j, cell.index] = _slopes(spec, predicted[None])[0]
    coordinates, grid = regression_grid(planned)
    for name, names, what in (
        ("law", LAWS, "form of the law"),
        ("theory", theories, "theory"),
        ("parameter", PARAMETERS, "what is left free"),
    ):
        coordinates[name] = labels(name, names, what)
    write_group(store, "exponents", VARIABLES, values, coordinates, grid)


def _put(values: dict[str, Array], cell: int, found: Mapping[str, Array]) -> None:
    for name, value in found.items():
        values[name][cell] = value


def _curve(store: Store, theory: str, cell: int) -> Array:
    """The error over the pool that a theory predicts, (train, ridge)."""
    return np.asarray(store.root.group(group_name(theory))["pool_error"][cell])


# -- the spectrum ---------------------------------------------------------------------------


def _laws(eigenvalues: torch.Tensor, power: torch.Tensor) -> dict[str, Array]:
    """Everything along `law`."""
    points = len(eigenvalues)
    rank = int((eigenvalues > ROUNDING * eigenvalues[0]).sum())
    rows = []
    for offset in (False, True):
        window = (LEADING_MODES, min(points // SPECTRUM_SHARE, rank))
        kernel = _known(spectral_law, eigenvalues.numpy(), points, window, offset=offset)
        window = (LEADING_MODES, min(points // TARGET_SHARE, rank))
        target = _known(target_law, power.numpy(), window, offset=offset)
        alpha, beta = kernel.exponent - 1, target.exponent - 1
        rows.append(
            {
                "spectral_exponent": alpha,
                "spectral_exponent_error": kernel.exponent_error,
                "amplitude": kernel.amplitude,
                "offset": kernel.offset,
                "offset_error": kernel.offset_error,
                "target_exponent": beta,
                "target_exponent_error": target.exponent_error,
                "ridgeless_exponent": learning_exponent(alpha, beta, 1.0),
                "equivalent_kernel_exponent": learning_exponent(alpha, beta, 1 + alpha),
            }
        )
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _known(law: Callable[..., PowerLaw], *arguments: object, **options: object) -> PowerLaw:
    """The law, or nan where the modes have none, or are too few to tell."""
    try:
        return law(*arguments, **options)
    except ValueError:
        return PowerLaw(np.nan, np.nan, np.nan, np.nan, np.nan, (0, 0))


# -- the learning curve ---------------------------------------------------------------------


def _measured(
    store: Store, spec: Regressed, cell: RegressionCell, finished: NDArray[np.bool_]
) -> dict[str, Array]:
    """Slopes, ratios and fits, as far as there are repeats."""
    stored = store.root.group("regression")
    if "pool_error" not in stored or finished.sum() < 2:
        return {}
    error, fitted = (
        np.asarray(stored[name][cell.index])[finished] for name in ("pool_error", "train_error")
    )
    slope, deviation = _slopes(spec, error)
    noise = cell.spec.data.label_noise
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt((error + noise) / fitted)
    return {
        "slope": slope,
        "slope_error": deviation,
        "ridge_ratio": ratio.mean(0),
        "ridge_ratio_error": ratio.std(0, ddof=1) / np.sqrt(len(ratio)),
        **_fits(store, spec, cell, error),
    }


def _slopes(spec: Regressed, errors: Array) -> tuple[Array, Array]:
    """Exponents and their errors of errors (repeat, train, ridge), for each ridge."""
    train = np.asarray(spec.regression.train, dtype=np.float64)
    within = ~regression_theories.beyond_pool(spec)
    found = np.full((2, errors.shape[2]), np.nan)
    for ridge in range(errors.shape[2]):
        known = within & np.isfinite(errors[..., ridge]).all(0) & (errors[..., ridge] > 0).all(0)
        if known.sum() >= FEWEST_SIZES:
            found[:, ridge] = learning_slope(train[known], errors[:, known, ridge])
    return found[0], found[1]


def _fits(store: Store, spec: Regressed, cell: RegressionCell, error: Array) -> dict[str, Array]:
    """The free parameters, (ridge, parameter), on the sizes of the joint test."""
    within = np.flatnonzero(~regression_theories.beyond_pool(spec))
    sizes = spread_out(within, len(error) // UNITS_PER_OBSERVABLE)
    shape = (error.shape[2], len(PARAMETERS))
    names = ("fitted", "fitted_low", "fitted_high", "fitted_p_value", "fitted_criterion")
    table = np.full((len(names), *shape), np.nan)
    if len(error) < FEWEST_UNITS or len(sizes) < 2:
        return dict(zip(names, table, strict=True))
    candidates = _candidates(store, spec, cell)
    for ridge in range(shape[0]):
        sample = error[:, sizes, ridge]
        if not np.isfinite(sample).all() or not (sample.std(0) > 0).all():
            continue
        for place, (values, curves) in enumerate(candidates):
            found = _profile(sample, values, curves[:, sizes, ridge])
            table[:, ridge, place] = found
    return dict(zip(names, table, strict=True))


def _profile(sample: Array, logs: Array, curves: Array) -> Profile:
    if np.isfinite(curves).all(1).sum() < 4:
        return Profile(*[np.nan] * 5)
    found = profile(sample, logs, curves)
    return found._replace(value=np.exp(found.value), low=np.exp(found.low), high=np.exp(found.high))


def _candidates(store: Store, spec: Regressed, cell: RegressionCell) -> list[tuple[Array, Array]]:
    """For each parameter its logarithms and the errors they give, (candidate, train, ridge)."""
    eigenvalues, power = regression_theories.stored_spectrum(store, cell.index)
    train, ridge = regression_theories.settings(cell.spec)
    noise = cell.spec.data.label_noise
    kappa = effective_ridge(eigenvalues, train, ridge)
    scaled = [
        errors_at(eigenvalues, power, train, kappa * float(np.exp(factor)), noise)
        for factor in FACTORS
    ]
    cut: dict[str, list[torch.Tensor]] = {"rg_ridge": [], "rg_ek": []}
    for log_least in LEARNABILITIES:
        # As rg.cutoff has it, without solving for the same effective ridge again.
        least = kappa / np.expm1(-log_least)
        kept = torch.searchsorted(-eigenvalues, -least, right=True).clamp_min(1)
        for theory, errors in cut.items():
            made = getattr(rg, theory)(eigenvalues, power, train, ridge, kept, noise)
            errors.append(made.error)
    return [
        (FACTORS, torch.stack(scaled).numpy()),
        (LEARNABILITIES, torch.stack(cut["rg_ridge"]).numpy()),
        (LEARNABILITIES, torch.stack(cut["rg_ek"]).numpy()),
    ]
