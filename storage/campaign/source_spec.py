"""What every source of data has in the `data` section of a campaign."""

from typing import Annotated, Any, Literal

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


def _number_or_section(value: Any) -> str:
    return "@section" if isinstance(value, dict | OwnTest) else "@number"


Test = Annotated[
    Annotated[Count, Tag("@number")] | Annotated[OwnTest, Tag("@section")],
    Discriminator(_number_or_section),
]


class Data(Frozen):
    """What every source has."""

    train: Count
    """Training points of each dataset [points]"""
    test: Count
    """Test points, drawn apart from the training points [points]"""
    label_noise: NonNegativeFloat = 0.0
    """Variance of the noise on training targets [y²]"""
    normalize: Normalize | None = None
    """What is done to the points before anything else sees them"""


def mistake(line: str) -> PydanticCustomError:
    """The error of settings that do not fit each other."""
    return PydanticCustomError("data", "{line}", {"line": line})
