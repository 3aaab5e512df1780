"""What a campaign is: network, data, sampler, ensemble, regression, sweep, what is observed."""

import math
import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from storage.campaign.data_spec import (
    DataSpec,
    PluginName,
)
from storage.campaign.frozen import Count, Frozen, Many, refusal, text_like
from storage.campaign.messages import word
from storage.campaign.network_spec import (
    ACTIVATIONS,
    ARCHITECTURES,
    Kernel,
    Network,
    known_or_plugin,
)
from storage.campaign.refine_spec import Refine
from storage.campaign.regression_spec import Cutoff, Quartic
from storage.campaign.sampler_spec import Ensemble, Precision, Sampler, Seed
from storage.campaign.schemes import AUTO
from storage.campaign.schemes import names as schemes
from storage.campaign.spaced import SCHEMA as SPACED
from storage.campaign.theory_spec import THEORIES

# Raised by hand when a change to the code alters the numbers that a campaign stores.
NUMERICS = 2
QUARTIC_NUMERICS = 3  # of campaigns and regressions with a quartic loss
ADAPTED_NUMERICS = 4  # of ensembles with momenta whose step is found, and of scheme auto

PROBES = 512  # a stored kernel has at most this many points
PAIR = (0, 1)  # the probe points of correlators
UNIFORM_INPUTS = 3  # of networks with uniform weights, biases of the first layer among them

# Of one setting of the sweep. What is given by its ends is a list before a campaign is made of it.
Values = Annotated[
    list[object],
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "array", "items": {}, "minItems": 1}, SPACED]}),
]

NAME = re.compile("[a-z][a-z0-9-]{0,62}")
Name = Annotated[
    str, *text_like(NAME, "at most 63 lower-case letters, digits and -, a letter first")
]


def _whole_number(value: object) -> int:
    """Literals compare by value, and 1 == 1.0 == True."""
    if type(value) is int:
        return value
    raise refusal(value, "wanted a whole number: 1")


Theory = Annotated[str, *known_or_plugin(THEORIES, "my.module:predict")]


class Regression(Frozen):
    """Gaussian-process regression over nested training sets drawn from a pool."""

    kernel: Kernel | None = None
    """Network whose NNGP is the kernel; without it that of the campaign's network, physical"""
    train: Annotated[Many[Count], Field(min_length=1)]
    """Sizes of the nested training sets, from small to large [points]"""
    ridges: Annotated[Many[PositiveFloat], Field(min_length=1)]
    """Ridges, which are physical temperatures [y²]"""
    repeats: Count
    """Random orders of the pool; more go on in the same store [repeats]"""
    pool: Count
    """Points from which training sets are drawn [points]"""
    sampling: Literal["with_replacement", "without"]
    """Whether a training set may have a point of the pool twice"""
    evaluate: Annotated[Many[Literal["pool", "heldout"]], Field(min_length=1)]
    """Where errors are measured: on the whole pool, or on the test points"""
    precision: Precision = "float64"
    """Floating-point numbers in which factors are computed"""
    seed: Seed = 1
    """Whole number from which the orders are made"""
    quartic: Quartic | None = None
    """The same with a quartic term in the loss"""

    @model_validator(mode="after")
    def _consistent(self) -> "Regression":
        for key in ("train", "ridges", "evaluate"):
            values = getattr(self, key)
            if len(set(values)) < len(values):
                raise PydanticCustomError(key, f"{key} names a value twice")
        if list(self.train) != sorted(self.train):
            raise PydanticCustomError(
                "train",
                "train is {train}; give sizes from small to large",
                {"train": list(self.train)},
            )
        if self.sampling == "without" and max(self.train) > self.pool:
            raise PydanticCustomError(
                "train",
                "train asks for {train} points of a pool of {pool}; draw with_replacement or fewer",
                {"train": max(self.train), "pool": self.pool},
            )
        return self


class Observe(Frozen):
    """What an ensemble measures beside outputs, losses and learnabilities."""

    histograms: bool = True
    """Store histograms of pre-activations along directions; of images, at the centre"""
    kernels: bool = True
    """Store the kernel of each layer on the probe points"""
    points: Annotated[int, Field(ge=1, le=PROBES)] = 256
    """First test points, the probe points, of which outputs of all draws are stored [points]"""
    overlaps: bool = True
    """Store overlaps of first-layer weights with the target's direction, where it has one"""
    correlators: bool = False
    """Store the kernel of each layer at the first two probe points in every draw, and observe
    pre-activations at the first point alone beside those along directions"""
    lags: Many[Count] = ()
    """Distances between the two times of two-time kernels; of a trajectory, times before [draws]"""
    measure: Many[PluginName] = ()
    """Observables of your own, as `module:name`"""


class Campaign(Frozen):
    """A campaign: what is simulated, on what, and which theories are held against it."""

    version: Annotated[Literal[1], BeforeValidator(_whole_number)]
    """Version of this format"""
    name: Name
    """Name of the campaign, with which its folder begins"""
    title: str = ""
    """One line for people"""
    data: DataSpec
    """Where points and targets come from"""
    network: Network | None = None
    """Which networks are sampled; an ensemble needs it"""
    sampler: Sampler | None = None
    """How networks are sampled; an ensemble needs it"""
    ensemble: Ensemble | None = None
    """How many networks are sampled"""
    regression: Regression | None = None
    """Regression with the kernel of infinite width, for learning curves"""
    sweep: dict[str, dict[str, Values]] = Field(default={})
    """The grid: axis, then path of a setting, then its values [those of the setting]"""
    exclude: Many[Annotated[dict[str, object], Field(min_length=1)]] = ()
    """Points of the grid to leave out: all that have the values which an entry gives to axes,
    or to paths of settings [those of the setting]"""
    refine: Refine | None = None
    """Cells that the campaign adds of its own accord, between those of one axis"""
    observe: Observe = Observe()
    """What is measured beside outputs, losses and learnabilities"""
    theories: Many[Theory] = ()
    """What the measurements are compared with: names, or your own as `module:name`"""
    cutoff: Cutoff = 0.01
    """Of decimating theories: the least learnability kept, or a number of modes [1, or modes]"""

    @model_validator(mode="after")
    def _consistent(self) -> "Campaign":
        for problem in problems(self):
            raise PydanticCustomError("campaign", "{problem}", {"problem": problem})
        return self


def problems(spec: Campaign) -> Iterator[str]:
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
    yield from _network_problems(spec)
    yield from _scheme_problems(spec)
    yield from _start_problems(spec)
    yield from _data_problems(spec)
    yield from _observe_problems(spec)
    yield from _prior_problems(spec)
    yield from _trajectory_problems(spec)
    if spec.refine is not None and spec.ensemble is None:
        yield "refine adds cells of an ensemble; add one, or leave refine out"


def _regression_problems(spec: Campaign) -> Iterator[str]:
    if spec.regression is None:
        return
    outputs = spec.data.number_of_outputs
    if outputs > 1 and spec.regression.quartic is not None:
        yield f"regression.quartic is of one output, and the data have {outputs}; leave it out"
    kernel = spec.regression.kernel or spec.network
    if kernel is None:
        yield "regression needs a kernel: give regression.kernel, or a network"
    elif kernel.architecture not in ARCHITECTURES or kernel.activation not in ACTIVATIONS:
        yield "regression: no NNGP kernel is known for this network; give regression.kernel"
    if spec.cutoff > spec.regression.pool:
        yield f"cutoff: found {spec.cutoff} modes of a pool of {spec.regression.pool}; keep fewer"


def _data_problems(spec: Campaign) -> Iterator[str]:
    """Sizes of what networks read and of what the data have, where the spec knows both."""
    network, data = spec.network, spec.data
    if network is None or network.architecture != "cnn":
        return
    inputs = data.number_of_inputs
    if inputs is not None and network.patches is not None and inputs % network.patches:
        yield f"network.patches: {inputs} inputs are no {network.patches} equal parts"
    if inputs is not None and network.image is not None and inputs != math.prod(network.image):
        yield f"network.image: {list(network.image)} are not the {inputs} inputs of the data"
    patches = getattr(data, "patches", None)
    if data.in_patches and network.patches != patches:
        yield f"network.patches: found {network.patches}, the data have {patches}"


def _network_problems(spec: Campaign) -> Iterator[str]:
    network = spec.network
    if network is None or network.architecture == "fcn":
        return
    found = word(network.architecture)
    for key in ("histograms", "kernels"):
        if network.architecture != "cnn" and getattr(spec.observe, key):
            yield (
                f"observe.{key} needs an architecture whose layers are known; found {found}; "
                f"set observe.{key}: false"
            )


def _scheme_problems(spec: Campaign) -> Iterator[str]:
    """What a scheme needs of the network and the data."""
    network, sampler = spec.network, spec.sampler
    if network is None or sampler is None:
        return
    for condition in sampler.record.holds:
        if (problem := condition(network, sampler, spec.data)) is not None:
            yield f"sampler.scheme: {sampler.scheme} {problem}"
    if isinstance(sampler.step_size, tuple) and (
        network.architecture not in ARCHITECTURES or len(sampler.step_size) != network.depth + 1
    ):
        yield (
            f"sampler.step_size: found {len(sampler.step_size)} steps; wanted one number, or one "
            f"for each of the {network.depth + 1} layers of fcn or cnn, the readout's last"
        )
    if sampler.batch is not None and sampler.batch > spec.data.train:
        yield f"sampler.batch: found {sampler.batch} of {spec.data.train} training points"


def _prior_problems(spec: Campaign) -> Iterator[str]:
    """What weights that are not Gaussian need of the rest."""
    regression, sampler = spec.regression, spec.sampler
    if sampler is not None and sampler.record.law != "prior" and _is_uniform(spec.network):
        yield (
            f"network.prior: found uniform with sampler.scheme {sampler.scheme}, whose prior is "
            "Gaussian; take scheme prior"
        )
    inputs = spec.data.number_of_inputs
    for kernel in (spec.network, None if regression is None else regression.kernel):
        if kernel is not None and _is_uniform(kernel) and inputs is not None:
            dimensions = inputs + (kernel.biases[0] > 0)
            if dimensions > UNIFORM_INPUTS:
                yield (
                    f"network.prior: uniform weights are known for {UNIFORM_INPUTS} inputs, of "
                    f"which a bias is one; found {dimensions}"
                )


def is_trajectory(spec: Campaign) -> bool:
    """Whether networks are followed in time."""
    return spec.sampler is not None and spec.sampler.record.law == "in time"


def _trajectory_problems(spec: Campaign) -> Iterator[str]:
    """What networks in time cannot do, and what is not observed of them."""
    if not is_trajectory(spec):
        return
    if spec.refine is not None:
        yield "refine goes by draws of a posterior; scheme trajectory has none: leave refine out"
    for key in ("histograms", "correlators"):
        if getattr(spec.observe, key):
            yield f"observe.{key} are not of scheme trajectory; set observe.{key}: false"
    if spec.observe.measure:
        yield "observe.measure is not of scheme trajectory; leave it out"


def _is_uniform(kernel: Kernel | None) -> bool:
    return kernel is not None and kernel.prior == "uniform"


def _observe_problems(spec: Campaign) -> Iterator[str]:
    lags, sampler = spec.observe.lags, spec.sampler
    if spec.observe.correlators:
        network = spec.network
        if network is not None and network.architecture != "fcn":
            yield (
                "observe.correlators are of fcn; found architecture "
                f"{word(network.architecture)}: leave them out"
            )
        if min(spec.observe.points, spec.data.test_points) < len(PAIR):
            yield "observe.correlators are of 2 probe points: raise data.test and observe.points"
    if not lags or sampler is None:
        return
    if not spec.observe.kernels:
        yield "observe.lags are of two-time kernels: set observe.kernels: true, or leave them out"
    if is_trajectory(spec):  # which keeps where it was
        if max(lags) >= sampler.draws:
            yield f"observe.lags: a lag of {max(lags)} needs more draws; found {sampler.draws}"
    elif max(lags) >= sampler.segment:
        yield (
            f"observe.lags: a lag of {max(lags)} draws needs segments of more draws; found "
            f"{sampler.segment}"
        )
    if len(set(lags)) < len(lags):
        yield "observe.lags names a lag twice"


def _start_problems(spec: Campaign) -> Iterator[str]:
    ensemble, sampler, network = spec.ensemble, spec.sampler, spec.network
    if ensemble is None or sampler is None or network is None:
        return
    start, scheme, record = ensemble.start, sampler.scheme, sampler.record
    from_prior = record.law in ("prior", "in time")
    if (start == "anneal") != (sampler.anneal is not None):
        yield "ensemble.start: anneal and a section sampler.anneal go together"
    if start in ("teacher", "both") and not has_overlaps(spec):
        yield (
            f"ensemble.start: {start} needs data with one direction that the first layer can "
            "follow; found none; take prior"
        )
    if start == "anneal" and sampler.step_size == AUTO:
        yield "sampler.step_size: auto adapts at one temperature; give a number with start anneal"
    if start == "both" and ensemble.chains < 4:
        yield f"ensemble.start: both needs at least 4 chains; found {ensemble.chains}"
    if start != "prior" and from_prior:
        yield f"ensemble.start: {start} means nothing to scheme {scheme}; leave it out"
    if start == "anneal" and not (record.anneals or from_prior):
        known = ", ".join(schemes(lambda other: other.anneals))
        yield f"ensemble.start: anneal is for {known}; found scheme {scheme}"


def has_overlaps(spec: Campaign) -> bool:
    """Whether first-layer weights and the target's one direction w* have the same inputs."""
    network = spec.network
    if network is None or not spec.data.has_teacher or network.architecture not in ARCHITECTURES:
        return False
    if network.architecture == "fcn":
        return not spec.data.in_patches
    return spec.data.in_patches and network.patches is not None
