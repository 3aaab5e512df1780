"""Reading files, with every failure in one line, and never more of them than memory holds."""

import gzip
import hashlib
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from storage.errors import CampaignError
from workers.machine import memory

GZIP = b"\x1f\x8b"
HEAD = 16  # bytes that say how long a file of ours is
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def place(name: str | Path) -> Path:
    """The whole path of a file or folder that a spec names."""
    try:
        return Path(name).expanduser().resolve()
    except (OSError, RuntimeError) as error:  # no such user, or links that lead in a circle
        reason = getattr(error, "strerror", None) or error
        raise CampaignError(f"{name} leads nowhere ({reason}); write the whole path") from error


def existing_folder(folder: str | Path, wanted: str) -> Path:
    """The folder, or CampaignError saying that it should hold what is `wanted`."""
    path = place(folder)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        found = "does not exist"
    except (OSError, ValueError) as error:
        found = f"cannot be looked at ({getattr(error, 'strerror', None) or error})"
    else:
        if stat.S_ISDIR(mode):
            return path
        found = "is not a folder"
    raise CampaignError(f"folder {path} {found}; name the folder that holds {wanted}")


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """A plain file that is not empty, open for reading: a device or a pipe may never end."""
    try:
        found = path.stat()
        kind = next((kind for test, kind in _KINDS if test(found.st_mode)), None)
        if kind is not None:
            raise CampaignError(f"{path} cannot be read (it is {kind}); name a file")
        if not found.st_size:
            raise CampaignError(f"{path} is empty; put the complete file in its place")
        with path.open("rb") as file:
            yield file
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CampaignError(
            f"{path} cannot be read ({reason}); check its name and permissions"
        ) from error


def unpacked(path: Path, size: Callable[[bytes], int]) -> bytes:
    """The bytes of a file, decompressed where their first two say gzip (the name does not).

    `size` says from the first bytes of the content how many there may be in all: what is packed
    could be a thousand times longer than its file. CampaignError where there are more.
    """
    with opened(path) as file:
        packed = file.read(len(GZIP)) == GZIP
        file.seek(0)
        if not packed:
            size(file.read(HEAD))
            file.seek(0)
            _require(path, os.fstat(file.fileno()).st_size)
            return file.read()
        with gzip.GzipFile(fileobj=file) as content:
            try:
                head = content.read(HEAD)
                most = size(head)
                _require(path, most)
                found = head + content.read(most + 1 - len(head))
            except (OSError, EOFError, zlib.error) as error:
                raise CampaignError(
                    f"{path} is a damaged gzip file ({error}); put the complete file in its place"
                ) from error
    if len(found) > most:
        raise CampaignError(
            f"{path} is too long: it unpacks to more than {most} bytes; put the official file in "
            "its place"
        )
    return found


def _require(path: Path, size: int) -> None:
    memory.require(size, f"{path}", "take a smaller file, or a machine with more")


def sha256(content: bytes) -> str:
    """Digest of the content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def sha256_of(path: Path) -> str:
    """Digest of a file as it lies there, in hexadecimal."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
