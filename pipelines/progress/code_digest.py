"""A digest of code and libraries: what was made by others may have to be made anew."""

import hashlib
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path


def code_digest(files: Iterable[Path], libraries: Sequence[str]) -> str:
    """sha256 of the content of files, in their order, and of the versions of libraries."""
    found = hashlib.sha256(repr([version(name) for name in libraries]).encode())
    for path in files:
        found.update(path.read_bytes())
    return found.hexdigest()
