"""Large arrays that the workers of one machine make once and share, as files that all can map.

A file is written under another name and renamed when it is whole. Beside it lie two locks, which
the system releases when a process ends, however it ends: `.used` is shared by all who use the array
or wait for it, `.making` is held by the one who makes it. So a maker that was killed blocks nobody,
and what nobody uses is debris. What a file must hold is written beside it: one that was damaged,
or that somebody else put there, is made anew.
"""

import fcntl
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from storage.errors import CampaignError
from workers.machine import cache

Make = Callable[[NDArray[np.floating]], None]  # fills an array in its place

PANEL = 256  # rows
USED_NAME, MAKING_NAME, PARTIAL_NAME = ".used", ".making", ".partial"


class SharedArray:
    """A mapped array of two dimensions, whose file stays as it is whatever is done to it."""

    def __init__(self, used: BinaryIO, file: BinaryIO, shape: tuple[int, int], dtype: DTypeLike):
        self._used = used
        self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.values: NDArray[np.floating] = np.frombuffer(self._map, dtype).reshape(shape)

    def panels(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """All rows in their order, some at a time, in double precision.

        Those that were read stay in the system's cache, but count as memory of this process no
        more.
        """
        for start in range(0, len(self.values), PANEL):
            part = slice(start, min(start + PANEL, len(self.values)))
            yield part, self.values[part].astype(np.float64, copy=False)
            self._map.madvise(mmap.MADV_DONTNEED)


def folder() -> Path:
    """Where they are kept."""
    return cache.folder() / "shared"


def shared(name: str, shape: tuple[int, int], dtype: DTypeLike, make: Make) -> SharedArray:
    """The array of a name, made if it is not there; meanwhile all others wait who ask for it.

    Raises CampaignError where there is no room for it.
    """
    path = folder() / name
    try:
        cache.private(cache.folder())
        cache.private(path.parent)
        used = _sharing(path)
        while True:
            with _beside(path, MAKING_NAME).open("ab") as making:
                fcntl.flock(making, fcntl.LOCK_EX)
                if not path.exists():
                    _make(path, shape, dtype, make)
            # Another run may have ended now, and have taken away what it had as well.
            with suppress(FileNotFoundError), path.open("rb") as file:
                if cache.is_signed(path):
                    return SharedArray(used, file, shape, dtype)
                cache.forget(path)
    except OSError as error:
        size = shape[0] * shape[1] * np.dtype(dtype).itemsize
        raise CampaignError(
            f"{path.parent} cannot take {size / 1e9:.1f} GB ({error.strerror}); make room, or name "
            "another folder in XDG_CACHE_HOME"
        ) from None


def remove(names: list[str]) -> None:
    """Take arrays away; who has mapped one keeps what it has."""
    if not (place := folder()).is_dir():
        return
    for name in names:
        cache.forget(place / name)
        _clear_unused(place / name)


def sweep() -> None:
    """Take away what no living process uses."""
    for lock in folder().glob(f"*{USED_NAME}"):
        _clear_unused(lock.with_name(lock.name.removesuffix(USED_NAME)))


def _clear_unused(path: Path) -> None:
    with suppress(FileNotFoundError, BlockingIOError), _beside(path, USED_NAME).open("rb") as used:
        fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _clear_partials(path)
        cache.forget(path)
        for each in (_beside(path, MAKING_NAME), _beside(path, USED_NAME)):
            each.unlink(missing_ok=True)


def _sharing(path: Path) -> BinaryIO:
    """The lock of those who use a file, which nobody has removed in the meantime."""
    while True:
        used = _beside(path, USED_NAME).open("ab")
        fcntl.flock(used, fcntl.LOCK_SH)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(used.fileno()), _beside(path, USED_NAME).stat()):
                return used
        used.close()


def _make(path: Path, shape: tuple[int, int], dtype: DTypeLike, make: Make) -> None:
    """Make a file, after what a killed maker has left is taken away."""
    _clear_partials(path)
    partial = _beside(path, f".{os.getpid()}{PARTIAL_NAME}")
    size = shape[0] * shape[1] * np.dtype(dtype).itemsize
    try:
        with partial.open("w+b") as file:
            _reserve(file, size)
            mapped = mmap.mmap(file.fileno(), size)  # closed with the last view of it
            make(np.frombuffer(mapped, dtype).reshape(shape))
            mapped.flush()
        partial.rename(path)
        cache.sign(path)
    finally:
        partial.unlink(missing_ok=True)


def _reserve(file: BinaryIO, size: int) -> None:
    """Room for a file: a full disk is an error now, not a signal later; macOS cannot promise."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)


def _clear_partials(path: Path) -> None:
    for partial in path.parent.glob(f"{path.name}.*{PARTIAL_NAME}"):
        partial.unlink(missing_ok=True)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
