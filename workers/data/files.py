"""Reading files, with every failure in one line."""

import gzip
import hashlib
import os
import zlib
from pathlib import Path

from storage.errors import CampaignError

GZIP = b"\x1f\x8b"


def existing_folder(folder: str | Path, wanted: str) -> Path:
    """The folder, or CampaignError saying that it should hold what is `wanted`."""
    path = Path(folder).expanduser()
    if not os.path.isdir(path):
        found = "is not a folder" if os.path.isfile(path) else "does not exist"
        raise CampaignError(f"folder {path} {found}; name the folder that holds {wanted}")
    return path


def read(path: Path) -> bytes:
    """The bytes of a file that is not empty."""
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CampaignError(
            f"{path} cannot be read ({reason}); check its name and permissions"
        ) from error
    if not content:
        raise CampaignError(f"{path} is empty; put the complete file in its place")
    return content


def unpacked(path: Path) -> bytes:
    """The bytes of a file, decompressed where their first two say gzip (the name does not)."""
    content = read(path)
    if not content.startswith(GZIP):
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise CampaignError(
            f"{path} is a damaged gzip file ({error}); put the complete file in its place"
        ) from error


def sha256(content: bytes) -> str:
    """Digest of the content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()
