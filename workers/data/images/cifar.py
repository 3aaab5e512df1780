"""CIFAR-10 (Krizhevsky 2009), the binary version: records of one label byte and 3072 pixels."""

import os
from pathlib import Path

import numpy as np

from storage.errors import CampaignError
from workers.data.collection import Images
from workers.data.files import existing_folder, unpacked

RECORD = 1 + 3 * 32 * 32  # bytes
MOST_RECORDS = 100_000  # records of a packed file, ten times those of an official one
TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
SUBSETS = {"train": TRAIN, "test": ("test_batch.bin",), "all": (*TRAIN, "test_batch.bin")}
UNPACKED = "cifar-10-batches-bin"  # the folder in the official archive
PICKLED = ("cifar-10-batches-py", "data_batch_1", "test_batch")


def files(folder: str | Path, subset: str) -> dict[str, Path]:
    """Where the files of a subset ("train", "test" or "all") are, by their official names.

    They lie in the folder itself or in the folder of the official archive below it. The pickled
    version is refused: unpickling a file runs whatever code is in it.
    """
    place = existing_folder(folder, "the binary version of CIFAR-10")
    if os.path.isdir(place / UNPACKED):
        place = place / UNPACKED
    for name in SUBSETS[subset]:
        if not os.path.isfile(place / name):
            _refuse(place, name, SUBSETS[subset])
    return {name: place / name for name in SUBSETS[subset]}


def load(folder: str | Path, subset: str) -> Images:
    """Images of a subset as rows of 3072 pixels: the red, then the green, then the blue plane."""
    parts = {name: _records(path) for name, path in files(folder, subset).items()}
    records = np.concatenate([*parts.values()])
    lengths = tuple((name, len(part)) for name, part in parts.items())
    return Images(records[:, 1:], records[:, 0], 255.0, lengths)


def content(path: Path) -> bytes:
    """The bytes of a file."""
    return unpacked(path, lambda _: MOST_RECORDS * RECORD)


def _refuse(folder: Path, name: str, accepted: tuple[str, ...]) -> None:
    if any(os.path.exists(folder / pickled) for pickled in PICKLED):
        raise CampaignError(
            f"{folder} holds the pickled version of CIFAR-10, which is not read because unpickling "
            "runs code; unpack the binary version, cifar-10-binary.tar.gz, instead"
        )
    raise CampaignError(
        f"{folder} has no {name}; unpack cifar-10-binary.tar.gz, which holds {', '.join(accepted)}"
    )


def _records(path: Path) -> np.ndarray:
    found = content(path)
    if not found or len(found) % RECORD:
        raise CampaignError(
            f"{path} has {len(found)} bytes, not a multiple of the {RECORD} of a record; "
            "put the complete file in its place"
        )
    records = np.frombuffer(found, np.uint8).reshape(-1, RECORD)
    if records[:, 0].max() > 9:
        raise CampaignError(
            f"{path} holds the label {records[:, 0].max()}, but labels are 0 to 9; "
            "put the official binary file in its place"
        )
    return records
