"""Arrays of one's own in a NumPy archive."""

import io
from pathlib import Path

import numpy as np

from storage.errors import CampaignError
from workers.data.collection import Collection
from workers.data.dataset import Array
from workers.data.files import read

NAMES = ("x_train", "y_train", "x_test", "y_test")


def location(file: str | Path) -> Path:
    """Where the archive is."""
    return Path(file).expanduser()


def load(file: str | Path, outputs: int = 1) -> Collection:
    """The pool x_train (n, d), y_train (n, outputs), with x_test, y_test reserved for testing.

    One output may be (n,) as well.

    CampaignError for a file that is not such an archive, and for numbers that are not finite.
    Pickled objects are never loaded.
    """
    path = location(file)
    x_train, y_train, x_test, y_test = _arrays(path)
    _check_pair(x_train, y_train, "train", path, outputs)
    _check_pair(x_test, y_test, "test", path, outputs)
    if x_train.shape[1] != x_test.shape[1]:
        raise CampaignError(
            f"x_train in {path} has {x_train.shape[1]} columns and x_test {x_test.shape[1]}; "
            "write inputs of one dimension"
        )
    targets = np.concatenate([y.reshape(-1, outputs) for y in (y_train, y_test)])
    targets = targets[:, 0] if outputs == 1 else targets
    return Collection(np.concatenate([x_train, x_test]), targets, reserved=len(x_test))


def _arrays(path: Path) -> list[Array]:
    content = read(path)
    try:
        archive = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # NumPy lists no errors of a damaged archive
        raise _unreadable(path, error) from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise CampaignError(f"{path} holds one bare array; write {', '.join(NAMES)} by numpy.savez")
    with archive:
        if absent := [name for name in NAMES if name not in archive.files]:
            raise CampaignError(
                f"{path} has no array {absent[0]}, only {archive.files}; "
                f"write {', '.join(NAMES)} by numpy.savez"
            )
        return [_numbers(archive, name, path) for name in NAMES]


def _numbers(archive: np.lib.npyio.NpzFile, name: str, path: Path) -> Array:
    try:
        array = np.asarray(archive[name])
    except Exception as error:  # as above
        raise _unreadable(path, error, name) from error
    if array.dtype.kind not in "biuf":
        raise CampaignError(f"{name} in {path} has dtype {array.dtype}; write real numbers")
    numbers = array.astype(np.float64)
    if bad := int(np.count_nonzero(~np.isfinite(numbers))):
        raise CampaignError(
            f"{name} in {path} holds {bad} values that are NaN or infinite; leave such points out"
        )
    return numbers


def _unreadable(path: Path, error: Exception, name: str = "") -> CampaignError:
    what = f"{name} in {path}" if name else f"{path}"
    reason = " ".join(str(error).split()) or type(error).__name__
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
