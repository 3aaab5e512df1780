"""What a campaign is, as its store keeps it: specs, hashes of sources, numerics, rounds.

All of it is written once. What has changed since is one line, and so is a spec that is none of
this campaign's: read as if nothing were wrong, it would ask for other shards than are stored.
"""

import json
import re
from collections.abc import Mapping

from storage.campaign.spec import Campaign
from storage.errors import CampaignError
from storage.files.objects import Objects
from storage.planning.identity import Sources, campaign_identity
from storage.planning.plan import Round
from storage.reading.document import dump_yaml, parse_stored
from storage.store import kept

_FOLDER = re.compile(r".*-([0-9a-f]{10})")


def specs(objects: Objects) -> list[Campaign]:
    """Every spec that was run here, the oldest first; none where there is no campaign."""
    names = kept.numbered(objects, "specs", "yaml")
    found = {name: _spec(objects, name, data) for name, data in names}
    if found:
        _check_identity(objects, found, sources(objects))
    return list(found.values())


def add_spec(objects: Objects, spec: Campaign, hashes: Mapping[str, str]) -> list[Campaign]:
    """Keep a spec as the next of the campaign, unless it is the last one already."""
    kept.keep(objects, kept.SOURCES, json.dumps(dict(hashes)).encode())
    known = specs(objects)
    if spec not in known[-1:]:
        kept.keep(objects, f"specs/{len(known) + 1:04d}.yaml", dump_yaml(spec).encode())
        known = [*known, spec]
    kept.complete(objects)
    return known


def sources(objects: Objects) -> dict[str, str]:
    """Content hashes of the user's files and modules, as they were at the first run."""
    return _mapping(objects, kept.SOURCES)


def decide_numerics(objects: Objects, found: Mapping[str, str]) -> dict[str, str]:
    """What the campaign computes with: what is found at its first run, from then on."""
    kept.keep(objects, kept.NUMERICS, json.dumps(dict(found)).encode())
    return numerics(objects)


def numerics(objects: Objects) -> dict[str, str]:
    """What the campaign computes with; nothing before its first run.

    Early runs called the backend kernel, and torch plain.
    """
    found = _mapping(objects, kept.NUMERICS)
    if (kernel := found.pop("kernel", None)) is not None:
        found["backend"] = "torch" if kernel == "plain" else kernel
    return found


def rounds(objects: Objects) -> list[Round]:
    """The cells that the campaign added of its own accord, the oldest first."""
    return [_round(objects, *each) for each in kept.numbered(objects, "refined", "json")]


def add_round(objects: Objects, made: Round) -> None:
    """Keep another round."""
    name = f"refined/{len(objects.numbered('refined', 'json')) + 1:04d}.json"
    content = {"specs": made.specs, "points": [dict(point) for point in made.points]}
    kept.keep(objects, name, json.dumps(content).encode())


def _spec(objects: Objects, name: str, data: bytes) -> Campaign:
    try:
        return parse_stored(data.decode())
    except (CampaignError, UnicodeDecodeError) as error:
        raise _unreadable(objects, name, str(error)) from None


def _round(objects: Objects, name: str, data: bytes) -> Round:
    try:
        content = json.loads(data)
        return Round(int(content["specs"]), tuple(dict(each) for each in content["points"]))
    except (ValueError, LookupError, TypeError):
        raise _unreadable(objects, name, f"{len(data)} bytes") from None


def _mapping(objects: Objects, name: str) -> dict[str, str]:
    data = kept.read(objects, name)
    try:
        return dict(json.loads(data or b"{}"))
    except (ValueError, TypeError):
        raise _unreadable(objects, name, f"{len(data or b'')} bytes") from None


def _unreadable(objects: Objects, name: str, found: str) -> CampaignError:
    return CampaignError(
        f"{objects.url}/{name} is not what was written there ({found}), and has no copy; nothing "
        "else is lost: bring it back from a copy of yours"
    )


def _check_identity(objects: Objects, found: Mapping[str, Campaign], hashes: Sources) -> None:
    """Every spec of a campaign has its identity, and so have its folder and its data."""
    wanted = _identities(objects)
    for name, spec in found.items():
        identity = campaign_identity(spec, hashes)
        for place, known in wanted.items():
            if not identity.startswith(known):
                raise CampaignError(
                    f"{objects.url}/{name} is of the campaign {identity[:10]}, {place} of "
                    f"{known[:10]}: one of them has changed; nothing is lost: bring back the one "
                    "that was written"
                )


def _identities(objects: Objects) -> dict[str, str]:
    """The identity, or its beginning, as the data and the name of the folder have it."""
    found = {}
    if match := _FOLDER.fullmatch(objects.url.rpartition("/")[2]):
        found["the folder"] = match[1]
    identity = _attributes(objects).get("identity")
    if isinstance(identity, str) and identity:
        found["data.zarr"] = identity
    return found


def _attributes(objects: Objects) -> Mapping[str, object]:
    """Those of the root group; none where nobody can read them, which is found elsewhere."""
    try:
        content = json.loads(objects.get("data.zarr/zarr.json") or b"{}")
        return dict(content["attributes"])
    except (ValueError, LookupError, TypeError):
        return {}
