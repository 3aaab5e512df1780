"""Fetching the official image files, only when asked to.

pooch is imported where it is used: nothing else needs it.
"""

import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from storage.errors import CampaignError
from workers.data.files import place
from workers.data.images.cifar import UNPACKED
from workers.machine import cache


@dataclass(frozen=True)
class Remote:
    """Files at an address, with their digests; an archive unpacks into the folder `unpacked`."""

    address: str
    digests: Mapping[str, str]  # file name -> "algorithm:hexadecimal"
    unpacked: str | None = None


REMOTES = {
    "mnist": Remote(
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        {
            "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
    "cifar10": Remote(
        "https://www.cs.toronto.edu/~kriz",
        {"cifar-10-binary.tar.gz": "md5:c32a1d4ab5d03f1284b67883e8d87530"},
        UNPACKED,
    ),
}


def download(name: str, folder: str | Path | None = None) -> Path:
    """Fetch "mnist" or "cifar10" and return the folder to give as `folder` of the data.

    Without a folder they go to the user's cache. What is there with the right digest is kept.
    """
    if name not in REMOTES:
        raise CampaignError(f"no data set {name} to download; choose from {', '.join(REMOTES)}")
    return fetch(REMOTES[name], place(folder) if folder else cache.folder() / name)


def fetch(remote: Remote, folder: Path) -> Path:
    """Fetch what is missing, check every digest and unpack; CampaignError where that fails."""
    paths = [
        _retrieve(f"{remote.address}/{name}", digest, folder)
        for name, digest in remote.digests.items()
    ]
    if remote.unpacked is None:
        return folder
    for path in paths:
        _unpack(path, folder)
    return folder / remote.unpacked


def _retrieve(url: str, digest: str, folder: Path) -> Path:
    name = url.rpartition("/")[2]
    try:
        return Path(_pooch().retrieve(url, known_hash=digest, fname=name, path=folder))
    except (OSError, ValueError) as error:  # the first covers requests, the second digests
        reason = " ".join(str(error).split())
        raise CampaignError(
            f"{url} could not be fetched to {folder} ({reason}); try again, or put {name} there"
        ) from error


def _unpack(archive: Path, folder: Path) -> None:
    try:
        with tarfile.open(archive, "r:gz") as tar:
            tar.extractall(folder, filter="data")  # nothing outside the folder, no devices
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise CampaignError(
            f"{archive} could not be unpacked ({error}); remove it and download it again"
        ) from error


def _pooch():
    try:
        import pooch
    except ImportError as error:
        raise CampaignError("downloads need pooch, which is missing; install it") from error
    return pooch
