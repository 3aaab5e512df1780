"""On which device the chains of a campaign are computed: decided at its first run, and kept."""

from collections.abc import Mapping

from storage.errors import CampaignError
from workers import numerics
from workers.devices.placement import CPU, CUDA, device_type

AUTO = "auto"


def wanted(known: Mapping[str, str], asked: str) -> str:
    """The device of a campaign, as torch names it.

    `auto` goes on where a campaign began. A new one it puts on CPUs: no GPU has been asked yet what
    tests/device/check.py asks. Raises CampaignError for a device other than that on which a
    campaign began.
    """
    begun = device_type(known["device"]) if known else ""
    if begun and asked not in (AUTO, begun):
        raise CampaignError(
            f"--device {asked}: this campaign began on {known['device']}, and others compute other "
            "bits; leave --device out, or start it anew with another --store"
        )
    return begun or (CPU.device if asked == AUTO else asked)


def decided(known: Mapping[str, str], asked: str) -> dict[str, str]:
    """What a campaign computes with in this process: `known` where it has begun, else as asked.

    Raises CampaignError for a device other than that on which a campaign began, and for one that
    is not here.
    """
    device = wanted(known, asked)
    if why := numerics.why_no(device):
        raise CampaignError(f"{_wish(known, asked)} needs a GPU, and {why}; {_advice(known)}")
    return dict(known) or numerics.describe(device)


def _wish(known: Mapping[str, str], asked: str) -> str:
    return f"this campaign began on {known['device']}: it" if known else f"--device {asked}"


def _advice(known: Mapping[str, str]) -> str:
    other = "start it anew with another --store" if known else "leave --device out"
    return f"run it where torch finds one, or {other}"


def planned(known: Mapping[str, str], asked: str) -> str:
    """What a run would compute with, in words: known where it has begun."""
    if not known and wanted(known, asked) == CUDA:
        return f"{CUDA}, as its GPUs are found at the first run"
    return words(dict(known) or numerics.describe())


def words(computed: Mapping[str, str]) -> str:
    """'cpu AVX512, gradients by fused 1'."""
    return f"{computed['device']}, gradients by {computed['backend']}"
