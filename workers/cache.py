"""Where this user's files lie that can be made again: compiled kernels, shared arrays, data."""

import errno
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
        raise PermissionError(
            errno.EACCES,
            "found a folder that others can write, wanted one of yours; name one in XDG_CACHE_HOME",
            str(ours),
        )
    return ours
