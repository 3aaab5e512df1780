"""The base of every model of a campaign: immutable, strict, and helpful about typing errors."""

import re
from typing import Annotated, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from storage.campaign.messages import nearest, short, word

T = TypeVar("T")
Many = Annotated[tuple[T, ...], Strict(False)]  # a YAML list, kept as a tuple


LARGEST_COUNT = 10_000_000  # of anything that is counted: more than any machine holds
Count = Annotated[int, Field(gt=0, le=LARGEST_COUNT)]


class Frozen(BaseModel):
    """An immutable model that forbids unknown keys and names the nearest one it knows."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,  # "What it is [unit]": in the schema and its reference
    )

    @model_validator(mode="before")
    @classmethod
    def _know_every_key(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        for key in value:
            if key not in cls.model_fields:
                raise unknown_key(str(key), [*cls.model_fields])
        return value


def unknown_key(found: str, allowed: list[str]) -> PydanticCustomError:
    """The error of a key that a section does not know."""
    return PydanticCustomError(
        "unknown_key",
        "unknown key {key}; {advice}",
        {"key": word(found), "advice": nearest(found, allowed)},
    )


def refusal(found: object, advice: str) -> PydanticCustomError:
    """The error of a value: what was found, and what was wanted."""
    return PydanticCustomError(
        "refusal", "found {found}, {advice}", {"found": short(found), "advice": advice}
    )


def text_like(pattern: re.Pattern[str], wanted: str) -> tuple[BeforeValidator, WithJsonSchema]:
    """Annotations of text that matches a pattern, which a message puts into words."""

    def check(value: object) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise refusal(value, f"wanted {wanted}")
        return value

    schema = {"type": "string", "pattern": f"^({pattern.pattern})$"}
    return BeforeValidator(check), WithJsonSchema(schema)
