"""Observables of an ensemble at one dataset, each with what it would be without each chain.

Chains are the independent units: they share the data and nothing else. What is quadratic in the
mean output takes products of different chains only, so that the noise of the mean does not add to
it: the error of the mean output is the mean over pairs of chains of ⟨(f₁ - y)(f₂ - y)⟩.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipelines.analysis.chains import Arrays, Chains
from pipelines.analysis.mean_output import OBSERVABLE, noise, quadratic_variance
from storage.arrays.coordinates import overlap_edges
from storage.arrays.schema import PARTS
from storage.campaign.observables import AT_POINTS, RECORDS, Observable, Observed, observed

# Of a layer's kernel over networks: at the first probe point, and of the first two.
CORRELATORS = ("kernel_mean", "kernel_variance", "correlation")
FEWEST_FOR_PAIRS = 3  # chains, of which any may be left out of what takes products of two

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """Estimates of all observables, and what each chain alone would make of them.

    A unit is Tukey's pseudo-value, C θ - (C - 1) θ_(-c) of C chains: for a mean it is the mean of
    the chain, and units can be averaged, and tested, as if they were independent numbers.
    """

    estimate: Array  # (observable,)
    units: Array  # (chain, observable): nan where there are too few chains
    quadratic: Array  # (observable,): variance of what is quadratic in the noise of the chains
    errors: Array  # (chain, test · target): mean output minus the label

    @property
    def error(self) -> Array:
        """Standard error, from independent chains, (observable,).

        The jackknife counts the quadratic part twice, and its own error can hide all of it.
        """
        jackknife = self.units.var(0, ddof=1) / len(self.units)
        return np.sqrt(np.maximum(jackknife - self.quadratic, self.quadratic))


def observables(
    group: Arrays,
    components: Sequence[str],
    directions: Sequence[str],
    own: Sequence[Observable] = (),
) -> list[Observed]:
    """What is measured, in the order of `measure`; `own` are the observables of the user."""
    found = [*_in_layers(group)]
    layers = range(1, (group["moment"].shape[4] if "moment" in group else 0) + 1)
    labels = {
        "component": components,
        "part": PARTS,
        "layer": [str(layer) for layer in layers],
        "direction": directions,
    }
    for record in (*_measured(group), *own):
        found += observed(record, labels)
    return found


def _in_layers(group: Arrays) -> Iterator[Observed]:
    """What is measured at one or two points: the last layers come first."""
    kinds = [record for record in AT_POINTS if _speaks(group, record)]
    for place in reversed(range(group["correlator"].shape[4] if kinds else 0)):
        for record in kinds:
            yield Observed(record, (str(place + 1),), (place,))


def _speaks(group: Arrays, record: Observable) -> bool:
    return all(name in group for name in (record.variable, record.beside) if name)


def _measured(group: Arrays) -> list[Observable]:
    """Those that are not layer by layer."""
    return [record for record in RECORDS if record not in AT_POINTS and _speaks(group, record)]


@dataclass(frozen=True)
class Sample:
    """The sound chains of a dataset, with what several observables need."""

    chains: Chains

    @cached_property
    def label(self) -> Array:
        """Noise-free targets, (test · target,)."""
        chains = self.chains
        return np.asarray(chains.group["label"][chains.cell, chains.dataset]).reshape(-1)

    @cached_property
    def mean(self) -> Array:
        """Mean output of each chain, (chain, test · target)."""
        return self._of_outputs("output_mean")

    @cached_property
    def square(self) -> Array:
        """Mean squared output of each chain, (chain,)."""
        return self._of_outputs("output_square").mean(axis=1)

    def _of_outputs(self, name: str) -> Array:
        values = self.chains.accumulated(name).mean(axis=1)
        return values.reshape(len(values), -1)


def _mse_mean(sample: Sample) -> Array:
    error = sample.mean - sample.label
    return pairs_without_each(error @ error.T / len(sample.label))[:, None]


def _predictive_variance(sample: Sample) -> Array:
    mean = sample.mean
    squares = pairs_without_each(mean @ mean.T / len(sample.label))[:, None]
    return without_each(sample.square[:, None]) - squares


def _of_draws(name: str) -> Callable[[Sample], Array]:
    """The mean over draws of what is stored for each."""
    return lambda sample: without_each(sample.chains.draws(name).mean(axis=1, keepdims=True))


def _learnability(sample: Sample) -> Array:
    return without_each(sample.chains.draws("learnability").mean(axis=1))


def _hidden_variance(sample: Sample) -> Array:
    return without_each(sample.chains.accumulated("hidden_variance").mean(axis=1))


def _overlap_kurtosis(sample: Sample) -> Array:
    counts = sample.chains.accumulated("overlap_histogram").sum(axis=(1, 3))
    return kurtosis(counts_without_each(counts))[:, None]


def _pre_activation_variance(sample: Sample) -> Array:
    moments = sample.chains.accumulated("moment").sum(axis=1)  # (chain, layer, direction, order)
    return variances_without_each(moments).reshape(len(moments) + 1, -1)


# By the kinds of their records: with all chains, then without each, (1 + chain, observable).
COLUMNS: dict[str, Callable[[Sample], Array]] = {
    "learnability": _learnability,
    "mse_mean": _mse_mean,
    "predictive_variance": _predictive_variance,
    "weight_norm": _of_draws("weight_norm"),
    "accuracy": _of_draws("accuracy"),
    "hidden_variance": _hidden_variance,
    "overlap_kurtosis": _overlap_kurtosis,
    "pre_activation_variance": _pre_activation_variance,
}


def measure(chains: Chains, own: Sequence[Observable] = ()) -> Measured:
    """All observables of a dataset, from its sound chains, in the order of `observables`."""
    sample = Sample(chains)
    records = [*_measured(chains.group), *own]
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = _at_points(chains)
        for record in records:
            make = COLUMNS.get(record.kind) or _of_draws(record.kind)
            columns.append(make(sample))
        table = np.concatenate(columns, axis=1)
        count = len(sample.mean)
        units = count * table[0] - (count - 1) * table[1:]
    errors = sample.mean - sample.label
    quadratic = np.zeros(table.shape[1])
    of_pairs = [record.kind for record in records].index(OBSERVABLE) + len(columns) - len(records)
    before = sum(column.shape[1] for column in columns[:of_pairs])
    quadratic[before] = quadratic_variance(noise(errors)[1], count)
    return Measured(table[0], units, quadratic, errors)


def _at_points(chains: Chains) -> list[Array]:
    """What correlators say, if they were observed: (1 + chain, observable)."""
    if "correlator" not in chains.group:
        return []
    table = correlators_without_each(chains.draws("correlator"))
    if "moment" in chains.group:  # `point` is the last direction
        moments = chains.accumulated("moment")[..., -1, :].sum(axis=1)
        table = np.concatenate([table, kurtoses_without_each(moments)[..., None]], axis=-1)
    return [table[:, ::-1].reshape(len(table), -1)]


def without_each(values: Array) -> Array:
    """The mean over chains, then the means without each chain; (chain, ...) -> (1 + chain, ...)."""
    total, count = values.sum(0), len(values)
    return np.concatenate([total[None] / count, (total - values) / (count - 1)])


def pairs_without_each(products: Array) -> Array:
    """The mean of products (chain, chain) over different chains, then without each chain."""
    count = len(products)
    off = products - np.diag(products.diagonal())
    total, row = off.sum(), off.sum(0)
    rest = (total - 2 * row) / ((count - 1) * (count - 2))
    return np.concatenate([[total / (count * (count - 1))], rest])


def variances_without_each(moments: Array) -> Array:
    """Variance of z over all chains, then without each: from sums of its powers, along order."""
    total = moments.sum(0)
    sums = np.concatenate([total[None], total - moments])
    mean = sums[..., 1] / sums[..., 0]
    return sums[..., 2] / sums[..., 0] - np.square(mean)


def kurtoses_without_each(moments: Array) -> Array:
    """Excess kurtosis of z over all chains, then without each: from sums of its powers."""
    total = moments.sum(0)
    sums = np.concatenate([total[None], total - moments])
    m1, m2, m3, m4 = np.moveaxis(sums[..., 1:5] / sums[..., :1], -1, 0)
    variance = m2 - m1**2
    return (m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4) / np.square(variance) - 3


def correlators_without_each(values: Array) -> Array:
    """`CORRELATORS` of each layer over all chains, then without each: (1 + chain, layer, name).

    From the kernels at two points, (chain, draw, layer, pair), of pairs 11, 12 and 22. The
    correlation is that of the mean kernel.
    """
    first = without_each(values.mean(1))
    second = without_each(np.square(values[..., 0]).mean(1))
    mean = first[..., 0]
    correlation = first[..., 1] / np.sqrt(mean * first[..., 2])
    return np.stack([mean, second - mean**2, correlation], axis=-1)


def counts_without_each(counts: Array) -> Array:
    """Counts over all chains, then without each: (chain, bin) -> (1 + chain, bin)."""
    total = counts.sum(0)
    return np.concatenate([total[None], total - counts])


def kurtosis(counts: Array) -> Array:
    """Excess kurtosis of overlaps w·w* with so many counts, or probability, in each bin.

    (..., bin) -> (...,). Bins count as points at their middle, here and for what is predicted.
    """
    edges = overlap_edges()
    x = (edges[1:] + edges[:-1]) / 2
    with np.errstate(invalid="ignore"):  # nothing is counted where there are several layers
        share = counts / counts.sum(-1, keepdims=True)
    centred = x - (share @ x)[..., None]
    second, fourth = ((share * centred**k).sum(-1) for k in (2, 4))
    return fourth / np.square(second) - 3
