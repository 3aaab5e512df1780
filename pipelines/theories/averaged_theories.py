"""Theories of single-index problems, averaged over data: all cells of a campaign at once.

Per cell: learnability (component,), predictive_variance, mse_mean and mse_sample, the mean over
datasets of what is measured in each; hidden_variance (part,), weight_norm and, where neurons have a
law of their own, overlap_density (overlap bin, readout bin); of the theory closure_temperature, T
with the posterior variance at finite n, eigenvalue_ratio and residual.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from pipelines.theories.attempts import attempt
from pipelines.theories.theory_groups import Reasons, reasons_of
from storage.arrays.coordinates import overlap_edges, physical_temperature, readout_edges
from storage.arrays.schema import OVERLAP_BINS, PARTS, READOUT_BINS, Variable
from storage.campaign.resolved import Sampled
from storage.campaign.synthetic_spec import AbsIndex, Patches, SingleIndex
from storage.planning.plan import EnsembleCell
from theory.single_index.droplets import droplets
from theory.single_index.gaussian_index import GaussianFeatures, gaussian_features
from theory.single_index.index_histogram import joint_histogram
from theory.single_index.order_parameter import OrderParameter, order_parameter
from theory.single_index.problems import (
    Problem,
    Ridge,
    Target,
    abs_target,
    coupled_orders,
    hermite_target,
    learnability,
    problem,
)

Prediction = dict[str, Tensor]  # the cell comes first

_CELL = ("cell",)
VARIABLES = {
    "learnability": Variable(
        ("cell", "component"), "f8", "coefficient of the mean output on each part of the target"
    ),
    "predictive_variance": Variable(_CELL, "f8", "variance of the output"),
    "mse_mean": Variable(_CELL, "f8", "mean squared error of the mean output"),
    "mse_sample": Variable(_CELL, "f8", "mean squared error of one member of the ensemble"),
    "hidden_variance": Variable(
        ("cell", "part"),
        "f8",
        "mean square of a first-layer weight along the teacher, and across it",
        "prior_variance",
    ),
    "weight_norm": Variable(_CELL, "f8", "mean squared norm of the readout weights"),
    "overlap_density": Variable(
        ("cell", "overlap_bin", "readout_bin"),
        "f8",
        "probability of a neuron's overlap and readout weight in the bin",
    ),
    "closure_temperature": Variable(
        _CELL, "f8", "T of the closure, with the posterior variance at finite n"
    ),
    "eigenvalue_ratio": Variable(
        _CELL, "f8", "kernel eigenvalue of w*·x over that of a linear function across w*"
    ),
    "residual": Variable(_CELL, "f8", "what is left of the equations"),
}
OF_THE_LIMIT = ("learnability", "hidden_variance", "residual")  # where neurons are thermodynamic


def variables(theory: str) -> dict[str, Variable]:
    """What a theory speaks of."""
    if theory == "gmfl":
        return {name: VARIABLES[name] for name in OF_THE_LIMIT}
    return dict(VARIABLES)


def evaluate(theory: str, cells: Sequence[EnsembleCell]) -> Prediction:
    """What a theory predicts for every cell; NaN where it does not hold or is not solved."""
    return attempted(theory, cells)[0]


def attempted(theory: str, cells: Sequence[EnsembleCell]) -> tuple[Prediction, Reasons]:
    """The same, and why there is no prediction, (cell,)."""
    named = variables(theory)
    found, reasons = _by_kind(
        theory, cells, named, lambda given, specs: _whole(theory, given, specs)
    )
    solved = found["hidden_variance"][:, 0].isfinite() & found["residual"].isfinite()
    lost = ~solved.numpy()
    reasons[lost & (reasons == "")] = "its equations are not solved to their tolerance"
    return found, reasons


def varied(
    theory: str,
    cells: Sequence[EnsembleCell],
    *,
    temperature: Tensor | None = None,
    chi: float = 1.0,
) -> Prediction:
    """The same with other parameters than the campaign's, but for the densities.

    temperature (cell,) is T of the closure, in place of the effective one; chi multiplies χ.
    """
    solve = _SOLVERS[theory]
    places = {id(cell.spec): place for place, cell in enumerate(cells)}

    def one(given: Problem, specs: Sequence[Sampled]) -> Prediction:
        changed = given._replace(
            temperature=given.temperature / chi, readout_variance=given.readout_variance / chi
        )
        if temperature is None:
            return _summary(changed, specs, solve(changed, "effective"))
        mine = temperature[[places[id(spec)] for spec in specs]]
        return _summary(changed, specs, solve(changed._replace(temperature=mine), "bare"))

    named = {name: variable for name, variable in VARIABLES.items() if name != "overlap_density"}
    return _by_kind(theory, cells, named, one)[0]


def _by_kind(
    theory: str,
    cells: Sequence[EnsembleCell],
    named: Mapping[str, Variable],
    solve: Callable[[Problem, Sequence[Sampled]], Prediction],
) -> tuple[Prediction, Reasons]:
    """Solve all cells that are one vectorized problem together, and alone where that fails.

    NaN, and a reason, for the cells that the theory does not know.
    """
    reasons = reasons_of(theory, cells)
    together: dict[tuple[str, tuple[int, ...]], list[int]] = defaultdict(list)
    for place, cell in enumerate(cells):
        if not reasons[place]:
            together[_kind(cell.spec)].append(place)
    found = _silent(cells, named)

    def of(kind: tuple[str, tuple[int, ...]], places: Sequence[int]) -> Prediction:
        specs = [cells[place].spec for place in places]
        return solve(index_problem(*kind, specs), specs)

    left = list(together.items())
    while left:
        kind, places = left.pop()
        made = attempt(of, kind, places)
        if not isinstance(made, str):
            for name, value in made.items():
                found[name][torch.tensor(places)] = value
        elif len(places) == 1:
            reasons[places] = made
        else:
            left += [(kind, [place]) for place in places]
    return found, reasons


def _silent(cells: Sequence[EnsembleCell], named: Mapping[str, Variable]) -> Prediction:
    """NaN in the shape of everything that is predicted."""
    sizes = {
        "cell": len(cells),
        "component": len(cells[0].spec.data.components),
        "part": len(PARTS),
        "overlap_bin": OVERLAP_BINS,
        "readout_bin": READOUT_BINS,
    }
    return {
        name: torch.full([sizes[dim] for dim in variable.dims], torch.nan, dtype=torch.float64)
        for name, variable in named.items()
    }


def index_problem(activation: str, orders: tuple[int, ...], specs: Sequence[Sampled]) -> Problem:
    """The single-index problems of campaigns that differ in numbers alone, in physical values."""
    networks = [spec.network for spec in specs]

    def row(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64)

    return problem(
        activation,
        _target(orders, specs),
        dimension=row([_dimension(spec) for spec in specs]),
        width=row([network.width for network in networks]),
        weight_variance=row([network.weights[0] for network in networks]),
        readout_variance=row([network.physical_weight_variance[-1] for network in networks]),
        train=row([spec.data.train for spec in specs]),
        temperature=row([physical_temperature(spec) for spec in specs]),
        patches=row([getattr(spec.data, "patches", 1) for spec in specs]),
    )


def _kind(spec: Sampled) -> tuple[str, tuple[int, ...]]:
    """The activation and the modes, which a vectorized problem has in common."""
    if isinstance(spec.data, AbsIndex):
        return spec.network.activation, abs_target(0.0).orders
    given = _coefficients(spec)
    coupled = coupled_orders(spec.network.activation, max(given))
    # An odd network learns nothing of an even part of the target, which is there all the same.
    return spec.network.activation, tuple(sorted({*coupled, *given}))


def _coefficients(spec: Sampled) -> dict[int, float]:
    if isinstance(spec.data, SingleIndex | Patches):
        return spec.data.teacher
    return {1: 1.0}


def _target(orders: tuple[int, ...], specs: Sequence[Sampled]) -> Target:
    if isinstance(specs[0].data, AbsIndex):
        sizes = [spec.data.epsilon for spec in specs if isinstance(spec.data, AbsIndex)]
        return abs_target(torch.tensor(sizes, dtype=torch.float64))
    rows = [_coefficients(spec) for spec in specs]
    columns = {
        order: torch.tensor([row[order] for row in rows], dtype=torch.float64)
        for order in sorted(rows[0])
    }
    return hermite_target(columns, orders)


def _dimension(spec: Sampled) -> int:
    """d, of a patch where there are several."""
    assert spec.data.teacher_length is not None
    return spec.data.teacher_length


# -- the theories ---------------------------------------------------------------------------

_SOLVERS: dict[str, Callable[[Problem, Ridge], OrderParameter | GaussianFeatures]] = {
    "gfl": gaussian_features,
    "order_parameter": order_parameter,
}
ADJUSTABLE = tuple(_SOLVERS)


def _whole(theory: str, cells: Problem, specs: Sequence[Sampled]) -> Prediction:
    if theory == "gmfl":
        return _gmfl(cells)
    found = _SOLVERS[theory](cells, "effective")
    edges = torch.from_numpy(overlap_edges()), torch.from_numpy(readout_edges())
    return _summary(cells, specs, found) | {
        "overlap_density": joint_histogram(cells, found, *edges)
    }


def _gmfl(cells: Problem) -> Prediction:
    """Gaussian mixtures, in the thermodynamic limit of a neuron."""
    found = droplets(cells)
    outside = found.share * (found.position / cells.prior_deviation).square()
    along = found.variance.nan_to_num() + outside.nan_to_num()
    return {
        "learnability": learnability(cells, found.discrepancy),
        "hidden_variance": torch.stack([along, torch.ones_like(along)], 1),
        "residual": found.residual,
    }


def _summary(
    cells: Problem, specs: Sequence[Sampled], found: OrderParameter | GaussianFeatures
) -> Prediction:
    variance = found.temperature - cells.temperature
    noise = torch.tensor([spec.data.label_noise for spec in specs], dtype=torch.float64)
    left_out = cells.power.sum(1) - cells.target.square().sum(1)  # in modes that are not solved for
    missed = found.discrepancy.square().sum(1) + left_out
    error = found.error_factor * (missed + noise) - noise
    along = found.variance
    if isinstance(found, OrderParameter):
        along = along + found.mean.square()
    readout = (cells.patches - 1 + found.readout_variance) / cells.patches
    return {
        "learnability": found.learnability,
        "predictive_variance": variance,
        "mse_mean": error,
        "mse_sample": error + variance,
        "hidden_variance": torch.stack([along, torch.where(along.isnan(), along, 1.0)], 1),
        "weight_norm": readout * cells.readout_variance,
        "closure_temperature": found.temperature,
        "eigenvalue_ratio": found.eigenvalue_ratio,
        "residual": found.residual,
    }
