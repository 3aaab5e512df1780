"""What every source of data has in the `data` section of a campaign, and what it says of itself."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, NonNegativeFloat, PositiveFloat, Tag
from pydantic_core import PydanticCustomError

from storage.campaign.frozen import Count, Frozen

Inputs = Literal["gaussian", "sphere"]


class Normalize(Frozen):
    """What is done to the points before anything else sees them."""

    center: bool = False
    """Subtract the mean point of the pool"""
    squared_norm: PositiveFloat | None = None
    """|x|² of every point [1]"""


class OwnTest(Frozen):
    """Test points with a distribution of their own."""

    points: Count
    """Test points [points]"""
    inputs: Inputs = "gaussian"
    """Law of the test points: N(0, I), or uniform on |x|² = dimension"""
    scale: PositiveFloat = 1.0
    """Factor of every coordinate [1]"""


def _number_or_section(value: object) -> str:
    return "@section" if isinstance(value, dict | OwnTest) else "@number"


Test = Annotated[
    Annotated[Count, Tag("@number")] | Annotated[OwnTest, Tag("@section")],
    Discriminator(_number_or_section),
]


class Data(Frozen):
    """What every source has. Each is a section of its own: the record of that source."""

    may_have_classes: ClassVar[bool] = False  # targets may be classes
    one_direction: ClassVar[bool] = False  # the target is a function of one direction w*
    in_patches: ClassVar[bool] = False  # of each patch of a point
    even_part: ClassVar[bool] = False  # the target has one, whatever its settings
    if TYPE_CHECKING:
        source: Any  # the name of each, and its own words for it

    train: Count
    """Training points of each dataset [points]"""
    test: Count
    """Test points, drawn apart from the training points [points]"""
    label_noise: NonNegativeFloat = 0.0
    """Variance of the noise on training targets [y²]"""
    normalize: Normalize | None = None
    """What is done to the points before anything else sees them"""

    @property
    def components(self) -> tuple[str, ...]:
        """Names of the parts of the target whose learnabilities are measured."""
        return ("target",)

    @property
    def teacher_length(self) -> int | None:
        """Length of the target's direction w*, of which overlaps w·w* are; None without one.

        Of several directions it is the first; of patches it is as long as a patch.
        """
        return None

    @property
    def has_teacher(self) -> bool:
        """Whether the target has a direction w*."""
        return self.teacher_length is not None

    @property
    def number_of_inputs(self) -> int | None:
        """Length of a point, where the section fixes it; None for files and plug-ins."""
        return None

    @property
    def number_of_outputs(self) -> int:
        """How many targets a point has."""
        return 1

    @property
    def output_names(self) -> tuple[int, ...]:
        """What each output is called: its number."""
        return tuple(range(self.number_of_outputs))

    @property
    def class_targets(self) -> tuple[tuple[float, ...], ...] | None:
        """The targets of all classes, (class, output), where the section fixes them."""
        return None

    @property
    def test_points(self) -> int:
        """How many test points the section asks for."""
        return self.test.points if isinstance(self.test, OwnTest) else self.test

    @property
    def heldout_points(self) -> int:
        """How many of them lie outside the pool of a regression."""
        return self.test_points


def mistake(line: str) -> PydanticCustomError:
    """The error of settings that do not fit each other."""
    return PydanticCustomError("data", "{line}", {"line": line})
