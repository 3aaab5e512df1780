"""The IDX format of MNIST: a magic number, the sizes as big-endian 32-bit words, then bytes.

The magic number is 0x00000800 (unsigned bytes) plus the number of dimensions.
"""

import math
import struct

import numpy as np
from numpy.typing import NDArray

from storage.errors import CampaignError


def shape_of(head: bytes, dimensions: int, name: str) -> list[int]:
    """The shape that the first bytes of an IDX file announce; CampaignError, naming the file."""
    header = _header(dimensions)
    if len(head) < header:
        raise CampaignError(
            f"{name} is truncated: {len(head)} bytes do not hold an IDX header of {header}; "
            "put the complete file in its place"
        )
    magic, *shape = struct.unpack(f">{1 + dimensions}I", head[:header])
    if magic != 0x800 + dimensions:
        raise CampaignError(
            f"{name} begins with 0x{magic:08x}, not with 0x{0x800 + dimensions:08x} as an IDX file "
            f"of bytes with {dimensions} dimensions; put the official file in its place"
        )
    return shape


def size_of(head: bytes, dimensions: int, name: str) -> int:
    """How many bytes such a file has in all, by its first ones."""
    return _header(dimensions) + math.prod(shape_of(head, dimensions, name))


def parse(content: bytes, dimensions: int, name: str) -> NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes, with this many dimensions.

    CampaignError, naming the file, unless the content is exactly such a file and not empty.
    """
    shape, header = shape_of(content, dimensions, name), _header(dimensions)
    found, wanted = len(content) - header, math.prod(shape)
    if found != wanted:
        state = "is truncated" if found < wanted else "is too long"
        raise CampaignError(
            f"{name} {state}: its header announces {' x '.join(map(str, shape))} = {wanted} bytes, "
            f"{found} follow; put the complete file in its place"
        )
    if not wanted:
        raise CampaignError(f"{name} holds no items; put the complete file in its place")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _header(dimensions: int) -> int:
    return 4 * (1 + dimensions)
