"""What zarr.json holds of a group or an array, as Zarr itself would write it."""

import json
from collections.abc import Mapping, Sequence

import numpy as np

from storage.arrays.chunks import TEXT, fill_of
from storage.arrays.documents import (
    ArrayNode,
    CodecNode,
    Dimensions,
    GroupNode,
    Members,
    Node,
    RootNode,
)

EMPTY: RootNode = {  # the root of a hierarchy of nothing
    "zarr_format": 3,
    "node_type": "group",
    "attributes": {},
    "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": {}},
}
PACKED = {"level": 1, "checksum": True}  # of what is measured or computed
PLAIN = {"level": 0, "checksum": False}  # of coordinates


def group_node(attributes: Mapping[str, object]) -> GroupNode:
    """A group."""
    return {"attributes": dict(attributes), "zarr_format": 3, "node_type": "group"}


def array_node(
    shape: Sequence[int],
    chunks: Sequence[int],
    dtype: np.dtype[np.generic],
    dims: Sequence[str],
    attributes: Mapping[str, object],
    packing: Mapping[str, object],
) -> ArrayNode:
    """An array with named dimensions; floats fill with NaN, integers with 0, text with ""."""
    named: Dimensions = {"dimension_names": list(dims)} if dims else {}
    return {
        "shape": [int(length) for length in shape],
        "data_type": TEXT if dtype.kind == "T" else dtype.name,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [int(length) for length in chunks]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": _fill(dtype),
        "codecs": [_serializer(dtype), {"name": "zstd", "configuration": dict(packing)}],
        "attributes": dict(attributes),
        **named,
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def serialized(node: Mapping[str, object]) -> bytes:
    """The bytes of zarr.json."""
    return json.dumps(node, indent=2).encode()


def consolidated(root: Node, members: Mapping[str, Node]) -> RootNode:
    """The root, with all that lies below it by path: what readers see in one object."""
    below = {
        path: node if node["node_type"] == "array" else _with(node, {})
        for path, node in members.items()
    }
    return _with(root, below)


def _with(group: Node, members: Mapping[str, ArrayNode | RootNode]) -> RootNode:
    inline: Members = {"kind": "inline", "must_understand": False, "metadata": members}
    return {
        "attributes": group["attributes"],
        "zarr_format": 3,
        "consolidated_metadata": inline,
        "node_type": "group",
    }


def _fill(dtype: np.dtype[np.generic]) -> float | str:
    return {"f": "NaN", "b": False}.get(dtype.kind, fill_of(dtype))


def _serializer(dtype: np.dtype[np.generic]) -> CodecNode:
    if dtype.kind == "T":
        return {"name": "vlen-utf8", "configuration": {}}
    if dtype.itemsize == 1:
        return {"name": "bytes"}
    return {"name": "bytes", "configuration": {"endian": "little"}}
