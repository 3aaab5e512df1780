"""Stores that somebody has made up: whatever they hold, they are read or refused in one line.

All digests are taken away, so that nothing is refused for having changed.
"""

import copy
import json
import resource
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipelines.commands.status import status
from storage.backend.reader import open_campaign
from storage.errors import CampaignError
from storage.files.sealed import SEAL
from storage.store.store import Store
from storage.verification.verify import verify

pytestmark = pytest.mark.slow
MEMORY = 1 << 28  # bytes
VALUES = (
    None, True, -1, 0, 2**63, 10**400, 1e308, "", "x" * 10_000, "../../etc/passwd", "\x00", "NaN",
    [], [[]], {}, {"a": {"a": {}}}, [10**12], "zstd", "float64", "!!python/object:os.system",
)  # fmt: skip
SPECS = (
    b"", b"\xff\xfe", b"a: &a [*a]", b"[" * 100_000, b"version: 1\n" * 100_000, b"- 1",
    b"\x00" * 100,
    b"version: 1\nname: x\ndata: {source: npz, file: /dev/zero, train: 9, test: 9}\n",
)  # fmt: skip


def places(value):
    """Every (container, key) of nested JSON."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The same JSON with one value gone, replaced, or put elsewhere."""
    raw = json.loads(content)
    raw.pop(SEAL, None)
    found = list(places(raw))
    if not found:
        return b"[]"
    container, key = found[rng.integers(len(found))]
    how = rng.integers(4)
    if how == 0:
        del container[key]
    elif how == 1:
        other, its_key = found[rng.integers(len(found))]
        container[key] = copy.deepcopy(other[its_key])
    else:
        container[key] = VALUES[rng.integers(len(VALUES))]
    return json.dumps(raw).encode()


def hostile(store: Store, folder: Path, seed: int) -> Store:
    """A copy of a store with one file made up by chance."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(store.url, folder)
    shutil.rmtree(folder / "copies")
    (folder / "provenance" / "digests.json").unlink()
    rng = np.random.default_rng(seed)
    kinds = (
        "data.zarr/zarr.json", "data.zarr/zarr.json", "data.zarr/*/zarr.json",
        "data.zarr/ensemble/*/zarr.json", "ledger/receipts/*/*/*.json", "provenance/*.json",
        "specs/*.yaml",
    )  # fmt: skip
    names = sorted(folder.glob(kinds[seed % len(kinds)]))
    path = names[rng.integers(len(names))]
    if path.suffix == ".yaml":
        path.write_bytes(SPECS[seed // len(kinds) % len(SPECS)])
    else:
        path.write_bytes(mutated(path.read_bytes(), rng))
    return Store(str(folder))


def peak() -> int:
    """The most memory that this process has had [bytes]; threads of libraries are counted, too."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def outcome(do) -> str:
    try:
        do()
    except CampaignError as error:
        return "refused" if len(str(error).splitlines()) == 1 else f"many lines: {error}"
    return "read"


def survived(store: Store, folder: Path, seeds: range) -> None:
    """Read every hostile store in three ways; what is raised besides is a defect."""
    counts: Counter[str] = Counter()
    for seed in seeds:
        made = hostile(store, folder, seed)
        for name, do in (
            ("opened", lambda made=made: open_campaign(made.url).load()),
            ("status", lambda made=made: status(Store(made.url))),
            ("verify", lambda made=made: verify(Store(made.url))),
        ):
            before = peak()
            found = outcome(do)
            assert found in ("read", "refused")
            counts[f"{name}: {found}"] += 1
            assert peak() - before < MEMORY
    print(f"{len(seeds)} hostile stores: {dict(sorted(counts.items()))}")


def test_hostile_stores_are_read_or_refused_in_one_line(partial, tmp_path):
    survived(partial, tmp_path / "hostile", range(14))


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_a_hundred_hostile_stores_are_read_or_refused_in_one_line(partial, tmp_path):
    survived(partial, tmp_path / "hostile", range(100))
