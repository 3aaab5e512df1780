"""How networks are sampled: the `sampler` and `ensemble` sections of a campaign."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, PositiveFloat, Tag, model_validator
from pydantic_core import PydanticCustomError

from storage.campaign.frozen import LARGEST_COUNT, Count, Frozen, Many, refusal
from storage.campaign.schemes import AUTO, BY_NAME, RECORDS, Scheme, names
from storage.campaign.times_spec import Times

if TYPE_CHECKING:  # that one text is all that a type checker needs to know
    SchemeName = str
else:
    SchemeName = Literal[names()]

Precision = Literal["float32", "float64"]
Seed = Annotated[int, Field(ge=0, lt=2**63)]

OPTIONAL = ("friction",)  # settings that have a value where none is given
FRICTION = 0.5  # within a quarter of the best for stiff and for soft problems, as measured
LARGEST_ANGLE = math.pi / 2  # of a turn, which leaves nothing of what is turned
SHORTEST_ADAPTATION = 20  # steps of warm-up that step_size: auto needs


def _number_word_or_list(value: object) -> str:
    if isinstance(value, list | tuple):
        return "@layers"
    return "@word" if isinstance(value, str) else "@number"


def _auto(value: object) -> object:
    if value == AUTO:
        return value
    raise refusal(value, "wanted a number, or auto")


# One-number steps are for all layers; "auto" is found in the warm-up; a list has one per layer.
StepSize = Annotated[
    Annotated[PositiveFloat, Tag("@number")]
    | Annotated[Literal["auto"], BeforeValidator(_auto), Tag("@word")]
    | Annotated[Annotated[Many[PositiveFloat], Field(min_length=2)], Tag("@layers")],
    Discriminator(_number_word_or_list),
]


class Anneal(Frozen):
    """The warm-up's temperature, before the division by chi: ln T runs linearly to the target's."""

    temperature: PositiveFloat
    """Temperature of the first step: above the target's, or below it [y²]"""
    steps: Count
    """Steps until the target's temperature is reached; the rest of the warm-up is there [steps]"""


class Sampler(Frozen):
    """Langevin dynamics towards exp(-L/T) times the prior, in coordinates whitened by the prior."""

    scheme: SchemeName
    """What moves the weights; `auto` names neurons or baoab for each cell"""
    temperature: PositiveFloat
    """Temperature: variance of the targets' noise, before the division by chi [y²]"""
    step_size: StepSize | None = None
    """Step ε; `auto` finds it in the warm-up, ula takes a list with one for each layer, and for
    neurons it is the angle of a turn, at most π/2 [relaxation time of the prior, or radian]"""
    friction: PositiveFloat | None = None
    """Friction γ of the schemes that have one; without it 0.5 [1/relaxation time of the prior]"""
    moves: Count | None = None
    """gibbs: steps of the hidden weights for each readout drawn [steps]"""
    batch: Count | None = None
    """sgld, sgd: training points in each estimate of the gradient [points]"""
    ladder: Many[PositiveFloat] = ()
    """exchange: temperatures of the replicas beside the target's [y²]"""
    dynamics: Literal["langevin", "gradient_flow"] | None = None
    """trajectory: Langevin dynamics with weight decay, or gradient flow without decay and noise"""
    times: Times | None = None
    """trajectory: when networks are looked at, once for each draw"""
    anneal: Anneal | None = None
    """How the temperature of the warm-up runs, with ensemble.start anneal"""
    warmup: Annotated[int, Field(ge=0, le=LARGEST_COUNT)]
    """First steps of each chain, which are thrown away [steps]"""
    draws: Count
    """Draws kept of each chain, a multiple of segment; more go on in the same store [draws]"""
    thin: Count = 1
    """Steps from one kept draw to the next [steps]"""
    segment: Count
    """Draws between checkpoints [draws]"""
    precision: Precision = "float32"
    """Floating-point numbers in which chains are computed"""
    step_check: bool = True
    """Run one more block of each cell at half the step, where steps have a bias"""

    @model_validator(mode="after")
    def _consistent(self) -> "Sampler":
        for problem in _problems(self):
            raise PydanticCustomError("sampler", "{problem}", {"problem": problem})
        return self

    @property
    def record(self) -> Scheme:
        """What is known of the scheme."""
        return BY_NAME[self.scheme]

    def moments(self, count: int) -> list[float]:
        """The first times at which a trajectory is looked at, in relaxation times of the prior.

        So many of them: a store may have more than this spec asks for.
        """
        assert self.times is not None
        assert isinstance(self.step_size, float)
        return self.times.moments(self.step_size, count)

    def pairs(self, count: int) -> list[int]:
        """Pairs of steps of a trajectory up to each of them."""
        assert self.times is not None
        assert isinstance(self.step_size, float)
        return self.times.pairs(self.step_size, count)

    @property
    def bias_order(self) -> int:
        """p of a bias of order ε^p; 0 of a scheme without bias, or without a law."""
        known = self.step_size is not None or self.scheme == AUTO
        return self.record.bias_order if known else 0

    @property
    def damping(self) -> float | None:
        """The friction of a scheme with momenta, given or not; None of one without."""
        if "friction" not in self.record.settings or self.step_size is None:
            return None
        return FRICTION if self.friction is None else self.friction


def _problems(sampler: Sampler) -> Iterator[str]:
    scheme, record = sampler.scheme, sampler.record
    own = [key for key in Sampler.model_fields if any(key in each.settings for each in RECORDS)]
    given = [key for key in own if getattr(sampler, key) not in (None, ())]
    for key in own:
        if key in given and key not in record.settings:
            owners = [other.name for other in RECORDS if key in other.settings]
            yield f"{key} is for {', '.join(owners)}; scheme {scheme} has none: leave it out"
        missing = key in record.settings and key not in given and key not in OPTIONAL
        if missing and (given or not record.draws_linear):
            yield f"{key} is missing; scheme {scheme} needs it"
    step = sampler.step_size
    if isinstance(step, tuple) and not record.by_layer:
        yield f"step_size is a list; scheme {scheme} has one step for all layers"
    if step == AUTO and not record.adapts:
        yield f"step_size is auto; scheme {scheme} needs a number"
    if AUTO in (step, scheme) and sampler.warmup < SHORTEST_ADAPTATION:
        what = "step_size" if step == AUTO else "scheme"
        yield f"warmup is {sampler.warmup}; {what} auto needs {SHORTEST_ADAPTATION} steps or more"
    if record.turns and isinstance(step, float) and step > LARGEST_ANGLE:
        yield (
            f"step_size is {step:g}; scheme {scheme} turns by an angle of at most 1.5708 (pi/2); "
            "give auto"
        )
    if sampler.anneal is not None and sampler.anneal.steps > sampler.warmup:
        yield (
            f"anneal takes {sampler.anneal.steps} steps of a warmup of {sampler.warmup}; raise "
            "warmup"
        )
    if len({sampler.temperature, *sampler.ladder}) <= len(sampler.ladder):
        yield "ladder names a temperature twice; the target's is in it already"
    if sampler.draws % sampler.segment:
        yield (
            f"draws is {sampler.draws}, not a multiple of segment {sampler.segment}; choose a "
            "segment that divides draws"
        )
    if record.law == "in time":
        yield from _trajectory_problems(sampler)


def _trajectory_problems(sampler: Sampler) -> Iterator[str]:
    for key, wanted in (("warmup", 0), ("thin", 1)):
        if (found := getattr(sampler, key)) != wanted:
            yield f"{key} is {found}; scheme trajectory is observed from its start: wanted {wanted}"
    if sampler.times is not None and isinstance(sampler.step_size, float):
        problem = sampler.times.problem(sampler.step_size, sampler.draws)
        if problem is not None:
            yield f"times: {problem}"


class Ensemble(Frozen):
    """How many independent datasets and chains, and how chains are packed into blocks."""

    datasets: Count
    """Independent draws of the data; more go on in the same store [datasets]"""
    chains: Annotated[int, Field(ge=2)]
    """Chains of each dataset, a multiple of block; more go on in the same store [chains]"""
    block: Count
    """Chains of one dataset that run side by side [chains]"""
    start: Literal["prior", "teacher", "both", "anneal"] = "prior"
    """Where chains begin: in the prior, along the target's direction, every second chain so,
    or cooled by sampler.anneal"""
    seed: Seed = 1
    """Whole number from which all noise of data and chains is made"""

    @model_validator(mode="after")
    def _blocks_fit(self) -> "Ensemble":
        if self.chains % self.block:
            raise PydanticCustomError(
                "block",
                "chains is {chains}, not a multiple of block {block}; choose a block that "
                "divides chains",
                {"chains": self.chains, "block": self.block},
            )
        return self
