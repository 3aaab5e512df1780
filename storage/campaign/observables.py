"""Observables: one record for each, from which what is compared, its names and words derive.

How one is measured is in `pipelines.analysis.measured`, under the same kind; a theory predicts it
in a variable of that name. One of the user's own is a plug-in: a function, or a record around one.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count, product, takewhile
from typing import Any, Literal

from storage.errors import CampaignError

Measure = Callable[..., Any]  # of outputs, fields and data, as the manual has it
AT = " at "  # before the time in the name of an observable of networks in time


@dataclass(frozen=True)
class Observable:
    """A kind of observable, and along what there are several of it."""

    kind: str = ""  # of a plug-in the name of its function
    words: str | Callable[..., str] = ""  # in a sentence, of the labels along `along`
    along: tuple[str, ...] = ()
    of: Literal["ensemble", "curve"] = "ensemble"
    variable: str = ""  # without which the ensemble cannot say it
    beside: str = ""  # another such variable
    at: tuple[str, str] | None = None  # a label of what is predicted along one more dimension
    measure: Measure | None = None  # of a plug-in


@dataclass(frozen=True)
class Observed:
    """One of a kind: the labels of its place, and where they stand along `record.along`."""

    record: Observable
    labels: tuple[str, ...] = ()
    places: tuple[int, ...] = ()
    time: str = ""  # when, of networks that are followed
    moment: int = 0  # the place of that time along `time`

    @property
    def kind(self) -> str:
        """The kind of the observable."""
        return self.record.kind

    @property
    def name(self) -> str:
        """The name in the store: `pre_activation_variance 1 top`, `loss at 0.5`."""
        return name_of(self.kind, *self.labels) + (f"{AT}{self.time}" if self.time else "")

    @property
    def words(self) -> str:
        """The observable in running text."""
        words = self.record.words
        said = words if isinstance(words, str) else words(*self.labels)
        return f"{said} at t = {self.time}" if self.time else said


def name_of(kind: str, *labels: object) -> str:
    """The name that the store has for an observable."""
    return " ".join([kind, *map(str, labels)])


def split(name: str) -> tuple[str, str]:
    """What an observable is, and when; without a time it is empty."""
    what, at, time = name.rpartition(AT)
    return (what, time) if at else (name, "")


def is_in_time(names: Iterable[object]) -> bool:
    """Whether these are observables of networks in time."""
    return any(split(str(name))[1] for name in names)


def by_times(names: Iterable[object]) -> dict[str, dict[str, str]]:
    """By observables, of the names in a store: their names, with the time of each, in order."""
    found: dict[str, dict[str, str]] = {}
    for name in reversed([*map(str, names)]):  # the last time is stored first
        observable, when = split(name)
        found.setdefault(observable, {})[name] = when
    return dict(reversed(found.items()))


def learnabilities(components: Iterable[object]) -> list[str]:
    """Names of the learnabilities of the parts of a target."""
    return [name_of(LEARNABILITY.kind, part) for part in components]


def layers_of(kind: str, names: Container[str]) -> list[int]:
    """The hidden layers of which an observable is among the names; from the first on."""
    return [*takewhile(lambda layer: name_of(kind, layer) in names, count(1))]


def observed(record: Observable, labels: Mapping[str, Sequence[str]]) -> Iterator[Observed]:
    """All of a kind, the last of what it is along running fastest."""
    each = [[*enumerate(map(str, labels[dim]))] for dim in record.along]
    for chosen in product(*each):
        places, named = zip(*chosen, strict=True) if chosen else ((), ())
        yield Observed(record, named, places)


def _learnability(part: str) -> str:
    return "the learnability" if part == "target" else f"the learnability of {part}"


def _hidden_variance(part: str) -> str:
    along = "along" if part == "teacher" else "across"
    return f"the variance of first-layer weights {along} the teacher"


def _pre_activation_variance(layer: str, direction: str) -> str:
    where = "at a point" if direction == "point" else f"along the {direction} direction"
    return f"the pre-activation variance of layer {layer} {where}"


def _output_covariance(lag: str) -> str:
    return f"the two-time covariance of outputs at a lag of {lag}"


def _of_layer(words: str) -> Callable[[str], str]:
    return lambda layer: f"{words} of layer {layer}"


def _coupled(words: str) -> Callable[[str], str]:
    return lambda coupling: f"{words} with the quartic coupling u = {coupling}"


LAYER = ("layer",)
AT_POINTS = (  # of random networks, layer by layer: the last layers come first
    Observable("kernel_mean", _of_layer("the mean kernel"), LAYER, variable="correlator"),
    Observable(
        "kernel_variance",
        _of_layer("the fluctuation of the kernel"),
        LAYER,
        variable="correlator",
    ),
    Observable(
        "correlation", _of_layer("the correlation in the kernel"), LAYER, variable="correlator"
    ),
    Observable(
        "pre_activation_kurtosis",
        _of_layer("the excess kurtosis of pre-activations"),
        LAYER,
        variable="correlator",
        beside="moment",
        at=("direction", "point"),
    ),
)
LEARNABILITY = Observable("learnability", _learnability, ("component",), variable="learnability")
RECORDS = (
    *AT_POINTS,
    LEARNABILITY,
    Observable("mse_mean", "the error of the mean output", variable="output_mean"),
    Observable("predictive_variance", "the predictive variance", variable="output_square"),
    Observable("weight_norm", "the norm of the readout", variable="weight_norm"),
    Observable("accuracy", "the classification accuracy", variable="accuracy"),
    Observable("hidden_variance", _hidden_variance, ("part",), variable="hidden_variance"),
    Observable(
        "overlap_kurtosis",
        "the kurtosis of the overlaps with the teacher",
        variable="overlap_histogram",
    ),
    Observable(
        "pre_activation_variance",
        _pre_activation_variance,
        ("layer", "direction"),
        variable="moment",
    ),
)
OF_TIMES = ("learnability", "mse_mean", "predictive_variance", "weight_norm", "hidden_variance")
IN_TIME = (  # of networks in time, at each of the times
    Observable("loss", "the training loss", variable="loss"),
    *(record for record in RECORDS if record.kind in OF_TIMES),
    Observable("output_covariance", _output_covariance, ("lag",), variable="output_odd"),
)
CURVES = (
    Observable("pool_error", "the error over the pool", of="curve"),
    Observable("train_error", "the training error", of="curve"),
    Observable("posterior_variance", "the posterior variance", of="curve"),
)
QUARTIC = (
    Observable("quartic_error", _coupled("the error over the pool"), ("coupling",), of="curve"),
    Observable("quartic_residual", _coupled("the mean square residual"), ("coupling",), of="curve"),
)


def measured_by(name: str, found: object) -> Observable:
    """The record of an observable of the user's own: theirs, or one around a function.

    Raises CampaignError where it is neither.
    """
    kind = name.partition(":")[2]
    if isinstance(found, Observable):
        if not callable(found.measure):
            raise CampaignError(f"{name}: wanted an Observable that has measure")
        return replace(found, kind=kind, words=found.words or in_plain(kind), variable=kind)
    if not callable(found):
        raise CampaignError(
            f"{name} is {type(found).__name__}; wanted a function of outputs, fields and data, or "
            "an Observable"
        )
    return Observable(kind, in_plain(kind), variable=kind, measure=found)


def function_of(name: str, found: object) -> Measure:
    """What measures an observable of the user's own. Raises CampaignError as `measured_by`."""
    measure = measured_by(name, found).measure
    assert measure is not None
    return measure


def in_plain(kind: str) -> str:
    """`the roughness`, of an observable that has no words."""
    return f"the {kind.replace('_', ' ')}"
