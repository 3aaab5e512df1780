"""Identities: sha256 of canonical JSON, from which directories, receipts and noise get their names.

Canonical JSON has sorted keys, no blanks, shortest float representation, and leaves out what has
its default value, so that a setting added later does not change the identities of older campaigns.
Files and modules of the user's enter by the sha256 of their content, never by their place.
"""

import hashlib
import itertools
import json
from collections.abc import Mapping
from typing import cast

from storage.campaign.frozen import Frozen
from storage.campaign.resolved import regressed
from storage.campaign.schemes import AUTO
from storage.campaign.spec import ADAPTED_NUMERICS, NUMERICS, QUARTIC_NUMERICS, Campaign

# name of a file or module -> sha256 of its content; and how its test points are taken
Sources = Mapping[str, str]
NO_SOURCES: Sources = {}


def digest(content: object) -> str:
    """sha256 of the canonical JSON of nested mappings, lists, numbers and text."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def campaign_identity(spec: Campaign, sources: Sources = NO_SOURCES) -> str:
    """Identity of a campaign: what may not change while its store grows.

    Left out are its name and title, and all that may be extended or predicted anew: the values of
    the sweep, datasets, chains, draws, repeats and theories.
    """
    content = {
        "numerics": numerics_of(spec),
        "version": spec.version,
        "sources": dict(sources),
        "data": _data(spec),
        "network": _canonical(spec.network),
        "sampler": _canonical(spec.sampler, "draws", "step_check"),
        "ensemble": _canonical(spec.ensemble, "datasets", "chains"),
        "regression": _canonical(spec.regression, "repeats"),
        "observe": _canonical(spec.observe),
        "sweep": {axis: sorted(settings) for axis, settings in spec.sweep.items()},
    }
    for settings in spec.sweep.values():
        for path in settings:
            _remove(content, path)
        if "network.depth" in settings:  # the deepest cell fixes the length of `layer`
            content["depth"] = max(cast("list[int]", settings["network.depth"]))
    return digest(content)


def numerics_of(spec: Campaign) -> int:
    """The number that a change of what is computed raises: the largest of its parts."""
    return max(_ensemble_numerics(spec), _regression_numerics(spec))


def _ensemble_numerics(spec: Campaign) -> int:
    if (sampler := spec.sampler) is None:
        return NUMERICS
    swept = [axis.get("sampler.step_size", []) for axis in spec.sweep.values()]
    found = AUTO in [sampler.step_size, *itertools.chain.from_iterable(swept)]
    adapted = sampler.scheme == AUTO or (sampler.damping is not None and found)
    return ADAPTED_NUMERICS if adapted else NUMERICS


def _regression_numerics(spec: Campaign) -> int:
    quartic = spec.regression is not None and spec.regression.quartic is not None
    return QUARTIC_NUMERICS if quartic else NUMERICS


def cell_identity(spec: Campaign, sources: Sources = NO_SOURCES) -> str:
    """Identity of one resolved cell of the ensemble; with the seed it keys the noise."""
    return digest(
        {
            "numerics": _ensemble_numerics(spec),
            "version": spec.version,
            "sources": dict(sources),
            "data": _data(spec),
            "network": _canonical(spec.network),
            "sampler": _canonical(spec.sampler, "draws", "segment", "step_check"),
            "ensemble": _canonical(spec.ensemble, "datasets", "chains", "block"),
        }
    )


def regression_identity(spec: Campaign, sources: Sources = NO_SOURCES) -> str:
    """Identity of one regression: cells that differ in what it does not see share it."""
    return digest(
        {
            "numerics": _regression_numerics(spec),
            "version": spec.version,
            "sources": dict(sources),
            "data": _data(spec, "train"),
            "kernel": _canonical(regressed(spec).kernel),
            "regression": _canonical(spec.regression, "repeats", "kernel"),
        }
    )


def data_identity(spec: Campaign, sources: Sources = NO_SOURCES) -> str:
    """Identity of the data without `train`, so that smaller training sets are prefixes.

    Of the user's modules only that of the data counts: cells that differ in the network are paired.
    """
    module = f"plug-in {spec.data.source.partition(':')[0]}"
    known = {k: v for k, v in sources.items() if not k.startswith("plug-in ") or k == module}
    return digest({"sources": known, "data": _data(spec, "train")})


def seed_of(seed: int, *key: str | int) -> int:
    """A 64-bit seed: the first eight bytes of the digest of the campaign's seed and a key."""
    return int(digest([seed, *key])[:16], 16)


def _canonical(section: Frozen | None, *left_out: str) -> dict[str, object] | None:
    if section is None:
        return None
    return section.model_dump(mode="json", exclude_defaults=True, exclude=set(left_out))


def _data(spec: Campaign, *left_out: str) -> dict[str, object]:
    """The data section; folders and files are left out, since their content stands in `sources`."""
    return spec.data.model_dump(
        mode="json", exclude_defaults=True, exclude={"folder", "file", *left_out}
    )


def _remove(content: dict[str, object], path: str) -> None:
    """Take a swept setting out: its values belong to the sweep."""
    *parents, last = path.split(".")
    place: object = content
    for key in parents:
        if isinstance(place, dict):
            place = place.get(key)
        elif isinstance(place, list):
            place = place[int(key)]
    if isinstance(place, dict):
        place.pop(last, None)
    elif isinstance(place, list):
        place[int(last)] = None
