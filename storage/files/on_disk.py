"""Files that outlast a power cut: forced to the disk in the order that makes them whole or absent.

The content before its name, and the name before anything that is written afterwards: so whatever a
power cut leaves is what a kill at some moment would have left.
"""

import os
import uuid
from pathlib import Path


def write(path: Path, data: bytes, *, replacing: bool) -> bool:
    """Write a file in one step; False where there is one that is not to be replaced."""
    make(path.parent)
    staged = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with staged.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replacing:
            staged.replace(path)
        else:
            path.hardlink_to(staged)
    except FileExistsError:
        return False
    finally:
        staged.unlink(missing_ok=True)
    _force(path.parent)
    return True


def remove(path: Path) -> None:
    """Remove a file; FileNotFoundError where there is none."""
    path.unlink()
    _force(path.parent)


def make(folder: Path) -> None:
    """Make a folder, with its name in those above it on the disk as well."""
    if folder.is_dir():
        return
    make(folder.parent)
    folder.mkdir(exist_ok=True)
    _force(folder.parent)


def _force(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
