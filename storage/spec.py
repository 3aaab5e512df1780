"""What a campaign is: network, data, sampler, ensemble, regression, sweep, what is observed."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from storage.data_spec import PLUGIN, DataSpec, PluginName
from storage.frozen import MOST, Count, Frozen, Many, refusal, text_like
from storage.messages import nearest, word

# Raised by hand when a change to the code alters the numbers that a campaign stores.
NUMERICS = 1

ACTIVATIONS = ("linear", "erf", "relu", "tanh", "gelu", "sin", "quadratic")
THEORIES = ("nngp", "kernel_scaling", "effective_ridge")
PROBES = 512  # a stored kernel has at most this many points

NAME = re.compile("[a-z][a-z0-9-]{0,62}")
Name = Annotated[
    str, *text_like(NAME, "at most 63 lower-case letters, digits and -, a letter first")
]
Precision = Literal["float32", "float64"]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


def _whole_number(value: Any) -> int:
    """Literals compare by value, and 1 == 1.0 == True."""
    if type(value) is int:
        return value
    raise refusal(value, "wanted a whole number")


def _known_or_plugin(known: tuple[str, ...], example: str) -> Any:
    """A name of the list, or `module:attribute` of the user's own."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and (value in known or PLUGIN.fullmatch(value)):
            return value
        raise refusal(value, nearest(str(value), [*known, example]))

    schema = {
        "anyOf": [{"enum": list(known)}, {"type": "string", "pattern": f"^{PLUGIN.pattern}$"}]
    }
    return BeforeValidator(check, json_schema_input_type=Any), WithJsonSchema(schema)


Activation = Annotated[str, *_known_or_plugin(ACTIVATIONS, "my.module:phi")]
Architecture = Annotated[str, *_known_or_plugin(("fcn",), "my.module:Net")]
Theory = Annotated[str, *_known_or_plugin(THEORIES, "my.module:predict")]


class Kernel(Frozen):
    """What fixes the infinite-width prior of a network, its NNGP kernel."""

    depth: Count = 1  # hidden layers
    activation: Activation
    weight_variance: Many[PositiveFloat]  # σ² of each layer; the last is the readout's
    bias_variance: NonNegativeFloat = 0.0
    scaling: Literal["standard", "mean_field"] = "standard"
    chi: PositiveFloat = 1.0  # mean field: divides the readout's variance and the temperature

    @model_validator(mode="after")
    def _consistent(self) -> "Kernel":
        if len(self.weight_variance) != self.depth + 1:
            raise PydanticCustomError(
                "weight_variance",
                "weight_variance has {found} numbers, wanted {wanted}: one per hidden layer "
                "and one for the readout",
                {"found": len(self.weight_variance), "wanted": self.depth + 1},
            )
        if self.scaling == "standard" and self.chi != 1:
            raise PydanticCustomError(
                "chi",
                "chi is {found} with scaling standard; set scaling: mean_field, or leave chi out",
                {"found": self.chi},
            )
        return self

    @property
    def physical_weight_variance(self) -> Many[float]:
        """σ² of each layer, the readout's divided by chi."""
        return (*self.weight_variance[:-1], self.weight_variance[-1] / self.chi)


class Network(Kernel):
    """f(x) = Σ_i a_i φ(h_i), W ~ N(0, σ²/fan_in): a fully connected network, or the user's own."""

    architecture: Architecture = "fcn"
    width: Count


class Sampler(Frozen):
    """Langevin dynamics towards exp(-L/T) times the prior, in coordinates whitened by the prior."""

    scheme: Literal["baoab", "ula", "prior"]
    temperature: PositiveFloat  # before the division by chi
    step_size: PositiveFloat | None = None  # ε, in units of the prior's relaxation time
    friction: PositiveFloat | None = None  # baoab only, per unit of time
    warmup: Annotated[int, Field(ge=0, le=MOST)]  # steps thrown away
    draws: Count  # kept per chain
    thin: Count = 1  # steps from one kept draw to the next
    segment: Count  # draws between checkpoints
    precision: Precision = "float32"

    @model_validator(mode="after")
    def _consistent(self) -> "Sampler":
        if self.scheme == "prior" and (self.step_size, self.friction) != (None, None):
            raise PydanticCustomError(
                "step_size", "scheme prior draws independently: leave step_size and friction out"
            )
        if self.scheme != "prior" and self.step_size is None:
            raise PydanticCustomError("step_size", "step_size is missing; wanted a number above 0")
        if (self.scheme == "baoab") != (self.friction is not None):
            verb = "is missing" if self.scheme == "baoab" else "belongs to baoab alone"
            raise PydanticCustomError("friction", "friction {verb}", {"verb": verb})
        if self.draws % self.segment:
            raise PydanticCustomError(
                "segment",
                "draws is {draws}, not a multiple of segment {segment}; choose a segment that "
                "divides draws",
                {"draws": self.draws, "segment": self.segment},
            )
        return self


class Ensemble(Frozen):
    """How many independent datasets and chains, and how chains are packed into blocks."""

    datasets: Count
    chains: Annotated[int, Field(ge=2)]  # per dataset
    block: Count  # chains of one dataset that run side by side
    start: Literal["prior"] = "prior"
    seed: Seed = 1

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


class Regression(Frozen):
    """Gaussian-process regression over nested training sets drawn from a pool."""

    kernel: Kernel | None = None  # by default the NNGP of the network, physical
    train: Annotated[Many[Count], Field(min_length=1)]
    ridges: Annotated[Many[PositiveFloat], Field(min_length=1)]  # physical temperatures
    repeats: Count
    pool: Count  # points
    sampling: Literal["with_replacement", "without"]
    evaluate: Annotated[Many[Literal["pool", "heldout"]], Field(min_length=1)]
    precision: Precision = "float64"
    seed: Seed = 1

    @model_validator(mode="after")
    def _consistent(self) -> "Regression":
        for key in ("train", "ridges", "evaluate"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise PydanticCustomError(key, f"{key} names a value twice")
        if self.sampling == "without" and max(self.train) > self.pool:
            raise PydanticCustomError(
                "train",
                "train asks for {train} points of a pool of {pool}; draw with_replacement or fewer",
                {"train": max(self.train), "pool": self.pool},
            )
        return self


class Observe(Frozen):
    """What an ensemble measures beside outputs, losses and learnabilities."""

    histograms: bool = True  # of pre-activations along directions
    kernels: bool = True  # of each layer, on the probe points
    points: Annotated[int, Field(ge=1, le=PROBES)] = 256  # test points with all their draws stored
    measure: Many[PluginName] = ()  # observables of the user's own


class Campaign(Frozen):
    """A campaign: what is simulated, on what, and which theories are held against it."""

    version: Annotated[Literal[1], BeforeValidator(_whole_number)]
    name: Name
    title: str = ""
    data: DataSpec
    network: Network | None = None
    sampler: Sampler | None = None
    ensemble: Ensemble | None = None
    regression: Regression | None = None
    sweep: dict[str, dict[str, Annotated[list[Any], Field(min_length=1)]]] = Field(default={})
    observe: Observe = Observe()
    theories: Many[Theory] = ()

    @model_validator(mode="after")
    def _consistent(self) -> "Campaign":
        for problem in _problems(self):
            raise PydanticCustomError("campaign", "{problem}", {"problem": problem})
        return self


def _problems(spec: Campaign) -> Iterator[str]:
    """What single sections cannot see: what one needs of another."""
    if spec.ensemble is None and spec.regression is None:
        yield "nothing to do: give an ensemble, a regression, or both"
    if spec.ensemble is not None:
        for key in ("network", "sampler"):
            if getattr(spec, key) is None:
                yield f"ensemble needs a section {key}; none was found"
    elif spec.sampler is not None:
        yield "sampler is given without an ensemble; add ensemble, or leave sampler out"
    yield from _regression_problems(spec)
    yield from _plugin_problems(spec)
    yield from _theory_problems(spec)
    if len(set(spec.theories)) < len(spec.theories):
        yield "theories names a theory twice"


def _regression_problems(spec: Campaign) -> Iterator[str]:
    if spec.regression is None:
        return
    kernel = spec.regression.kernel or spec.network
    if kernel is None:
        yield "regression needs a kernel: give regression.kernel, or a network"
    elif getattr(kernel, "architecture", "fcn") != "fcn" or kernel.activation not in ACTIVATIONS:
        yield "regression: no NNGP kernel is known for this network; give regression.kernel"


def _plugin_problems(spec: Campaign) -> Iterator[str]:
    if spec.network is None or spec.network.architecture == "fcn":
        return
    for key in ("histograms", "kernels"):
        if getattr(spec.observe, key):
            yield (
                f"observe.{key} needs an architecture whose layers are known; found "
                f"{word(spec.network.architecture)}; set observe.{key}: false"
            )
    for theory in spec.theories:
        if theory in ("nngp", "kernel_scaling"):
            found = word(spec.network.architecture)
            yield f"theories: {theory} does not know {found}; leave it out"


def _theory_problems(spec: Campaign) -> Iterator[str]:
    for theory in spec.theories:
        if theory in ("nngp", "kernel_scaling") and spec.ensemble is None:
            yield f"theories: {theory} predicts an ensemble; add ensemble, or leave {theory} out"
        if theory == "effective_ridge" and spec.regression is None:
            yield "theories: effective_ridge predicts a regression; add one, or leave it out"
    if "kernel_scaling" in spec.theories and spec.network is not None:
        if spec.network.activation not in ("linear", "erf"):
            yield (
                f"theories: kernel_scaling holds for linear and erf; found activation "
                f"{word(spec.network.activation)}; leave it out"
            )
        if spec.network.depth > 1:
            yield (
                f"theories: kernel_scaling is built for depth 1; found depth {spec.network.depth}"
            )
