"""Values of a sweep that are given by their ends: `{geometric: [start, stop, number]}`.

They are written out before anything else reads the campaign, so that it is the one with the list.
"""

import itertools
import math

from storage.campaign.data_spec import SOURCES, PluginData
from storage.campaign.frozen import Frozen
from storage.campaign.messages import short, word
from storage.campaign.network_spec import Network
from storage.campaign.sampler_spec import Sampler
from storage.errors import CampaignError

GEOMETRIC = "geometric"
SCHEMA = {
    "type": "object",
    "properties": {
        GEOMETRIC: {
            "type": "array",
            "prefixItems": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "integer", "minimum": 2},
            ],
            "minItems": 3,
            "maxItems": 3,
            "description": "Start, stop and number of values, each the one before times the same "
            "factor [those of the setting]. Required.",
        }
    },
    "required": [GEOMETRIC],
    "additionalProperties": False,
}
_WANTED = "geometric: [start, stop, number], such as geometric: [1, 1000, 7]"
_DIGITS = 12  # of a value between the ends, so that 0.1 is 0.1
_MOST = 100_000  # values of one axis


def spelled_out(raw: dict[str, object]) -> dict[str, object]:
    """The campaign with a list for all values that are given by their ends.

    Raises CampaignError.
    """
    sweep = raw.get("sweep")
    if not isinstance(sweep, dict):
        return raw
    axes = {
        axis: {path: _values(raw, f"sweep.{word(axis)}", path, v) for path, v in settings.items()}
        if isinstance(settings, dict)
        else _refuse_no_axis(axis, settings)
        for axis, settings in sweep.items()
    }
    return {**raw, "sweep": axes}


def _refuse_no_axis(axis: str, settings: object) -> object:
    """A path in the place of an axis is told; all else is left to the model."""
    if "." in axis and isinstance(settings, list):
        name = axis.rpartition(".")[2]
        raise CampaignError(
            f"sweep: {word(axis)} is a path without an axis; write "
            f"{word(name)}: {{{word(axis)}: {short(settings)}}}"
        )
    return settings


def _values(raw: dict[str, object], axis: str, path: str, values: object) -> object:
    if path == GEOMETRIC:
        raise CampaignError(f"{axis}: {GEOMETRIC} belongs to a setting; write path: {{{_WANTED}}}")
    if not isinstance(values, dict):
        return values
    where = f"{axis}.{word(path)}"
    if [*values] != [GEOMETRIC]:
        unknown = next((key for key in values if key != GEOMETRIC), "")
        raise CampaignError(
            f"{where}: found {word(unknown) if unknown else 'an empty section'}, wanted a list of "
            f"values, or {_WANTED}"
        )
    found = _geometric(where, values[GEOMETRIC])
    return _whole(where, found) if _is_whole(raw, path) else found


def _geometric(where: str, given: object) -> list[float]:
    """`number` values, each the one before times the same factor; the ends as they are given."""
    if not isinstance(given, list) or len(given) != 3:
        raise CampaignError(f"{where}: found {GEOMETRIC}: {short(given)}, wanted {_WANTED}")
    start, stop, number = given
    for end in (start, stop):
        if not _is_number(end) or not 0 < end < math.inf:
            raise CampaignError(f"{where}: found the end {short(end)}, wanted a number above 0")
    if type(number) is not int or not 2 <= number <= _MOST:
        raise CampaignError(
            f"{where}: found the number {short(number)} of values, wanted a whole number from 2 to "
            f"{_MOST}"
        )
    low, high = math.log(start), math.log(stop)
    parts = [i / (number - 1) for i in range(1, number - 1)]
    between = [math.exp((1 - part) * low + part * high) for part in parts]
    return _distinct(where, [start, *(float(f"{v:.{_DIGITS}g}") for v in between), stop])


def _whole(where: str, values: list[float]) -> list[float]:
    for end in (values[0], values[-1]):
        if not float(end).is_integer():
            raise CampaignError(f"{where}: found the end {short(end)}, wanted a whole number")
    return _distinct(where, [round(value) for value in values])


def _distinct(where: str, values: list[float]) -> list[float]:
    if len(set(values)) < len(values):
        twice = next(value for value, next_ in itertools.pairwise(values) if value == next_)
        raise CampaignError(
            f"{where}: {len(values)} values from {short(values[0])} to {short(values[-1])} have "
            f"{short(twice)} twice; ask for fewer"
        )
    return values


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(raw: dict[str, object], path: str) -> bool:
    """Whether a setting takes whole numbers alone, such as a width."""
    section, _, key = path.partition(".")
    model = _model(raw, section)
    if model is None or key not in model.model_fields:
        return False
    setting = model.model_json_schema()["properties"][key]
    kinds = {option.get("type") for option in (setting, *setting.get("anyOf", ()))}
    return "integer" in kinds and "number" not in kinds


def _model(raw: dict[str, object], section: str) -> type[Frozen] | None:
    data = raw.get("data")
    source = data.get("source") if isinstance(data, dict) else None
    of_data = SOURCES.get(source, PluginData) if isinstance(source, str) else None
    return {"data": of_data, "network": Network, "sampler": Sampler}.get(section)
