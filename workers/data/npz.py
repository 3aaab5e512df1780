"""Arrays of one's own in a NumPy archive.

It is read member by member, without NumPy's own loader: what the headers announce is looked at
before anything is unpacked, and nothing in a file can make code run.
"""

import math
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from storage.errors import CampaignError
from workers.data.collection import Collection
from workers.data.dataset import Array, Origin
from workers.data.files import opened, place
from workers.data.numbers import REAL, require_finite
from workers.machine import memory

NAMES = ("x_train", "y_train", "x_test", "y_test")
BEGIN = 16  # bytes that tell what a file is
WRITE = f"write {', '.join(NAMES)} by numpy.savez"
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def load(file: str | Path, outputs: int = 1) -> Collection:
    """The pool x_train (n, d), y_train (n, outputs), with x_test, y_test reserved for testing.

    One output may be (n,) as well.

    CampaignError for a file that is not such an archive, and for numbers that are not finite.
    Pickled objects are never loaded.
    """
    path = place(file)
    with opened(path) as stream:
        x_train, y_train, x_test, y_test = _arrays(stream, path)
    _check_pair(x_train, y_train, "train", path, outputs)
    _check_pair(x_test, y_test, "test", path, outputs)
    if x_train.shape[1] != x_test.shape[1]:
        raise CampaignError(
            f"x_train in {path} has {x_train.shape[1]} columns and x_test {x_test.shape[1]}; "
            "write inputs of one dimension"
        )
    targets = np.concatenate([y.reshape(-1, outputs) for y in (y_train, y_test)])
    targets = targets[:, 0] if outputs == 1 else targets
    origin = Origin((("x_train", len(x_train)), ("x_test", len(x_test))))
    return Collection(np.concatenate([x_train, x_test]), targets, origin, reserved=len(x_test))


def test_points(file: str | Path) -> int:
    """How many points x_test holds, by its header; none where that is not an array of points."""
    path = place(file)
    with opened(path) as stream, _archive(stream, path) as archive:
        shape = _header(archive, "x_test", path)[0]
    return shape[0] if shape else 0


def _arrays(stream: BinaryIO, path: Path) -> list[Array]:
    with _archive(stream, path) as archive:
        sizes = [8 * math.prod(_header(archive, name, path)[0]) for name in NAMES]
        memory.require(2 * sum(sizes), f"{path}", "write fewer points, or take a larger machine")
        return [_numbers(archive, name, path) for name in NAMES]


def _archive(stream: BinaryIO, path: Path) -> zipfile.ZipFile:
    begin = stream.read(BEGIN)
    stream.seek(0)
    if begin.startswith(npy.MAGIC_PREFIX):
        raise CampaignError(f"{path} holds one bare array; {WRITE}")
    if begin[:1] == b"\x80" and begin[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        raise CampaignError(
            f"{path} is a pickle, not a NumPy archive; pickles are not read, since that runs the "
            f"code in them: {WRITE}"
        )
    if not begin.startswith(b"PK"):
        raise CampaignError(
            f"{path} is not a NumPy archive (begins with {_words(begin)}); download it anew, or "
            f"{WRITE}"
        )
    try:
        archive = zipfile.ZipFile(stream)
    except Exception as error:  # no list of the errors of a damaged archive is complete
        raise _unreadable(path, error) from error
    names = [name.removesuffix(".npy") for name in archive.namelist()]
    if absent := [name for name in NAMES if f"{name}.npy" not in archive.namelist()]:
        some = ", ".join(names[:6]) + ", ..." * (len(names) > 6) or "nothing"
        raise CampaignError(f"{path} has no array {absent[0]}, only {some}; {WRITE}")
    return archive


def _words(begin: bytes) -> str:
    """The first word of a text, or the first bytes of what is none."""
    text = begin.decode("latin-1").split(maxsplit=1)
    word = text[0][:12] if text else ""
    return f"'{word}'" if word.isascii() and word.isprintable() and word else begin[:8].hex(" ")


def _header(
    archive: zipfile.ZipFile, name: str, path: Path
) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, Fortran order and dtype of an array of real numbers, which the file does hold."""
    try:
        member = archive.getinfo(f"{name}.npy")
        with archive.open(member) as content:
            version = npy.read_magic(content)
            if version not in _HEADERS:
                raise ValueError(f"version {version} of the format holds no plain numbers")
            shape, fortran, dtype = _HEADERS[version](content)
            found = member.file_size - content.tell()
    except Exception as error:  # as above
        raise _unreadable(path, error, name) from error
    if dtype.kind not in REAL:
        objects = " (Python objects)" * dtype.hasobject
        raise CampaignError(
            f"{name} in {path} has dtype {dtype}{objects}; write an array of real numbers"
        )
    if found != (wanted := math.prod(shape) * dtype.itemsize):
        raise CampaignError(
            f"{name} in {path} is damaged: its header announces {wanted} bytes, {found} follow; "
            "put the complete file in its place"
        )
    return shape, fortran, dtype


def _numbers(archive: zipfile.ZipFile, name: str, path: Path) -> Array:
    shape, fortran, dtype = _header(archive, name, path)
    try:
        with archive.open(f"{name}.npy") as content:
            _HEADERS[npy.read_magic(content)](content)
            flat = np.frombuffer(content.read(), dtype)
        array = flat.reshape(shape, order="F" if fortran else "C")
    except Exception as error:  # as above
        raise _unreadable(path, error, name) from error
    with np.errstate(over="ignore"):
        numbers = array.astype(np.float64)
    require_finite(numbers, f"{name} in {path}", "leave such points out")
    return numbers


def _unreadable(path: Path, error: Exception, name: str = "") -> CampaignError:
    what = f"{name} in {path}" if name else f"{path}"
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    return CampaignError(f"{what} cannot be read ({reason}); write plain arrays by numpy.savez")


def _check_pair(x: Array, y: Array, part: str, path: Path, outputs: int) -> None:
    if x.ndim != 2 or 0 in x.shape:
        raise CampaignError(
            f"x_{part} in {path} has shape {x.shape}; write (points, dimension), not empty"
        )
    found = 1 if y.ndim < 2 else y.shape[1]
    if y.ndim in (1, 2) and found != outputs:
        raise CampaignError(
            f"y_{part} in {path} has {found} columns and data.outputs is {outputs}; make them equal"
        )
    if y.ndim not in (1, 2) or len(y) != len(x):
        raise CampaignError(
            f"y_{part} in {path} has shape {y.shape} for {len(x)} inputs; write shape "
            f"{(len(x),) if outputs == 1 else (len(x), outputs)}"
        )
