"""Whether chains of one dataset sample one distribution: the gate before every comparison.

Rank-normalized split R-hat (of the draws and of their folded distance to the median), bulk and
tail effective sample size (ESS): Vehtari et al. (2021, arXiv:1903.08008). They are taken within one
dataset, on the loss, the squared norm of the readout, every learnability, the outputs at up to 32
probe points and whatever scalars the campaign measures besides.

The gate: every R-hat below 1.05, and bulk and tail ESS of at least 10 for each chain, which is the
rule of Gelman et al. (Bayesian Data Analysis, third edition, section 11.5). The strict rule of
Vehtari et al., R-hat below 1.01 and ESS above 400 with four chains, is for published posterior
summaries and needs about ten times as many draws. Errors here come from independent chains, not
from the ESS, so that slow chains widen an error bar and do not falsify it; the gate has to exclude
chains that have not yet reached the same distribution. Schemes that target no known law never pass;
draws of `scheme: prior`, which are independent, always do, and so do networks in time, which are
compared with theories in time. All numbers are stored, for who wants
the strict rule.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.analysis import mixing, step_check
from pipelines.analysis.chains import Arrays, Chains, finished_fraction, sound_chains
from pipelines.progress import doing
from storage.arrays.schema import Variable
from storage.campaign.spec import is_trajectory
from storage.planning.plan import EnsembleCell, Plan
from storage.store.hierarchy import Group
from storage.store.results import ensemble_grid, labels, remove_groups, stored_plan, write_group
from storage.store.store import Store

LARGEST_R_HAT = 1.05
SMALLEST_ESS = 10  # for each chain
PROBES = 32  # outputs that are looked at

Array = NDArray[np.float64]

_QUANTITY = ("cell", "dataset", "quantity")
_DATASET = ("cell", "dataset")
VARIABLES = {
    "rhat": Variable(_QUANTITY, "f8", "rank-normalized split R-hat"),
    "ess_bulk": Variable(_QUANTITY, "f8", "bulk effective sample size of all chains together"),
    "ess_tail": Variable(_QUANTITY, "f8", "tail effective sample size of all chains together"),
    "mcse": Variable(_QUANTITY, "f8", "Monte Carlo standard error of the mean"),
    "chains": Variable(_DATASET, "i4", "sound chains with finished draws"),
    "diverged": Variable(_DATASET, "i4", "chains that diverged, and are left out"),
    "converged": Variable(
        _DATASET,
        "u1",
        "whether the chains sample one distribution",
        attrs={
            "flag_values": [0, 1],
            "flag_meanings": "not_converged converged",
            "largest_rhat": LARGEST_R_HAT,
            "smallest_ess_per_chain": SMALLEST_ESS,
        },
    ),
    "finished_fraction": Variable(("cell",), "f8", "shards finished of those asked for"),
}


@dataclass(frozen=True)
class Diagnostics:
    """R-hat, effective sample sizes and error of the mean of each quantity, (quantity,)."""

    rhat: Array
    ess_bulk: Array
    ess_tail: Array
    mcse: Array
    varies: NDArray[np.bool_]  # whether it takes more than one value

    def passes(self, chains: int) -> bool:
        """The gate, over the quantities that vary; one that never does has nothing to reach."""
        if not self.varies.any():
            return False
        ess = np.minimum(self.ess_bulk, self.ess_tail)
        good = (self.rhat < LARGEST_R_HAT) & (ess >= SMALLEST_ESS * chains)
        return bool(good[self.varies].all())


def assess(store: Store) -> None:
    """Write the group `progress`: what is finished, what has diverged and what has converged."""
    planned = stored_plan(store)
    remove_groups(store, "progress")
    if not planned.cells:
        return
    group = store.root.group("ensemble")
    assessed = assessed_variables(group)
    coordinates, grid = ensemble_grid(planned)
    names = quantities(assessed, coordinates["component"].values.tolist())
    coordinates["quantity"] = labels("quantity", names, "scalar whose convergence is assessed")
    values = _values(group, planned, assessed, len(names))
    checked = (
        []
        if is_trajectory(planned.spec)
        else step_check.names(group, coordinates["component"].values.tolist())
    )
    coordinates["observable"] = labels("observable", checked, "what the step size may bias")
    values |= step_check.biases(store.root, planned, checked)
    write_group(store, "progress", VARIABLES | step_check.VARIABLES, values, coordinates, grid)
    store.publish()


def has_law(cell: EnsembleCell) -> bool:
    """Whether the scheme targets a law that theories can be held against."""
    return cell.spec.sampler.record.law != "none"


def _values(
    group: Arrays, planned: Plan, assessed: Mapping[str, int | None], count: int
) -> dict[str, np.ndarray]:
    shape = (len(planned.cells), group["finished"].shape[1])
    values: dict[str, np.ndarray] = {
        name: np.zeros(shape, variable.dtype)
        if variable.dims == _DATASET
        else np.full((*shape, count), np.nan)
        for name, variable in VARIABLES.items()
    }
    values["finished_fraction"] = finished_fraction(group, planned)
    for cell, dataset in np.ndindex(shape):
        place = (cell, dataset)
        doing.tell("dataset", cell * shape[1] + dataset, shape[0] * shape[1])
        chains = sound_chains(group, planned, cell, dataset)
        values["diverged"][place] = chains.diverged
        values["chains"][place] = len(chains.chains)
        if not chains.enough:
            continue
        if is_trajectory(planned.spec):
            values["converged"][place] = True
            continue
        found = diagnostics(scalars(chains, assessed))
        for name in ("rhat", "ess_bulk", "ess_tail", "mcse"):
            values[name][place] = getattr(found, name)
        values["converged"][place] = _converged(planned.cells[cell], found, len(chains.chains))
    return values


def _converged(cell: EnsembleCell, found: Diagnostics, chains: int) -> bool:
    """Whether the gate is passed; draws of the prior are independent, and have nothing to reach."""
    if cell.spec.sampler.record.law == "prior":
        return True
    return has_law(cell) and found.passes(chains)


def assessed_variables(group: Group) -> dict[str, int | None]:
    """Variables with a number for each draw (None), or with a row of them (how many are taken)."""
    found: dict[str, int | None] = {}
    for name, array in sorted(group.arrays()):
        dims = array.dims
        if "draw" in dims[1:]:
            found[name] = min(math.prod(array.shape[4:]), PROBES) if len(dims) > 4 else None
    return found


def quantities(assessed: Mapping[str, int | None], components: Sequence[str]) -> list[str]:
    """Names of the scalars that are assessed, in the order of `scalars`."""
    names: list[str] = []
    for name, length in assessed.items():
        parts = components if name == "learnability" else range(length or 0)
        names += [name] if length is None else [f"{name} {part}" for part in parts]
    return names


def scalars(chains: Chains, assessed: Mapping[str, int | None]) -> Array:
    """Every assessed scalar, (chain, draw, quantity)."""
    return np.concatenate(
        [
            chains.draws(name)[..., None] if length is None else chains.draws(name, length)
            for name, length in assessed.items()
        ],
        axis=-1,
    )


def diagnostics(values: Array) -> Diagnostics:
    """R-hat, ESS and MCSE of values (chain, draw, quantity); NaN for one that is not known."""
    known: NDArray[np.bool_] = np.asarray(np.isfinite(values).all((0, 1)))
    found = {name: np.full(len(known), np.nan) for name in _MEASURES}
    varies = np.zeros(len(known), dtype=bool)
    if known.any():
        varies[known] = np.ptp(values[..., known], axis=(0, 1)) > 0
        for name, measure in _MEASURES.items():
            found[name][known] = measure(values[..., known])
    return Diagnostics(**found, varies=varies)


_MEASURES = {
    "rhat": mixing.rhat,
    "ess_bulk": mixing.ess_bulk,
    "ess_tail": mixing.ess_tail,
    "mcse": mixing.mcse,
}
