"""Whatever is damaged in a finished store is found, and never read as data.

`pytest -m faults` damages every file in every way, and prints what became of it; without the
marker one file of each kind is damaged, in some of the ways.
"""

import os
import shutil
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import xarray as xr

from pipelines.commands.checking import ROUNDS, look
from pipelines.engine import stages
from storage.backend.reader import open_campaign
from storage.errors import CampaignError
from storage.files import compaction
from storage.files.lease import acquire
from storage.store.store import Store
from storage.verification.repair import repair
from storage.verification.verify import Cure
from support.damages import DAMAGES, Damage, kind
from support.driving import contents, prepared, simulate

pytestmark = pytest.mark.slow
SETTINGS = (
    "sweep={size: {network.width: [4, 8]}}",
    "ensemble={datasets: 1, chains: 4, block: 2}",
    "sampler.draws=4",
    "regression.repeats=2",
    "regression.pool=12",
    "observe={points: 4, histograms: false, kernels: false, overlaps: false}",
    "theories=[nngp, effective_ridge]",
)
# Of these nothing follows, and what they say besides being JSON nobody can tell.
UNTOLD = ("ledger lease",)
# Notes, without which stages run again or nobody knows what failed once: their loss is no damage.
NOTES = (
    "provenance/stages.json",
    "provenance/predictions.json",
    "ledger failures",
    "ledger pace.json",
    "ledger segments",
    "checkpoints ensemble spare",
    "checkpoints check spare",
)
# A shard without a receipt is one that is not finished, and nothing is lost: a run computes it.
UNFINISHED = ("receipts spectrum", "receipts ensemble warm", "receipts check warm")


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Store:
    """A campaign that has come to its end, with its report."""
    campaign = prepared(tmp_path_factory.mktemp("finished"), *SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compaction, "SIZE", 5)
        simulate(campaign)
    campaign.store.ledger.fail("ensemble/0123456789abcdef/d0000-b0000-s00000", {"error": "x"})
    stages.analyze(campaign.store, campaign.plugins)
    return campaign.store


@pytest.fixture(scope="module")
def whole(finished) -> xr.DataTree:
    """All its numbers."""
    return open_campaign(finished.url).load()


def files(store: Store) -> list[Path]:
    return [Path(name) for name in contents(store.url)]


def copied(store: Store, folder: Path) -> Store:
    """A copy of a store in a folder; of one that is there, what has changed is put back."""
    top, place = Path(store.url), folder / Path(store.url).name
    wanted, found = _files(top), _files(place)
    for name in found.keys() - wanted.keys():
        (place / name).unlink()
    for name in [name for name, about in wanted.items() if found.get(name) != about]:
        if (place / name).is_dir():
            (place / name).rmdir()
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(top / name, place / name)
    return Store(str(place))


def _files(top: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file."""
    found = {}
    for place, _, names in os.walk(top):
        for name in names:
            about = os.stat(os.path.join(place, name))
            found[os.path.relpath(os.path.join(place, name), top)] = (
                about.st_size,
                about.st_mtime_ns,
            )
    return found


def outcome(store: Store, whole: xr.DataTree, name: Path, damage: Damage) -> str:
    """What became of a damage: how it was found, after it was seen that it is not read."""
    damage(Path(store.url), name)
    with suppress(CampaignError):  # it is refused
        found = open_campaign(store.url).load()
        if kind(name).startswith("receipts"):  # without one a shard is read as unfinished
            found = filled(found, whole)
        xr.testing.assert_identical(found, whole)
    cures: set[Cure] = set()
    for _ in range(ROUNDS + 1):
        if not (bad := look(store)):
            break
        cures |= {each.cure for each in bad}
        if Cure.NONE in cures:
            return "named"
        with acquire(store.objects):
            repair(store, bad)
        store = Store(store.url)
    assert bad == []
    if not cures:
        return "not found"
    return f"cured: {', '.join(sorted(each.name.lower() for each in cures))}"


def filled(found: xr.DataTree, whole: xr.DataTree) -> xr.DataTree:
    """What is masked is as it is in the whole; all else must be so by itself."""

    def fill(node: xr.Dataset, other: xr.Dataset) -> xr.Dataset:
        known = node.drop_vars("finished", errors="ignore")
        kept = {n: v.fillna(other[n]) for n, v in known.data_vars.items() if v.dtype.kind == "f"}
        return node.assign(kept | {n: other[n] for n in node.data_vars if n == "finished"})

    return xr.map_over_datasets(fill, found, whole, kwargs=None)


def expected(name: Path, damage: Damage, found: str) -> bool:
    """Whether a damage was found, or is one of the few of which nothing can be said."""
    if found != "not found":
        return True
    missing = damage.__name__ in ("deleted", "made_a_folder")
    return kind(name) in UNTOLD or (missing and kind(name) in UNFINISHED + NOTES)


def representatives(store: Store) -> list[Path]:
    """One file of each kind."""
    return [*{kind(name): name for name in files(store)}.values()]


def test_damage_of_every_kind_is_found_and_never_read(finished, whole, tmp_path):
    names = representatives(finished)
    cases = [(name, DAMAGES[3 * i % 7]) for i, name in enumerate(names)]
    survived(finished, whole, tmp_path, cases)


@pytest.mark.faults
@pytest.mark.timeout(7200)
def test_damage_of_every_file_is_found_and_never_read(finished, whole, tmp_path):
    cases = [(name, damage) for name in files(finished) for damage in DAMAGES]
    survived(finished, whole, tmp_path, cases)


def survived(store: Store, whole: xr.DataTree, folder: Path, cases: list) -> None:
    """Damage a copy in each way, and print how often what became of it."""
    counts: Counter[str] = Counter()
    missed = []
    for name, damage in cases:
        found = outcome(copied(store, folder / "copy"), whole, name, damage)
        counts[found] += 1
        if not expected(name, damage, found):
            missed.append(f"{damage.__name__} {name}")
    print(f"{len(cases)} damages: {dict(counts)}")
    assert missed == [], len(missed)
