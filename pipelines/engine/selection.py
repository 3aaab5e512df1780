"""Which cells a run is for: `--only temperature=1`."""

import json
from collections.abc import Mapping, Sequence

from storage.campaign.messages import clip, nearest, short, word
from storage.campaign.spec import Campaign
from storage.errors import CampaignError
from storage.planning.identity import regression_identity
from storage.planning.plan import Plan
from storage.planning.sweep import grid, resolve
from storage.reading.yaml12 import load_yaml

Wanted = Mapping[str, Sequence[object]]  # swept path -> values, any of which will do


def chosen(planned: Plan, only: Sequence[str]) -> frozenset[str]:
    """Keys of the cells and regressions that agree with every AXIS=VALUE; of all without any.

    An axis is named by itself or by a path that it sweeps; given twice, either value will do.
    Raises CampaignError for what the campaign does not sweep, and where no cell agrees.
    """
    if not only:
        return frozenset(cell.key for cell in (*planned.cells, *planned.regressions))
    wanted = _wanted(planned.spec, only)
    cells = [cell for cell in planned.cells if cell.identity in planned.current]
    found = {cell.key for cell in cells if _agrees(cell.settings, wanted)}
    if planned.regressions:
        points = [settings for settings in grid(planned.spec) if _agrees(settings, wanted)]
        resolved = (resolve(planned.spec, settings) for settings in points)
        names = {regression_identity(spec, planned.sources) for spec in resolved}
        found |= {cell.key for cell in planned.regressions if cell.identity in names}
    if not found:
        raise CampaignError(f"--only {' '.join(only)}: no cell has all of these")
    return frozenset(found)


def _wanted(spec: Campaign, only: Sequence[str]) -> dict[str, list[object]]:
    wanted: dict[str, list[object]] = {}
    for each in only:
        name, equals, text = each.partition("=")
        if not (name and equals and text):
            raise CampaignError(f"--only {word(each)}: wanted AXIS=VALUE, such as width=64")
        path, values = _axis(spec, name)
        value = load_yaml(text)
        if not any(_same(value, known) for known in values):
            raise CampaignError(
                f"--only {word(each)}: {path} has no value {short(value)}; it has "
                f"{clip(', '.join(map(short, values)), 200)}"
            )
        wanted.setdefault(path, []).append(value)
    return wanted


def _axis(spec: Campaign, name: str) -> tuple[str, list[object]]:
    """The path that a name stands for, and its values: a path, its end, or an axis of one path.

    Of several paths that move together an axis names the first.
    """
    paths = {path: values for settings in spec.sweep.values() for path, values in settings.items()}
    if name in paths:
        return name, paths[name]
    if name in spec.sweep:
        return next(iter(spec.sweep[name].items()))
    ends = [path for path in paths if _end(path) == name]
    if len(ends) == 1:
        return ends[0], paths[ends[0]]
    if not paths:
        raise CampaignError(f"--only {word(name)}: the campaign sweeps nothing; leave --only out")
    raise CampaignError(
        f"--only {word(name)}: {nearest(name, dict.fromkeys([*spec.sweep, *map(_end, paths)]))}"
    )


def _end(path: str) -> str:
    return path.rpartition(".")[2]


def _agrees(settings: Mapping[str, object], wanted: Wanted) -> bool:
    return all(any(_same(settings[path], v) for v in values) for path, values in wanted.items())


def _same(one: object, other: object) -> bool:
    """Equal as YAML writes them: 1 is 1.0."""
    numbers = (int, float)
    if isinstance(one, numbers) and isinstance(other, numbers):
        return one == other and isinstance(one, bool) == isinstance(other, bool)
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
