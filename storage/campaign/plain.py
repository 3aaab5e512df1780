"""Plain values: mappings with text for keys, lists, text, numbers, true, false and nothing."""

import itertools
from collections.abc import Iterator

from storage.campaign.messages import short, word
from storage.errors import CampaignError

MAXIMUM_VALUES = 500_000
MAXIMUM_DEPTH = 20
LARGEST_INTEGER = 2**63 - 1  # what a stored integer can hold


def plain(value: object) -> object:
    """A copy of nested plain values that shares no part with itself; tuples become lists.

    Raises CampaignError for what is not plain, nested too deep, or too much once everything that
    is shared stands on its own.
    """
    return _copy(value, (), itertools.count(1))


def _copy(value: object, path: tuple[str, ...], counter: Iterator[int]) -> object:
    if next(counter) > MAXIMUM_VALUES:
        raise CampaignError(
            f"found more than {MAXIMUM_VALUES} values, wanted a campaign; use fewer aliases"
        )
    if len(path) > MAXIMUM_DEPTH:
        raise CampaignError(
            f"{path[0]}: nested deeper than {MAXIMUM_DEPTH} levels; check the brackets"
        )
    if isinstance(value, dict):
        return _copy_mapping(value, path, counter)
    if isinstance(value, list | tuple):
        return [_copy(item, (*path, str(i)), counter) for i, item in enumerate(value)]
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        found = f"a whole number of {value.bit_length()} bits"
        raise CampaignError(f"{_place(path)}found {found}, wanted at most {LARGEST_INTEGER}")
    if isinstance(value, str):
        return _text(value, path)
    if value is None or isinstance(value, bool | int | float):
        return value
    raise CampaignError(f"{_place(path)}found {_kind(value)}, wanted a number, text or list")


def _copy_mapping(
    mapping: dict[object, object], path: tuple[str, ...], counter: Iterator[int]
) -> dict[str, object]:
    copied: dict[str, object] = {}
    for key, item in mapping.items():
        if not isinstance(key, str | int) or isinstance(key, bool):
            found = short(key) if key is None or isinstance(key, bool | float) else _kind(key)
            raise CampaignError(f"{_place(path)}found {found} as a key, wanted text")
        name = _text(key, path) if isinstance(key, str) else str(_copy(key, path, counter))
        if name in copied:
            raise CampaignError(f"{_place(path)}found the key {word(name)} twice; keep one")
        copied[name] = _copy(item, (*path, name), counter)
    return copied


def _text(value: str, path: tuple[str, ...]) -> str:
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise CampaignError(f"{_place(path)}found {short(value)}, wanted whole Unicode characters")
    return value


def _kind(value: object) -> str:
    return f"a value of type {type(value).__name__}"


def _place(path: tuple[str, ...]) -> str:
    return f"{'.'.join(map(word, path[-5:]))}: " if path else ""
