"""Whether Triton can be had here, and what decides the bits of what it compiles."""

from importlib import metadata
from importlib.util import find_spec

BITS = 1  # raised when a change of the sources alters a result


def name() -> str:
    """What decides the bits of a result, in words that are compared between workers."""
    return f"triton {BITS} ({metadata.version('triton')})"


def unavailable() -> str:
    """Why the kernels cannot be used here, in one line; nothing where they can."""
    return "" if find_spec("triton") else "triton is not installed beside torch"
