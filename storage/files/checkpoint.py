"""Arrays between segments: an npz without pickles, named by the caller and known by its digest."""

import hashlib
import io
import zipfile
from collections.abc import Mapping

import numpy as np

from storage.errors import CampaignError
from storage.files.objects import Objects


class CorruptCheckpoint(CampaignError):  # noqa: N818
    """A checkpoint that is not what was saved; the segment before it has to run again."""


def save(objects: Objects, name: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Write arrays under a name, in one step, and return the sha256 of the bytes.

    Equal arrays give equal bytes. An array of Python objects is a ValueError: it would need pickle.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for key in sorted(arrays):
            array = np.asanyarray(arrays[key])
            if array.dtype.hasobject:
                raise ValueError(f"found Python objects in {key!r} of {name}, wanted numbers")
            with archive.open(f"{key}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    data = buffer.getvalue()
    objects.put(name, data)
    return hashlib.sha256(data).hexdigest()


def load(objects: Objects, name: str, digest: str | None) -> dict[str, np.ndarray] | None:
    """The arrays saved under a name, None where there are none.

    CorruptCheckpoint where the bytes do not have this digest (None: any) or hold no arrays.
    """
    data = objects.get(name)
    if data is None:
        return None
    found = hashlib.sha256(data).hexdigest()
    advice = "clear it with `finitewidth verify --repair` and run the campaign again"
    if digest is not None and found != digest:
        raise CorruptCheckpoint(
            f"found {objects.url}/{name} with sha256 {found[:12]}, wanted {digest!s:.12}; {advice}"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {key.removesuffix(".npy"): _read(archive, key) for key in archive.namelist()}
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes make zipfile and NumPy raise nearly anything
        raise CorruptCheckpoint(
            f"found {objects.url}/{name} with {len(data)} bytes that hold no arrays "
            f"({type(error).__name__}); {advice}"
        ) from error


def _read(archive: zipfile.ZipFile, key: str) -> np.ndarray:
    with archive.open(key) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
