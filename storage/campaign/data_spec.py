"""Where the points and the targets come from: the `data` section of a campaign."""

import difflib
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Union, get_args

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from storage.campaign.frozen import Count, Many, refusal, text_like, unknown_key
from storage.campaign.messages import nearest, short
from storage.campaign.source_spec import Data, mistake
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
SeveralClasses = Annotated[Many[Digit], Field(min_length=2)]


class ImageClasses(Data):
    """Images of some classes against those of others, targets +1 and -1, or one output a class."""

    may_have_classes: ClassVar[bool] = True
    pixels: ClassVar[int]  # of an image, over all its channels
    words: ClassVar[str]  # in a sentence: the points were ...

    positive: Classes | None = None
    """Classes with target +1 [class, 0 to 9]"""
    negative: Classes | None = None
    """Classes with target -1 [class, 0 to 9]"""
    classes: SeveralClasses | None = None
    """In place of both: an output for each of these k classes, whose target is 1 - 1/k for images
    of its own class and -1/k for others [class, 0 to 9]"""

    @model_validator(mode="after")
    def _classes_are_told_apart(self) -> "ImageClasses":
        plus, minus = self.positive, self.negative
        if self.classes is not None:
            if plus is not None or minus is not None:
                found = "negative" if plus is None else "positive"
                raise mistake(f"found classes and {found}; leave one of them out")
            _once(self.classes, "classes names")
        elif plus is None or minus is None:
            absent = "positive" if plus is None else "negative"
            raise mistake(f"{absent} is missing; give positive and negative, or classes")
        else:
            _once((*plus, *minus), "positive and negative name")
        return self

    @property
    def output_names(self) -> tuple[int, ...]:
        """The class of each output."""
        return self.classes or super().output_names

    @property
    def class_targets(self) -> tuple[tuple[float, ...], ...] | None:
        """Rows of the unit matrix less their mean, 1/k."""
        if self.classes is None:
            return None
        count = len(self.classes)
        return tuple(tuple((i == j) - 1 / count for j in range(count)) for i in range(count))

    @property
    def number_of_outputs(self) -> int:
        """One, whose sign tells the class, or one for each class."""
        return len(self.classes or (0,))

    @property
    def number_of_inputs(self) -> int:
        """Pixels of an image."""
        return self.pixels

    @property
    def heldout_points(self) -> int:
        """None: all images are in the pool."""
        return 0


def _once(classes: tuple[int, ...], names: str) -> None:
    twice = [name for name in classes if classes.count(name) > 1]
    if twice:
        raise mistake(f"{names} class {twice[0]} twice")


class Digits(ImageClasses):
    """The 8 × 8 handwritten digits that ship with scikit-learn."""

    pixels: ClassVar[int] = 64
    words: ClassVar[str] = "the 8 × 8 handwritten digits of scikit-learn"

    source: Literal["digits"]
    """Handwritten digits that need no file"""


class ImageFiles(ImageClasses):
    """Image files in a folder that the user names."""

    folder: FileName
    """Folder of the official files; `finitewidth download` fills and prints one"""
    subset: Literal["train", "test", "all"] = "all"
    """Official part from which all points are drawn"""


class Mnist(ImageFiles):
    """MNIST from its official IDX files, gzip or not."""

    pixels: ClassVar[int] = 784
    words: ClassVar[str] = "images of MNIST"

    source: Literal["mnist"]
    """MNIST, in a folder that you name"""


class Cifar10(ImageFiles):
    """CIFAR-10 from its official binary version."""

    pixels: ClassVar[int] = 3072
    words: ClassVar[str] = "images of CIFAR-10"

    source: Literal["cifar10"]
    """CIFAR-10, in a folder that you name"""


class Npz(Data):
    """A file of the user's with x_train (n, d), y_train (n,), x_test and y_test."""

    may_have_classes: ClassVar[bool] = True

    source: Literal["npz"]
    """Arrays of your own"""
    file: FileName
    """The npz file with x_train, y_train, x_test and y_test"""
    outputs: Count = 1
    """Columns of y [outputs]"""

    @property
    def number_of_outputs(self) -> int:
        """Columns of y."""
        return self.outputs


def _setting(value: object) -> object:
    if isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise refusal(value, "wanted a finite number, text, true or false")


Setting = Annotated[int | float | str | bool, BeforeValidator(_setting)]


class PluginData(Data):
    """A source of the user's own, `module:function` (pipelines/README.md, Plug-ins)."""

    may_have_classes: ClassVar[bool] = True

    source: PluginName
    """Your function `module:name` that makes the arrays"""
    outputs: Count = 1
    """Columns of y [outputs]"""
    normalize: None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    """Nothing: your function does its own"""
    settings: dict[str, Setting] = Field(default={})
    """Arguments of your function by name [its own]"""

    @property
    def number_of_outputs(self) -> int:
        """Columns of y."""
        return self.outputs


_SECTIONS: tuple[type[Data], ...] = (
    SingleIndex,
    MultiIndex,
    AbsIndex,
    Linear,
    Patches,
    TeacherNetwork,
    PowerLaw,
    Digits,
    Mnist,
    Cifar10,
    Npz,
)
SOURCES = {get_args(section.model_fields["source"].annotation)[0]: section for section in _SECTIONS}

_SOURCES = [*SOURCES, "my.module:make"]


def _known_source(value: object) -> object:
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


def _missing_source(section: Mapping[object, object]) -> PydanticCustomError:
    meant = difflib.get_close_matches("source", [str(key) for key in section], n=1)
    if meant:
        return unknown_key(meant[0], ["source"])
    return PydanticCustomError(
        "source", "source is missing; add it ({advice})", {"advice": nearest("", _SOURCES)}
    )


def _source(value: dict[str, object] | Data) -> str:
    """The tag of a section; tags start with @ so that messages can leave them out."""
    found = value["source"] if isinstance(value, dict) else value.source
    return f"@{found}" if found in SOURCES else "@plugin"


if TYPE_CHECKING:
    DataSpec = Data
else:
    _TAGGED = [Annotated[section, Tag(f"@{name}")] for name, section in SOURCES.items()]
    AnySource = Annotated[
        Union[(*_TAGGED, Annotated[PluginData, Tag("@plugin")])],
        Discriminator(_source),
    ]
    DataSpec = Annotated[AnySource, BeforeValidator(_known_source)]
