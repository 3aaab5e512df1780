"""A stored array, as a reader sees it."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Variable:
    """A stored array: dimensions, dtype and what a reader must know of it."""

    dims: tuple[str, ...]
    dtype: str
    long_name: str
    units: str = "1"
    attrs: Mapping[str, object] = field(default_factory=dict)
