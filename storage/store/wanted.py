"""What each object of data.zarr must hold, by all else that is stored of a campaign.

The region of a shard must be what its receipt says, and `finished` is what receipts say, whatever
the flags: a shard without a receipt is read as unfinished. All else must have the digest in
`storage.store.digests`. A chunk that was checked is not checked again.
"""

import hashlib
from collections.abc import Iterator

from storage.arrays.layout import FLAG, GROUPS, Layout, Stored, layout, shard_at
from storage.errors import CampaignError
from storage.files.ledger import Ledger
from storage.files.objects import Objects
from storage.files.segments import Copies
from storage.planning.plan import Cell, plan
from storage.store import archive
from storage.store.digests import Digests, digest

METADATA = "zarr.json"  # of a group or an array; of the root where no path comes before it
_RECEIPTS = 4096  # whose digests are held in memory


class Wanted:
    """What the objects of data.zarr must hold, by all else that is stored of a campaign."""

    def __init__(self, campaign: Objects) -> None:
        self.campaign = campaign
        self.digests = Digests(campaign)
        self._ledger = Ledger(campaign)
        self._copies = Copies(campaign)
        self._layout: Layout | None = None
        self._cells: dict[str, tuple[Cell, ...]] | None = None
        self._sound: set[str] = set()
        self._receipts: dict[str, dict[str, bytes]] = {}

    def forget(self) -> None:
        """Groups or cells have been added."""
        self._layout = self._cells = None

    def layout(self) -> Layout:
        """The arrays of shards that are published; none where nobody can read which."""
        if self._layout is None:
            try:
                self._layout = layout(self.campaign.get(f"data.zarr/{METADATA}") or b"{}")
            except ValueError:
                self._layout = Layout(b"{}")
        return self._layout

    def everything(self) -> Iterator[str]:
        """All objects of data.zarr that are no region of a shard."""
        for name in self.campaign.names("data.zarr"):
            key = name.partition("/")[2]
            if self.layout().find(key) is None:
                yield key

    def checked(self, key: str, data: bytes | None) -> bool:
        """Whether an object is to be seen as it is; one that is unfinished is not.

        Raises CampaignError where it is missing, or is not what was written.
        """
        if key in self._sound:
            return True
        found = self.layout().find(key)
        if found is None:
            self._check_listed(key, data)
            return True
        shard = shard_at(*found, self._all_cells()[found[0].path.partition("/")[0]])
        if shard is None:
            return True
        digests = self._receipt(shard.name)
        if digests is not None and _fault(found[0], data, digests):
            digests = self._receipt(shard.name, itself=True)  # a copy of it may be wrong
            if digests is not None and (fault := _fault(found[0], data, digests)):
                fault += f", says the receipt of {shard.name}"
                raise self._refused(key, fault, "and a run computes it again")
        if digests is not None:
            self._sound.add(key)
        return digests is not None or not found[0].path.endswith(f"/{FLAG}")

    def is_described(self, group: str) -> bool:
        """Whether the metadata of a group and of its arrays are as they were written."""
        keys = [key for key in self.digests.below(group) if key.endswith(METADATA)]
        try:
            for key in keys:
                self._check_listed(key, self.campaign.get(f"data.zarr/{key}"))
        except CampaignError:
            return False
        return True

    def _check_listed(self, key: str, data: bytes | None) -> None:
        for _ in range(2):
            wanted = self.digests.wanted(key)
            if wanted is None or (data is not None and digest(data) == wanted):
                return
            self.digests.look_again()
        found = "is missing" if data is None else "is not what was written there"
        raise self._refused(key, f"{found}", "and a run makes it anew")

    def _refused(self, key: str, found: str, then: str) -> CampaignError:
        url = self.campaign.url
        return CampaignError(
            f"{url}/data.zarr/{key} {found}; clear it with `finitewidth verify --repair {url}`, "
            f"{then}"
        )

    def _all_cells(self) -> dict[str, tuple[Cell, ...]]:
        if self._cells is None:
            specs = archive.specs(self.campaign)
            if not specs:
                return dict.fromkeys(GROUPS.values(), ())
            sources, rounds = archive.sources(self.campaign), archive.rounds(self.campaign)
            planned = plan(specs[-1], specs, sources, rounds)
            self._cells = {GROUPS["ensemble"]: planned.cells, GROUPS["check"]: planned.cells}
            self._cells[GROUPS["regression"]] = planned.regressions
        return self._cells

    def _receipt(self, name: str, itself: bool = False) -> dict[str, bytes] | None:
        """The digests in the receipt of a shard, None while it has none. Threads may meet here.

        From a copy of it where there is one, unless the receipt `itself` is asked for.
        """
        if not itself and (known := self._receipts.get(name)) is not None:
            return known
        found = self._read_receipt(name, itself)
        if found is not None:
            if len(self._receipts) >= _RECEIPTS:
                self._receipts.clear()
            self._receipts[name] = found
        return found

    def _read_receipt(self, name: str, itself: bool) -> dict[str, bytes] | None:
        copy = None if itself else self._copies.receipt(name)
        receipt = copy or self._ledger.receipt(name)
        if receipt is None:
            return None
        try:
            if receipt["shard"] != name:
                raise ValueError(name)
            return {key: bytes.fromhex(value) for key, value in receipt["digests"].items()}
        except (LookupError, AttributeError, TypeError, ValueError):
            raise self._refused("", f"has a receipt of {name} that is another's", "") from None


def _fault(stored: Stored, data: bytes | None, digests: dict[str, bytes]) -> str:
    """What is wrong with a region by the digests of a receipt; nothing where nothing is."""
    name = stored.path.partition("/")[2]
    wanted = hashlib.sha256(b"\1").digest() if name == FLAG else digests.get(name)
    if wanted is None:  # the variable is younger than the shard
        return ""
    if data is None:
        return "is missing"
    try:
        content = stored.decoded(data)
    except ValueError:
        return "cannot be read"
    return "" if hashlib.sha256(content).digest() == wanted else "is not what was computed"
