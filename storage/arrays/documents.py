"""The types of what zarr.json holds of a group, of an array, and of a whole hierarchy."""

from collections.abc import Mapping
from typing import Literal, NotRequired, TypeAlias, TypedDict, TypeGuard


class CodecNode(TypedDict):
    """One step from values to bytes."""

    name: str
    configuration: NotRequired[Mapping[str, object]]


class Chunks(TypedDict):
    """The lengths of a chunk."""

    chunk_shape: list[int]


class ChunkGrid(TypedDict):
    """How an array is cut."""

    name: str
    configuration: Chunks


class Dimensions(TypedDict, total=False):
    """The names of dimensions, where there are any."""

    dimension_names: list[str]


class ArrayNode(Dimensions):
    """An array."""

    shape: list[int]
    data_type: str
    chunk_grid: ChunkGrid
    chunk_key_encoding: Mapping[str, object]
    fill_value: float | str
    codecs: list[CodecNode]
    attributes: dict[str, object]
    zarr_format: int
    node_type: Literal["array"]
    storage_transformers: list[object]


class GroupNode(TypedDict):
    """A group."""

    attributes: dict[str, object]
    zarr_format: int
    node_type: Literal["group"]


class Members(TypedDict):
    """All that lies below a root, by path."""

    kind: str
    must_understand: bool
    metadata: "Mapping[str, ArrayNode | RootNode]"


class RootNode(GroupNode):
    """A group with all that lies below it, as readers see it."""

    consolidated_metadata: Members


Node: TypeAlias = ArrayNode | GroupNode


def is_array(node: Node) -> TypeGuard[ArrayNode]:
    """Whether it is said to be an array."""
    return node.get("node_type") == "array"
