"""Where the points and the targets come from: the `data` section of a campaign."""

import difflib
import math
import re
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    PositiveFloat,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

from storage.frozen import Count, Frozen, Many, refusal, text_like, unknown_key
from storage.messages import nearest, short

PLUGIN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
PluginName = Annotated[str, *text_like(PLUGIN, "module:name")]
FileName = Annotated[str, *text_like(re.compile(r"[^\x00-\x1f]+"), "a path")]


def _order(key: Any) -> int:
    """Keys of a mapping arrive as text."""
    if isinstance(key, str) and re.fullmatch("0|[1-9][0-9]{0,9}", key):
        return int(key)
    if isinstance(key, int) and not isinstance(key, bool):
        return key
    raise refusal(key, "wanted the order of a polynomial, a whole number")


Order = Annotated[int, BeforeValidator(_order), Field(ge=0, le=100)]
Inputs = Literal["gaussian", "sphere"]
Digit = Annotated[int, Field(ge=0, le=9)]
Classes = Annotated[Many[Digit], Field(min_length=1)]


class Normalize(Frozen):
    """What is done to the points before anything else sees them."""

    center: bool = False  # subtract the mean point of the pool
    squared_norm: PositiveFloat | None = None  # |x|² of every point


class OwnTest(Frozen):
    """Test points with a distribution of their own."""

    points: Count
    inputs: Inputs = "gaussian"
    scale: PositiveFloat = 1.0  # multiplies every coordinate


def _number_or_section(value: Any) -> str:
    return "@section" if isinstance(value, dict | OwnTest) else "@number"


Test = Annotated[
    Annotated[Count, Tag("@number")] | Annotated[OwnTest, Tag("@section")],
    Discriminator(_number_or_section),
]


class Data(Frozen):
    """What every source has."""

    train: Count
    test: Count  # points, drawn apart from the training points
    label_noise: NonNegativeFloat = 0.0  # variance, on training targets only
    normalize: Normalize | None = None


class SingleIndex(Data):
    """y = Σ_k c_k He_k(w*·x), or Σ_k c_k (w*·x)^k, with |w*| = 1 drawn per dataset."""

    source: Literal["single_index"]
    inputs: Inputs = "gaussian"  # x ~ N(0, I), or uniform on |x|² = dimension
    dimension: Count
    teacher: Annotated[dict[Order, FiniteFloat], Field(min_length=1)]  # k -> c_k
    basis: Literal["hermite", "monomial"] = "hermite"
    test: Test  # pyright: ignore[reportIncompatibleVariableOverride]


class Linear(Data):
    """y = w*·x with |w*| = 1 drawn per dataset."""

    source: Literal["linear"]
    inputs: Inputs = "gaussian"
    dimension: Count
    test: Test  # pyright: ignore[reportIncompatibleVariableOverride]


class PowerLaw(Data):
    """x_k = √(M λ_k) z_k, y = Σ ± k^(-(1+β)/2) z_k; x·x'/M has eigenvalues λ_k = k^-(1+α)."""

    source: Literal["power_law"]
    modes: Count
    eigenvalue_exponent: PositiveFloat  # α
    target_exponent: PositiveFloat  # β


class TwoClasses(Data):
    """Images of some classes against images of others, targets +1 and -1."""

    positive: Classes
    negative: Classes

    @model_validator(mode="after")
    def _classes_differ(self) -> "TwoClasses":
        classes = (*self.positive, *self.negative)
        if len(set(classes)) < len(classes):
            twice = next(name for name in classes if classes.count(name) > 1)
            raise PydanticCustomError(
                "classes", "positive and negative name class {twice} twice", {"twice": str(twice)}
            )
        return self


class Digits(TwoClasses):
    """The 8 × 8 handwritten digits that ship with scikit-learn."""

    source: Literal["digits"]


class ImageFiles(TwoClasses):
    """Image files in a folder that the user names."""

    folder: FileName
    subset: Literal["train", "test", "all"] = "all"


class Mnist(ImageFiles):
    """MNIST from its official IDX files, gzip or not."""

    source: Literal["mnist"]


class Cifar10(ImageFiles):
    """CIFAR-10 from its official binary version."""

    source: Literal["cifar10"]


class Npz(Data):
    """A file of the user's with x_train (n, d), y_train (n,), x_test and y_test."""

    source: Literal["npz"]
    file: FileName


def _setting(value: Any) -> Any:
    if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise refusal(value, "wanted a finite number, text, true or false")


Setting = Annotated[int | float | str | bool, BeforeValidator(_setting)]


class PluginData(Data):
    """A source of the user's own, `module:function` (README, Plug-ins)."""

    source: PluginName
    # `make` does its own
    normalize: None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    settings: dict[str, Setting] = Field(default={})


SOURCES: dict[str, type[Data]] = {
    "single_index": SingleIndex,
    "linear": Linear,
    "power_law": PowerLaw,
    "digits": Digits,
    "mnist": Mnist,
    "cifar10": Cifar10,
    "npz": Npz,
}

_SOURCES = [*SOURCES, "my.module:make"]


def _known_source(value: Any) -> Any:
    """Refuse a source that does not exist before the section is read as one."""
    if isinstance(value, Data):
        return value
    if not isinstance(value, dict):
        raise refusal(value, "wanted a section that begins with source")
    if "source" not in value:
        raise _missing_source(value)
    found = value["source"]
    if not isinstance(found, str) or not (found in SOURCES or PLUGIN.fullmatch(found)):
        raise PydanticCustomError(
            "source",
            "unknown source {found}; {advice}",
            {"found": short(found), "advice": nearest(str(found), _SOURCES)},
        )
    return value


def _missing_source(section: dict[Any, Any]) -> PydanticCustomError:
    meant = difflib.get_close_matches("source", [str(key) for key in section], n=1)
    if meant:
        return unknown_key(meant[0], ["source"])
    return PydanticCustomError(
        "source", "source is missing; add it ({advice})", {"advice": nearest("", _SOURCES)}
    )


def _source(value: Any) -> str:
    """The tag of a section; tags start with @ so that messages can leave them out."""
    found = value["source"] if isinstance(value, dict) else value.source
    return f"@{found}" if found in SOURCES else "@plugin"


AnySource = Annotated[
    Annotated[SingleIndex, Tag("@single_index")]
    | Annotated[Linear, Tag("@linear")]
    | Annotated[PowerLaw, Tag("@power_law")]
    | Annotated[Digits, Tag("@digits")]
    | Annotated[Mnist, Tag("@mnist")]
    | Annotated[Cifar10, Tag("@cifar10")]
    | Annotated[Npz, Tag("@npz")]
    | Annotated[PluginData, Tag("@plugin")],
    Discriminator(_source),
]
DataSpec = Annotated[AnySource, BeforeValidator(_known_source)]


def component_names(data: Data) -> tuple[str, ...]:
    """Names of the parts of the target whose learnabilities are measured."""
    if isinstance(data, SingleIndex):
        letter = "He" if data.basis == "hermite" else "z^"
        return tuple(f"{letter}{order}" for order in sorted(data.teacher))
    return ("target",)


def has_teacher(data: Data) -> bool:
    """Whether the target has one direction w*, so that overlaps w·w* are defined."""
    return isinstance(data, SingleIndex | Linear)


def number_of_test_points(data: Data) -> int:
    """How many test points the section asks for."""
    return data.test.points if isinstance(data.test, OwnTest) else data.test
