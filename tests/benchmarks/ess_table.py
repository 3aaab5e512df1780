"""Effective samples per CPU second as a page of Markdown, with what is needed to read them."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from ess_analysis import RESOLVED, Result, figures, rate, ratio, small
from ess_problem import CHAINS, INPUTS, POINTS, REFERENCE, TEMPERATURES, WIDTH, Known
from table import Row as Named
from table import grid, machine

INTRODUCTION = """Written by `make bench`. {chains} chains sample the posterior of an erf network
of {inputs} inputs and width {width} given {points} points of y = He_1(w\\*·x) + 0.3 He_3(w\\*·x),
at label noise of variance κ = {warm} and the stiff κ = {stiff}, in float32 and on one thread. ESS
is ArviZ's bulk effective sample size of all chains together: of the output f at a probe point, the
median over probes, and of a neuron's w·w\\*, the median over neurons. CPU seconds are those of the
process while it samples; compiling, tuning, warming up and looking at draws are free. Samplers took
turns in {rounds} rounds of {seconds} CPU seconds: ESS are those of all rounds together, speeds and
their ratios are medians over the rounds. All began at states that had learned, and all sample in
coordinates whitened by the prior but the first, which has one step for all weights."""
GRADIENTS = """Samplers of finitewidth, ULA and MALA have the fused gradient and noise of this
project, those of blackjax have JAX's: effective samples per 1000 gradients do not know the
difference."""
BIAS = """λ is the largest eigenvalue of the Hessian of U, the largest of the {chains} starts.
Steps of schemes without Metropolis' correction were halved until the biases of the train error and
of <(w·w\\*)²> were below 1 %, or below two of their errors, over {trial} CPU seconds. Here they
are told from all the rounds, with the error of the last digit in brackets; † marks one that is
neither after all, and ? one that fewer than {resolved} effective samples leave open. The reference
is a long run of HMC: {reference}."""
BOUND = """A ratio is a bound (>=) where the other sampler has fewer than {resolved} effective
samples in all: chains that hardly move have about as many as there are chains, which is too
many."""


@dataclass
class Row:
    """What was measured of one sampler, by temperature."""

    title: str
    exact: bool  # without bias at any step
    version: str = ""
    absence: str = ""
    results: dict[float, Result] = field(default_factory=dict)


def write(rows: Sequence[Row], ours: Row, *, rounds: int, seconds: float, trial: float) -> str:
    """The page."""
    warm, stiff = TEMPERATURES
    named = [Named(row.title, "", version=row.version, absence=row.absence) for row in rows]
    parts = [
        "# Effective samples per CPU second",
        INTRODUCTION.format(
            chains=CHAINS,
            inputs=INPUTS,
            width=WIDTH,
            points=POINTS,
            warm=warm,
            stiff=stiff,
            rounds=rounds,
            seconds=seconds,
        ),
        GRADIENTS,
        BIAS.format(chains=CHAINS, trial=trial, resolved=RESOLVED, reference=reference()),
    ]
    for temperature in TEMPERATURES:
        parts += [f"## κ = {temperature}", value_table(rows, temperature)]
    parts += [
        f"## How many times more than others: {ours.title}",
        BOUND.format(resolved=RESOLVED),
        ratio_table(rows, ours),
        "## The machine",
        f"{machine(named)}\n- load {os.getloadavg()[1]:.0f} on {os.cpu_count()} processors",
    ]
    return "\n\n".join(parts) + "\n"


def reference() -> str:
    """The expectations that biases are told from."""
    told = "; ".join(
        f"at κ = {temperature} " + " and ".join(f"{known(k)} for {name}" for name, k in of.items())
        for temperature, of in REFERENCE.items()
    )
    return told.replace("*", "\\*")


def known(number: Known) -> str:
    """0.1457(2): two figures of the error at most, and as many decimals of the value."""
    decimals = 4
    while round(number.error * 10**decimals) < 1 and decimals < 8:
        decimals += 1
    return f"{number.value:.{decimals}f}({round(number.error * 10**decimals)})"


def value_table(rows: Sequence[Row], temperature: float) -> str:
    head = [
        "",
        "step",
        "f per s",
        "w·w\\* per s",
        "f per 1000 gradients",
        "w·w\\* per 1000 gradients",
        "gradients per s",
        "ESS of f, w·w\\*",
        "bias of train error",
        "bias of <(w·w\\*)²>",
    ]
    return grid(head, [[row.title, *cells(row, temperature)] for row in rows])


def cells(row: Row, temperature: float) -> list[str]:
    """What a row has to say at a temperature."""
    if temperature not in row.results:
        return ["absent", *["-"] * 8]
    found = row.results[temperature]
    thousand = 1000 / found.gradients
    return [
        found.settings,
        figures(rate(found, found.outputs)),
        figures(rate(found, found.weights)),
        figures(thousand * found.outputs),
        figures(thousand * found.weights),
        figures(found.gradients / found.outputs * rate(found, found.outputs)),
        f"{found.outputs:.0f}, {found.weights:.0f}",
        *(percent(bias, row.exact) for bias in found.biases.values()),
    ]


def percent(bias: Known, exact: bool) -> str:
    """+0.3(2) %, and a mark where that is too much of a scheme that has a bias."""
    if math.isinf(bias.error):
        return "?"
    text = f"{100 * bias.value:+.1f}({max(round(1000 * bias.error), 1)}) %"
    return text if exact or small({"": bias}) else f"{text} †"


def ratio_table(rows: Sequence[Row], ours: Row) -> str:
    """Ours over theirs."""

    def cell(row: Row, temperature: float, quantity: str) -> str:
        if temperature not in row.results or temperature not in ours.results:
            return "absent"
        return ratio(ours.results[temperature], row.results[temperature], quantity)

    columns = [(t, quantity) for t in TEMPERATURES for quantity in ("outputs", "weights")]
    names = {"outputs": "f", "weights": "w·w\\*"}
    head = ["", *(f"{names[quantity]}, κ = {t}" for t, quantity in columns)]
    others = [row for row in rows if row is not ours]
    return grid(head, [[row.title, *(cell(row, *column) for column in columns)] for row in others])
