"""Where the points and the targets come from: the `data` section of a campaign."""

import difflib
import math
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from storage.campaign.frozen import Count, Many, refusal, text_like, unknown_key
from storage.campaign.messages import nearest, short
from storage.campaign.source_spec import Data, OwnTest, mistake
from storage.campaign.synthetic_spec import (
    AbsIndex,
    Linear,
    MultiIndex,
    Patches,
    PowerLaw,
    SingleIndex,
    TeacherNetwork,
)

PLUGIN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
PluginName = Annotated[str, *text_like(PLUGIN, "module:name")]
FileName = Annotated[str, *text_like(re.compile(r"[^\x00-\x1f]+"), "a path")]
Digit = Annotated[int, Field(ge=0, le=9)]
Classes = Annotated[Many[Digit], Field(min_length=1)]


class TwoClasses(Data):
    """Images of some classes against images of others, targets +1 and -1."""

    positive: Classes
    """Classes with target +1 [class, 0 to 9]"""
    negative: Classes
    """Classes with target -1 [class, 0 to 9]"""

    @model_validator(mode="after")
    def _classes_differ(self) -> "TwoClasses":
        classes = (*self.positive, *self.negative)
        if len(set(classes)) < len(classes):
            twice = next(name for name in classes if classes.count(name) > 1)
            raise mistake(f"positive and negative name class {twice} twice")
        return self


class Digits(TwoClasses):
    """The 8 × 8 handwritten digits that ship with scikit-learn."""

    source: Literal["digits"]
    """Handwritten digits that need no file"""


class ImageFiles(TwoClasses):
    """Image files in a folder that the user names."""

    folder: FileName
    """Folder of the official files; `finitewidth download` fills and prints one"""
    subset: Literal["train", "test", "all"] = "all"
    """Official part from which all points are drawn"""


class Mnist(ImageFiles):
    """MNIST from its official IDX files, gzip or not."""

    source: Literal["mnist"]
    """MNIST, in a folder that you name"""


class Cifar10(ImageFiles):
    """CIFAR-10 from its official binary version."""

    source: Literal["cifar10"]
    """CIFAR-10, in a folder that you name"""


class Npz(Data):
    """A file of the user's with x_train (n, d), y_train (n,), x_test and y_test."""

    source: Literal["npz"]
    """Arrays of your own"""
    file: FileName
    """The npz file with x_train, y_train, x_test and y_test"""
    outputs: Count = 1
    """Columns of y [outputs]"""


def _setting(value: Any) -> Any:
    if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise refusal(value, "wanted a finite number, text, true or false")


Setting = Annotated[int | float | str | bool, BeforeValidator(_setting)]


class PluginData(Data):
    """A source of the user's own, `module:function` (pipelines/README.md, Plug-ins)."""

    source: PluginName
    """Your function `module:name` that makes the arrays"""
    outputs: Count = 1
    """Columns of y [outputs]"""
    normalize: None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    """Nothing: your function does its own"""
    settings: dict[str, Setting] = Field(default={})
    """Arguments of your function by name [its own]"""


SOURCES: dict[str, type[Data]] = {
    "single_index": SingleIndex,
    "multi_index": MultiIndex,
    "abs_index": AbsIndex,
    "linear": Linear,
    "patches": Patches,
    "teacher_network": TeacherNetwork,
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
        shown = f", such as {{source: {value}, ...}}" if value in _SOURCES else ""
        raise refusal(value, f"wanted a section that begins with source{shown}")
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
    | Annotated[MultiIndex, Tag("@multi_index")]
    | Annotated[AbsIndex, Tag("@abs_index")]
    | Annotated[Linear, Tag("@linear")]
    | Annotated[Patches, Tag("@patches")]
    | Annotated[TeacherNetwork, Tag("@teacher_network")]
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
    match data:
        case SingleIndex():
            letter = "He" if data.basis == "hermite" else "z^"
            return tuple(f"{letter}{order}" for order in sorted(data.teacher))
        case Patches():
            return tuple(f"He{order}" for order in sorted(data.teacher))
        case MultiIndex():
            directions = sorted(data.teacher.items())
            return tuple(f"He{order}(w{i})" for i, orders in directions for order in sorted(orders))
        case AbsIndex():
            return ("z", "|z|")
        case _:
            return ("target",)


def has_teacher(data: Data) -> bool:
    """Whether the target has a direction w*, so that overlaps w·w* are defined.

    Of several directions it is the first; of patches it is as long as a patch.
    """
    return isinstance(data, SingleIndex | MultiIndex | AbsIndex | Linear | Patches)


def may_have_classes(data: Data) -> bool:
    """Whether targets may be classes; of synthetic sources none has such."""
    return isinstance(data, TwoClasses | Npz | PluginData)


def number_of_test_points(data: Data) -> int:
    """How many test points the section asks for."""
    return data.test.points if isinstance(data.test, OwnTest) else data.test


def number_of_inputs(data: Data) -> int | None:
    """Length of a point, where the section fixes it; None for files and sources of the user's."""
    match data:
        case Digits():
            return 64
        case Mnist():
            return 784
        case Cifar10():
            return 3072
        case PowerLaw():
            return data.modes
        case Patches():
            return data.patches * data.patch_size
        case _:
            return getattr(data, "dimension", None)


def number_of_outputs(data: Data) -> int:
    """How many targets a point has."""
    return getattr(data, "outputs", 1)
