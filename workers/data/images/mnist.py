"""MNIST (LeCun, Cortes, Burges 1998) and whatever is kept in the same four files."""

import os
import re
from functools import partial
from pathlib import Path

import numpy as np

from storage.errors import CampaignError
from workers.data.collection import Images
from workers.data.files import existing_folder, unpacked
from workers.data.images.idx import parse, size_of

PARTS = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
SUBSETS = {"train": ("train",), "test": ("test",), "all": ("train", "test")}


def files(folder: str | Path, subset: str) -> dict[str, Path]:
    """Where the files of a subset ("train", "test" or "all") are, by their official names."""
    names = [name for part in SUBSETS[subset] for name in PARTS[part]]
    place = existing_folder(folder, "the IDX files of MNIST")
    return {name: _find(place, name) for name in names}


def load(folder: str | Path, subset: str) -> Images:
    """Images of a subset as rows of pixels, the rows of an image one after the other."""
    paths = files(folder, subset)
    parts = [_load(*PARTS[part], paths) for part in SUBSETS[subset]]
    sizes = sorted({images.pixels.shape[1] for images in parts})
    if len(sizes) > 1:
        raise CampaignError(
            f"training and test images in {folder} have {sizes[0]} and {sizes[1]} pixels; "
            "put files of the same data set in the folder"
        )
    return Images(
        np.concatenate([images.pixels for images in parts]),
        np.concatenate([images.labels for images in parts]),
        255.0,
        tuple(part for images in parts for part in images.parts),
    )


def content(name: str, path: Path) -> bytes:
    """The bytes of the file of an official name, which says how many dimensions there are."""
    return unpacked(path, partial(size_of, dimensions=_dimensions(name), name=str(path)))


def _dimensions(name: str) -> int:
    found = re.search(r"idx(\d)", name)
    assert found is not None
    return int(found[1])


def _find(folder: Path, name: str) -> Path:
    spellings = [name, name.replace("-idx", ".idx")]
    accepted = [spelling + suffix for spelling in spellings for suffix in ("", ".gz")]
    for candidate in accepted:
        if os.path.isfile(folder / candidate):
            return folder / candidate
    raise CampaignError(f"{folder} has no {name}; accepted names are {', '.join(accepted)}")


def _load(images_name: str, labels_name: str, paths: dict[str, Path]) -> Images:
    image_file, label_file = paths[images_name], paths[labels_name]
    images, labels = (
        parse(content(name, paths[name]), _dimensions(name), str(paths[name]))
        for name in (images_name, labels_name)
    )
    if len(images) != len(labels):
        raise CampaignError(
            f"{image_file} holds {len(images)} images but {label_file.name} {len(labels)} labels; "
            "put files that belong together in the folder"
        )
    if labels.max() > 9:
        raise CampaignError(
            f"{label_file} holds the label {labels.max()}, but labels are 0 to 9; "
            "put the official file in its place"
        )
    pixels = images.reshape(len(images), -1)
    return Images(pixels, labels, 255.0, ((images_name, len(images)),))
