"""Theories of a regression: the groups `theory/<name>`, in the shape of what was measured.

Those from the spectrum of the pool average over orders and drop `repeat`. Errors are over the whole
pool, which a pool's own spectrum describes for draws with replacement. Regressions with a decimated
kernel keep `repeat`: they see the points that the repeat drew. They cost as much as regressions do,
and are evaluated for as many of the finished repeats as `workers.regression.decimated.WORK` allows.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pipelines.progress import doing
from pipelines.theories.attempts import attempt, explained
from pipelines.theories.theory_groups import group_name, reasons_of, write_reasons
from storage.arrays.schema import Variable, regression_sizes, regression_variables
from storage.campaign.plugins import Plugins
from storage.campaign.regression_spec import (
    CUTOFF_THEORIES,
    DECIMATED_THEORIES,
    QUARTIC_THEORY,
    SPECTRAL_THEORIES,
)
from storage.campaign.resolved import Regressed, regressed
from storage.campaign.spec import Campaign
from storage.planning.plan import Plan
from storage.store.hierarchy import Group
from storage.store.results import create_group, regression_grid
from storage.store.store import Store
from theory.renormalization import rg
from theory.spectrum import learning_curves as spectrum
from theory.spectrum.learning_curves import LearningCurve
from theory.spectrum.quartic import quartic_regression
from workers.regression.decimated import decimated, repeats_within

NO_SPECTRUM = "the regression is not finished"
BEYOND_POOL = 0.3  # n/M above which a learning curve feels that its pool is finite

_THEORIES: dict[str, Callable[..., LearningCurve]] = {
    "effective_ridge": spectrum.learning_curve,
    "equivalent_kernel": spectrum.equivalent_kernel,
    "equivalent_kernel_next_order": spectrum.equivalent_kernel_next_order,
    "rg_ridge": rg.rg_ridge,
    "rg_ek": rg.rg_ek,
}
_CURVE = ("cell", "train", "ridge")
_REPEAT = ("cell", "repeat", "train", "ridge")
_QUARTIC = (*_CURVE, "coupling")
DISTANCES = {
    "distance_square": Variable(
        _CURVE,
        "f8",
        "mean predictor over the repeats minus that with the whole kernel, in the modes kept: "
        "mean square over the pool, without bias",
    ),
    "distance_square_error": Variable(_CURVE, "f8", "standard error of distance_square"),
    "variation": Variable(_CURVE, "f8", "of the variance removed: deviation over mean"),
}


def predict(store: Store, planned: Plan, plugins: Plugins) -> None:
    """Write the group of every theory of the newest spec that speaks of the regression."""
    _predict_decimated(store, planned, plugins)
    spectral = (*SPECTRAL_THEORIES, QUARTIC_THEORY)
    wanted = [theory for theory in planned.spec.theories if theory in spectral]
    groups = {theory: _group(store, planned, theory) for theory in wanted}
    reasons = {theory: reasons_of(theory, planned.regressions) for theory in groups}
    for cell in planned.regressions if groups else ():
        doing.tell("regression", cell.index, len(planned.regressions))
        eigenvalues, power = stored_spectrum(store, cell.index)
        for theory, group in groups.items():
            if not bool(eigenvalues.isfinite().all()):
                reasons[theory][cell.index] = NO_SPECTRUM
                continue
            with explained(theory, cell, "the pool"):
                found = attempt(curve, theory, planned.spec, cell.spec, eigenvalues, power)
            if isinstance(found, str):
                reasons[theory][cell.index] = found
                continue
            for name, value in found.items():
                group[name][cell.index] = value
    for theory in groups:
        write_reasons(store, theory, reasons[theory])


def _predict_decimated(store: Store, planned: Plan, plugins: Plugins) -> None:
    wanted = [theory for theory in planned.spec.theories if theory in DECIMATED_THEORIES]
    groups = [_group(store, planned, theory) for theory in wanted]
    reasons = np.full(len(planned.regressions), "", dtype=object)
    finished = store.root["regression/finished"]
    for cell in planned.regressions if groups else ():
        repeats = np.flatnonzero(np.asarray(finished[cell.index]) > 0).tolist()
        eigenvalues, _ = stored_spectrum(store, cell.index)
        if not repeats or not bool(eigenvalues.isfinite().all()):
            reasons[cell.index] = NO_SPECTRUM
            continue
        train, ridge = settings(cell.spec)
        kept = modes_kept(planned.spec, eigenvalues, train, ridge)
        some = repeats_within(repeats, train[:, 0].tolist(), kept.numpy())
        with explained(wanted[0], cell, "the pool"):
            positions = [theory == "rg_gpr_position" for theory in wanted]
            sources = planned.sources
            found = attempt(decimated, cell, some, kept.numpy(), positions, plugins, sources)
        if isinstance(found, str):
            reasons[cell.index] = found
            continue
        for group, values in zip(groups, found, strict=True):
            group["cutoff"][cell.index] = kept.numpy()
            group["renormalized_ridge"][cell.index] = renormalized(eigenvalues, ridge, kept).numpy()
            for name, value in values.items():
                if name in DISTANCES:
                    group[name][cell.index] = value
                    continue
                for repeat, row in zip(some, value, strict=True):
                    group[name][cell.index, repeat] = row
    for theory in wanted:
        write_reasons(store, theory, reasons)


def stored_spectrum(store: Store, cell: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues of the pool of a cell and squared coefficients of its target; nan where not yet
    stored. Of several outputs it is their mean, since errors are means over outputs.
    """
    stored = store.root.group("regression")
    eigenvalues, coefficients = (
        torch.as_tensor(np.asarray(stored[name][cell]), dtype=torch.float64)
        for name in ("eigenvalue", "coefficient")
    )
    return eigenvalues, coefficients.reshape(len(eigenvalues), -1).square().mean(1)


def curve(
    theory: str, newest: Campaign, spec: Regressed, eigenvalues: Tensor, power: Tensor
) -> dict[str, np.ndarray]:
    """All sizes and ridges, (train, ridge), by the names of the variables.

    `newest` says where to cut, `spec` of the cell everything else.
    """
    train, ridge = settings(spec)
    if theory == QUARTIC_THEORY:
        return _quartic(spec, eigenvalues, power)
    arguments: list[Tensor] = [eigenvalues, power, train, ridge]
    found = {}
    if theory in CUTOFF_THEORIES:
        kept = modes_kept(newest, eigenvalues, train, ridge)
        arguments.append(kept)
        found["cutoff"] = kept
        found["renormalized_ridge"] = renormalized(eigenvalues, ridge, kept)
    made = _THEORIES[theory](*arguments, spec.data.label_noise)
    found |= {
        "pool_error": made.error,
        "train_error": made.train_error,
        "posterior_variance": made.posterior_variance,
        "effective_ridge": made.effective_ridge,
        "learnability": made.learnability,
    }
    return {name: value.numpy() for name, value in found.items()}


def _quartic(spec: Regressed, eigenvalues: Tensor, power: Tensor) -> dict[str, np.ndarray]:
    """All sizes, ridges and couplings, (train, ridge, coupling)."""
    assert spec.regression.quartic is not None
    train, ridge = settings(spec)
    coupling = torch.tensor(spec.regression.quartic.couplings, dtype=torch.float64)
    found = quartic_regression(
        eigenvalues, power, train[..., None], ridge[..., None], coupling, spec.data.label_noise
    )
    return {
        "quartic_error": found.curve.error.numpy(),
        "quartic_residual": found.residual.numpy(),
        "quartic_ridge": found.ridge.numpy(),
    }


def settings(spec: Regressed) -> tuple[Tensor, Tensor]:
    """Sizes (train, 1) and ridges (1, ridge)."""
    train, ridges = spec.regression.train, spec.regression.ridges
    return (
        torch.tensor(train, dtype=torch.float64)[:, None],
        torch.tensor(ridges, dtype=torch.float64)[None, :],
    )


def modes_kept(newest: Campaign, eigenvalues: Tensor, train: Tensor, ridge: Tensor) -> Tensor:
    """Λ of every size and ridge: by learnability, or the number of modes that the spec names."""
    if isinstance(newest.cutoff, int):
        shape = torch.broadcast_shapes(train.shape, ridge.shape)
        return torch.full(shape, newest.cutoff)
    return rg.cutoff(eigenvalues, train, ridge, learnability=newest.cutoff)


def renormalized(eigenvalues: Tensor, ridge: Tensor, kept: Tensor) -> Tensor:
    """T(Λ) of every size and ridge."""
    return ridge + rg.hard_flow(eigenvalues, 0.0)[kept]


def _group(store: Store, planned: Plan, theory: str) -> Group:
    coordinates, grid = regression_grid(planned)
    variables = curve_variables(regressed(planned.spec), theory)
    sizes = regression_sizes(planned)
    separate = ("cell", "repeat")
    name = group_name(theory)
    group = create_group(store, name, variables, sizes, coordinates, grid, separate)
    group["beyond_pool"][...] = beyond_pool(regressed(planned.spec))
    return group


def beyond_pool(spec: Regressed) -> np.ndarray:
    """Whether a size is so large a part of the pool that theories of the pool miss, (train,)."""
    return np.asarray(spec.regression.train) > BEYOND_POOL * spec.regression.pool


def curve_variables(spec: Regressed, theory: str) -> dict[str, Variable]:
    """The variables of `theory/<name>`."""
    measured = regression_variables(spec)
    within = Variable(
        ("train",),
        "u1",
        f"whether the training points are more than {BEYOND_POOL:g} of the pool",
        attrs={"flag_values": [0, 1], "flag_meanings": "within_pool beyond_pool"},
    )
    if theory == QUARTIC_THEORY:
        names = ("quartic_error", "quartic_residual")
        variables = {name: replace(measured[name], dims=_QUARTIC) for name in names}
        ridge = Variable(_QUARTIC, "f8", "ridge renormalized by the quartic term")
        return variables | {"quartic_ridge": ridge, "beyond_pool": within}
    dims = _REPEAT if theory in DECIMATED_THEORIES else _CURVE
    variables = {
        "pool_error": Variable(dims, "f8", "mean squared error over the whole pool"),
        "train_error": replace(measured["train_error"], dims=dims),
        "posterior_variance": replace(measured["posterior_variance"], dims=dims),
        "learnability": replace(measured["learnability"], dims=(*dims, "mode")),
    }
    if theory in SPECTRAL_THEORIES:
        variables["effective_ridge"] = Variable(
            _CURVE, "f8", "effective ridge, the temperature renormalized"
        )
    if theory in CUTOFF_THEORIES:
        variables |= decimation_variables()
    if theory in DECIMATED_THEORIES:
        variables |= DISTANCES
    return variables | {"beyond_pool": within}


def decimation_variables() -> dict[str, Variable]:
    """The variables of a theory that integrates modes out."""
    return {
        "cutoff": Variable(_CURVE, "i4", "kernel modes kept"),
        "renormalized_ridge": Variable(_CURVE, "f8", "ridge plus the prior variance removed"),
    }
