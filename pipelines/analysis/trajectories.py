"""Observables of networks in time at one dataset, as `measured` has those of a posterior.

Chains are pairs of networks, and the independent units. An observable is named by what it is and
when, `loss at 0.5`, at a few of the times, since those between say the same again. The covariance
of outputs between two times is of each of these and the times `observe.lags` before it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipelines.analysis.chains import Arrays, Chains
from pipelines.analysis.mean_output import noise, quadratic_variance
from pipelines.analysis.measured import Measured, pairs_without_each, without_each
from pipelines.analysis.two_times import output_covariance
from storage.arrays.schema import PARTS
from storage.campaign.observables import IN_TIME, Observed, observed

MOST_TIMES = 8  # that are judged

Array = NDArray[np.float64]


def judged(times: Sequence[float] | Array) -> list[int]:
    """Places of the times that are judged: the first, the last and some evenly between."""
    few = np.linspace(0, len(times) - 1, min(MOST_TIMES, len(times)))
    return sorted({int(place) for place in few.round()})


def observables(
    group: Arrays, components: Sequence[str], times: Array, lags: Sequence[int] = ()
) -> list[Observed]:
    """What is measured, in the order of `measure`: time by time, the last first.

    A joint test takes the first, as far as there are units for it.
    """
    labels = {"component": components, "part": PARTS, "lag": [str(lag) for lag in lags]}
    kinds = [e for record in IN_TIME if record.variable in group for e in observed(record, labels)]
    return [
        replace(each, time=f"{times[place]:g}", moment=place)
        for place in judged(times)[::-1]
        for each in kinds
    ]


def measure(chains: Chains, times: Array, lags: Sequence[int] = ()) -> Measured:
    """All observables of a dataset, from its sound pairs; nan at times that are not finished."""
    label = np.asarray(chains.group["label"][chains.cell, chains.dataset]).reshape(-1)
    values = {name: chains.draws(name) for name in SERIES if name in chains.group}
    even, odd = (_points(chains, name) for name in ("output", "output_odd"))
    places, count = judged(times)[::-1], len(chains.chains)
    with np.errstate(divide="ignore", invalid="ignore"):
        known = [
            _at(
                {name: each[:, place] for name, each in values.items()},
                label,
                [output_covariance(even, odd, place, lag) for lag in lags],
            )
            for place in places
            if place < values["loss"].shape[1]
        ]
    unknown = [np.full_like(known[0], np.nan)] * (len(places) - len(known))
    table = np.concatenate([*unknown, *known], axis=1)
    units = count * table[0] - (count - 1) * table[1:-1]
    return Measured(table[0], units, table[-1], np.zeros((count, 0)))


SERIES = ("loss", "learnability", "output_mean", "output_square", "weight_norm", "hidden_variance")


def _points(chains: Chains, name: str) -> Array:
    """Outputs at the probe points, (chain, time, point)."""
    values = chains.draws(name)
    return values.reshape(*values.shape[:2], -1)


def _at(values: Mapping[str, Array], label: Array, lagged: Sequence[Array]) -> Array:
    """At one time, from values (chain, ...): over all chains, without each, and `quadratic`.

    (1 + chain + 1, kind); the last row is the variance of what is quadratic in the noise. What is
    known of the time and earlier ones, `lagged`, comes last.
    """
    output = values["output_mean"].reshape(len(values["loss"]), -1)
    errors, square = output - label, values["output_square"].reshape(len(output), -1)
    columns = [
        without_each(values["loss"]),
        without_each(values["learnability"]),
        pairs_without_each(errors @ errors.T / len(label)),
        without_each(square.mean(1)) - pairs_without_each(output @ output.T / len(label)),
        without_each(values["weight_norm"]),
    ]
    if "hidden_variance" in values:
        columns.append(without_each(values["hidden_variance"]))
    columns += lagged
    table = np.concatenate([each.reshape(len(output) + 1, -1) for each in columns], axis=1)
    quadratic = np.zeros((1, table.shape[1]))
    error = 1 + values["learnability"].shape[1]  # the place of mse_mean
    quadratic[0, error] = quadratic_variance(noise(errors)[1], len(output))
    return np.concatenate([table, quadratic])
