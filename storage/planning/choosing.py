"""`scheme: auto`: which scheme a cell is sampled with, and why.

What a cell is decides, and nothing that is measured on the way. So `auto` is settled when cells are
planned: a cell has the identity, the noise and the bits of one that names its scheme, wherever and
however often a run goes on. The limits are read off the tables of tests/benchmarks/REGIMES.md, in
effective samples per CPU second.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from storage.campaign import activations
from storage.campaign.resolved import Sampled, sampled
from storage.campaign.sampler_spec import Sampler
from storage.campaign.schemes import AUTO
from storage.campaign.spec import Campaign

Given = TypeVar("Given", bound=Campaign)  # of which no more is known than before

# N over √(n σ_a²/T) from which on neurons are drawn one after another, with few and many inputs.
# Whoever changes a rule raises ADAPTED_NUMERICS: stored cells have the scheme of the rule before.
FEW_INPUTS, MANY_INPUTS = 5.0, 0.7


class Choice(NamedTuple):
    """A scheme, and in words what decided for it."""

    scheme: str
    reason: str


def choice(cell: Sampled) -> Choice:
    """The scheme of a resolved cell whose own is auto.

    - `neurons` for one hidden layer with a kernel in C++ of width N ≥ 5 √(n σ_a²/T), and from
      0.7 √(n σ_a²/T) on where there are at least as many inputs as points. A sweep makes the fewer
      effective samples the larger n σ_a²/(N T), what the labels tell of a neuron beside its prior;
      a step of baoab the fewer the larger the root of its stiffness, √(n σ_a²/T), and the more
      stiff directions are alike.
    - `baoab` everywhere else.

    `collapsed` is behind one of these wherever they were measured at one bias.
    """
    network, sampler = cell.network, cell.sampler
    if network.architecture != "fcn" or network.depth > 1:
        return Choice("baoab", "not one fully connected hidden layer")
    if not activations.record(network.activation).compiled or sampler.precision != "float32":
        return Choice("baoab", "sweeps over its neurons have no kernel in C++")
    points, width = cell.data.train, network.width
    factor = MANY_INPUTS if (cell.data.number_of_inputs or 0) >= points else FEW_INPUTS
    # Chi divides σ_a² and T, and leaves their ratio.
    least = factor * math.sqrt(points * network.weights[-1] / sampler.temperature)
    limit = f"{factor:g} √(n σ_a²/T) = {least:.3g}"
    if width >= least:
        return Choice("neurons", f"N = {width} is at least {limit}")
    return Choice("baoab", f"N = {width} is below {limit}")


def settled(cell: Given) -> Given:
    """The cell with its scheme in the place of auto; as it is where it names one."""
    if cell.sampler is None or cell.sampler.scheme != AUTO:
        return cell
    given = cell.sampler.model_dump(mode="json", exclude={"scheme"}, exclude_defaults=True)
    named = Sampler.model_validate(
        given | {"scheme": choice(sampled(cell)).scheme, "step_size": AUTO}
    )
    return cell.model_copy(update={"sampler": named})


def told(cells: Sequence[Sampled]) -> list[str]:
    """`neurons in 3 of 4 cells: N = 64 is at least ...; and so on`, for each scheme named."""
    choices = [choice(cell) for cell in cells]
    lines = []
    for scheme in dict.fromkeys(found.scheme for found in choices):
        reasons = [found.reason for found in choices if found.scheme == scheme]
        where = f" in {len(reasons)} of {len(cells)} cells" if len(cells) > 1 else ""
        more = "; and so on" if len(set(reasons)) > 1 else ""
        lines.append(f"{scheme}{where}: {reasons[0]}{more}")
    return lines
