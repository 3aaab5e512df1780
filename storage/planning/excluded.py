"""Points of the grid that a campaign leaves out, and when values of a setting are the same."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from storage.campaign.messages import clip, nearest, short, word
from storage.campaign.spec import Campaign
from storage.errors import CampaignError

Entries = dict[tuple[str, ...], set[tuple[str, ...]]]  # paths -> their spellings together


def rows(settings: Mapping[str, list[object]]) -> Iterator[dict[str, object]]:
    """The settings of an axis, one value after another."""
    for row in zip(*settings.values(), strict=True):
        yield dict(zip(settings, row, strict=True))


def spelling(value: object) -> str:
    """Plain values as text that is the same just where they are: 1.0 is 1, and true is not."""
    return json.dumps(_spelled_once(value), sort_keys=True)


def _spelled_once(value: object) -> object:
    """Plain values with 1.0 as 1, so that what is equal looks the same."""
    if isinstance(value, dict):
        return {key: _spelled_once(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_spelled_once(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def excludes(spec: Campaign, settings: Mapping[str, object]) -> bool:
    """Whether a campaign leaves out the point with these settings, but for rounding errors."""
    its = [{path: _rounded(name) for path, name in entry.items()} for entry in entries(spec)]
    point = {path: _rounded(name) for path, name in spellings(settings).items()}
    return is_among(by_paths(its), point)


def spellings(settings: Mapping[str, object]) -> dict[str, str]:
    """The spelling of each setting."""
    return {path: spelling(value) for path, value in settings.items()}


def _rounded(name: str) -> str:
    """The spelling of a number with the last digits off; that of all else as it is."""
    value = json.loads(name)
    return spelling(float(f"{value:.12g}")) if isinstance(value, float) else name


def entries(spec: Campaign) -> list[dict[str, str]]:
    """The spellings of the values of each entry, path -> spelling."""
    return [
        {_path(spec, key): spelling(value) for key, value in entry.items()}
        for entry in spec.exclude
    ]


def _path(spec: Campaign, key: str) -> str:
    """The path that a key of an entry stands for: that of an axis is its first."""
    return next(iter(spec.sweep[key])) if key in spec.sweep else key


def by_paths(its: Sequence[Mapping[str, str]]) -> Entries:
    """Entries, so that a point is found among them at once."""
    found: Entries = defaultdict(set)
    for entry in its:
        paths = tuple(sorted(entry))
        found[paths].add(tuple(entry[path] for path in paths))
    return found


def is_among(left_out: Entries, point: Mapping[str, str]) -> bool:
    """Whether a point, path -> spelling, has all the values of an entry."""
    return any(tuple(point[path] for path in paths) in its for paths, its in left_out.items())


def check_excluded(spec: Campaign) -> None:
    """Refuse an entry that leaves out nothing."""
    values = {path: each for settings in spec.sweep.values() for path, each in settings.items()}
    known = {path: set(map(spelling, each)) for path, each in values.items()}
    for number, (entry, spelled) in enumerate(zip(spec.exclude, entries(spec), strict=True)):
        where = f"exclude.{number}"
        for key, value in entry.items():
            if (path := _path(spec, key)) not in values:
                names = nearest(key, [*spec.sweep, *values]) if values else "nothing is swept"
                raise CampaignError(f"{where}: {word(key)} is no axis of the sweep; {names}")
            if spelling(value) not in known[path]:
                raise CampaignError(
                    f"{where}.{word(key)}: found {short(value)}, wanted one of the values "
                    f"{clip(', '.join(map(short, values[path])), 200)}"
                )
        if len(spelled) < len(entry):
            raise CampaignError(f"{where}: names an axis and its setting; keep one of them")
        if not all(_meets(settings, spelled) for settings in spec.sweep.values()):
            raise CampaignError(
                f"{where}: no point of the sweep has {written(entry)} together; leave it out"
            )


def _meets(settings: Mapping[str, list[object]], entry: Mapping[str, str]) -> bool:
    """Whether a place on an axis has all that an entry says of its settings."""
    wanted = {path: name for path, name in entry.items() if path in settings}
    return len(wanted) < 2 or any(
        wanted.items() <= spellings(row).items() for row in rows(settings)
    )


def written(settings: Mapping[str, object]) -> str:
    """Settings and their values as they may stand in one line."""
    return clip(
        ", ".join(f"{word(path)} = {short(value)}" for path, value in settings.items()), 200
    )
