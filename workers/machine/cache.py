"""Where this user's files lie that can be made again: compiled kernels, shared arrays, data."""

import errno
import hashlib
import os
import stat
import tempfile
from pathlib import Path

NAME = "finitewidth"


def folder() -> Path:
    """In $XDG_CACHE_HOME or ~/.cache; among the temporary files where no home can be written.

    It need not exist yet. All processes of a user on a machine have the same one. OSError
    where there is no such place at all.
    """
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named) / NAME
    return home / ".cache" / NAME if (home := _home()) else _temporary()


def tell_libraries() -> None:
    """Let matplotlib keep its fonts here where there is no home, or it complains at length."""
    if not _home():
        os.environ.setdefault("MPLCONFIGDIR", str(_temporary() / "matplotlib"))


def _home() -> Path | None:
    """The user's home; None where it takes no files."""
    try:
        home = Path.home()
    except RuntimeError:  # a user whom the system does not know, as in a container
        return None
    return home if _can_be_written(home / ".cache" / NAME) else None


def _can_be_written(path: Path) -> bool:
    """Whether a folder can take files, or can be made."""
    while not os.path.lexists(path):
        path = path.parent
    return path.is_dir() and os.access(path, os.W_OK | os.X_OK)


def _temporary() -> Path:
    """A folder that only this user can write: what lies in it is run, and others know its name."""
    ours = Path(tempfile.gettempdir()) / f"{NAME}-{os.getuid()}"
    ours.mkdir(mode=0o700, exist_ok=True)
    found = ours.lstat()
    private = stat.S_ISDIR(found.st_mode) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not private or found.st_uid != os.getuid():
        raise _not_ours(ours)
    return ours


def private(place: Path) -> Path:
    """The same folder, made if it is not there, of this user and closed to all others.

    What lies in it is run or believed. PermissionError where it is another user's.
    """
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = place.stat()
    if found.st_uid != os.getuid():
        raise _not_ours(place)
    if stat.S_IMODE(found.st_mode) & 0o077:
        place.chmod(0o700)
    return place


def sign(file: Path) -> None:
    """Write down the sha256 of a file beside it, in one step."""
    beside = _signature(file)
    partial = beside.with_name(f"{beside.name}.{os.getpid()}.partial")
    partial.write_text(_digest(file))
    partial.rename(beside)


def is_signed(file: Path) -> bool:
    """Whether a file is what was signed; nothing else of the cache is believed."""
    try:
        return _signature(file).read_text() == _digest(file)
    except (OSError, ValueError):
        return False


def forget(file: Path) -> None:
    """Take a file away, and its signature."""
    file.unlink(missing_ok=True)
    _signature(file).unlink(missing_ok=True)


def _signature(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _not_ours(place: Path) -> PermissionError:
    return PermissionError(
        errno.EACCES,
        "found a folder that others can write, wanted one of yours; name one in XDG_CACHE_HOME",
        str(place),
    )
