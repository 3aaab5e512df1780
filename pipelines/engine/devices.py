"""On which device a campaign is computed: decided at its first run, and kept."""

from collections.abc import Mapping

from storage.errors import CampaignError
from storage.files.objects import Objects
from storage.store import archive
from workers import numerics
from workers.placement import CUDA, device_type

AUTO = "auto"
DEVICES = (AUTO, "cpu", CUDA)


def decided(known: Mapping[str, str], asked: str, chains: bool) -> dict[str, str]:
    """What a campaign computes with: `known` where it has begun, else what is asked for.

    `auto` goes on where a campaign began. A new one with chains it puts on a GPU where there is
    one; regression alone runs on CPUs. Raises CampaignError for a device other than that on which
    a campaign began, and for one that is not here.
    """
    begun = device_type(known["device"]) if known else ""
    if begun and asked not in (AUTO, begun):
        raise CampaignError(
            f"--device {asked}: this campaign began on {known['device']}, and others compute other "
            "bits; leave --device out, or start it anew with another --store"
        )
    device = begun or (_fastest(chains) if asked == AUTO else asked)
    if why := numerics.why_no(device):
        raise CampaignError(f"{_wish(known, asked)} needs a GPU, and {why}; {_advice(known)}")
    return dict(known) or numerics.describe(device)


def planned(objects: Objects, chains: bool) -> dict[str, str]:
    """What a run would compute with, if it is asked for no device."""
    known = archive.numerics(objects)
    return known or numerics.describe(_fastest(chains))


def _fastest(chains: bool) -> str:
    return CUDA if chains and not numerics.why_no(CUDA) else "cpu"


def _wish(known: Mapping[str, str], asked: str) -> str:
    return f"this campaign began on {known['device']}: it" if known else f"--device {asked}"


def _advice(known: Mapping[str, str]) -> str:
    other = "start it anew with another --store" if known else "leave --device out"
    return f"run it where torch finds one, or {other}"


def words(computed: Mapping[str, str]) -> str:
    """'cpu AVX512, gradients by fused 1'."""
    return f"{computed['device']}, gradients by {computed['backend']}"
