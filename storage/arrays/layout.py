"""Which object of data.zarr holds what of which shard, without Zarr.

It reads the metadata that are published in one object. One chunk is the region of one shard, so
that the place of a chunk names the shard, and a shard names its chunks.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from storage.arrays.chunks import Chunked
from storage.arrays.documents import Node
from storage.planning.plan import WARMUP, Cell, Kind, Shard

GROUPS: dict[Kind, str] = {
    "ensemble": "ensemble",
    "check": "step_check",
    "regression": "regression",
    "spectrum": "regression",
}
FLAG = "finished"
OF_SEGMENTS = frozenset({"segment", "draw", "time"})  # a chunk along these is that of a segment
_CHUNK = re.compile(r"(.+)/c((?:/\d+)*)")


def place_of(shard: Shard) -> dict[str, int]:
    """Which chunk along each dimension is the shard's; along all others there is one chunk."""
    return {
        "cell": shard.cell.index,
        "dataset": shard.dataset,
        "block": shard.block,
        "chain": shard.block,
        "draw": shard.segment,
        "time": shard.segment,
        "segment": shard.segment,
        "repeat": shard.repeat,
    }


@dataclass(frozen=True)
class Stored(Chunked):
    """An array of which every chunk is the region of one shard."""

    def chunk(self, shard: Shard) -> str:
        """The name of the object that holds a shard's region, below data.zarr."""
        place = place_of(shard)
        return self.key([place.get(dim, 0) for dim in self.dims])

    def written_by(self, shard: Shard) -> bool:
        """Whether a chunk is the region of this shard, and not of another one of its lane."""
        if self.path.partition("/")[0] != GROUPS[shard.kind]:
            return False
        if shard.kind in ("regression", "spectrum"):
            return ("repeat" in self.dims) == (shard.kind == "regression")
        if shard.segment != WARMUP:
            return not OF_SEGMENTS.isdisjoint(self.dims)
        of_block = "block" in self.dims or shard.block == 0
        return of_block and {*OF_SEGMENTS, "chain"}.isdisjoint(self.dims)


class Layout:
    """The arrays of shards that are published in a hierarchy."""

    def __init__(self, metadata: bytes) -> None:
        """`metadata` is what zarr.json of the root holds; ValueError where that is damaged."""
        self.arrays = dict(_arrays(metadata))

    def of(self, shard: Shard) -> list[Stored]:
        """The arrays in which a shard has a region."""
        return [each for each in self.arrays.values() if each.written_by(shard)]

    def find(self, key: str) -> tuple[Stored, tuple[int, ...]] | None:
        """The array that an object below data.zarr is a chunk of, and its place in it."""
        match = _CHUNK.fullmatch(key)
        if match is None or (stored := self.arrays.get(match[1])) is None:
            return None
        return stored, tuple(map(int, match[2].split("/")[1:]))


def shard_at(stored: Stored, place: Sequence[int], cells: Sequence[Cell]) -> Shard | None:
    """The shard that writes a chunk; None where there is no cell, but room for one."""
    at = dict(zip(stored.dims, place, strict=False))
    if not at or at["cell"] >= len(cells):
        return None
    cell, group = cells[at["cell"]], stored.path.partition("/")[0]
    if group == GROUPS["regression"]:
        if "repeat" in at:
            return Shard("regression", cell, repeat=at["repeat"])
        return Shard("spectrum", cell)
    kind: Kind = "ensemble" if group == GROUPS["ensemble"] else "check"
    segment = next((at[dim] for dim in OF_SEGMENTS if dim in at), WARMUP)
    return Shard(kind, cell, at.get("dataset", 0), at.get("block", at.get("chain", 0)), segment)


@lru_cache(maxsize=8)
def layout(metadata: bytes) -> Layout:
    """The same as `Layout`, kept for the next shard of the same store."""
    return Layout(metadata)


def _arrays(metadata: bytes) -> Iterator[tuple[str, Stored]]:
    content = json.loads(metadata)
    try:
        members = content.get("consolidated_metadata", {}).get("metadata", {})
        for path, node in members.items():
            if path.partition("/")[0] in GROUPS.values() and _is_of_shards(node):
                yield path, Stored.parsed(path, node)
    except (AttributeError, LookupError, TypeError):
        raise ValueError("no metadata of a campaign") from None


def _is_of_shards(node: Node) -> bool:
    """Whether an array is no coordinate: cells come first, and more comes behind."""
    if node["node_type"] != "array":
        return False
    dims = node.get("dimension_names") or []
    return dims[:1] == ["cell"] and len(dims) > 1
