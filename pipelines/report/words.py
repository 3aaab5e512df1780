"""Settings of a campaign in words: names, symbols, values, and lists of them."""

from collections.abc import Iterable, Sequence
from typing import Any

from pipelines.text.settings import name_and_symbol, named, number
from storage.campaign.frozen import Frozen
from storage.campaign.spec import Campaign
from storage.planning.sweep import excluded_points

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

MOST_VALUES = 10  # of a setting that a sentence lists


def listed(items: Iterable[object], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    *rest, end = [str(item) for item in items]
    return f"{', '.join(rest)} {last} {end}" if rest else end


def counted(count: int, noun: str, plural: str = "") -> str:
    """`one layer`, `two layers`, `12 layers`."""
    shown = NUMBERS[count] if count < len(NUMBERS) else str(count)
    return f"{shown} {noun if count == 1 else plural or noun + 's'}"


def swept(spec: Campaign) -> list[str]:
    """The paths that the sweep sets."""
    return [path for settings in spec.sweep.values() for path in settings]


def setting(spec: Campaign, path: str) -> str:
    """`N = 64`; the letter alone where the sweep gives it several values."""
    symbol = name_and_symbol(path)[1]
    return symbol if path in swept(spec) else f"{symbol} = {value(spec, path)}"


def value(spec: Campaign, path: str) -> str:
    """The value of a setting; its letter where the sweep gives it several."""
    if path in swept(spec):
        return name_and_symbol(path)[1]
    found: object = spec
    for key in path.split("."):
        if isinstance(found, Frozen):
            found = getattr(found, key)
        else:
            assert isinstance(found, Sequence)
            found = found[int(key)]
    return number(found)


def _values(values: Sequence[Any]) -> str:
    """Each of a few values, the ends of many."""
    if len(values) > MOST_VALUES and all(isinstance(value, int | float) for value in values):
        return f"{len(values)} values from {number(min(values))} to {number(max(values))}"
    return f"the values {listed(number(value) for value in values)}"


def sweep_sentence(spec: Campaign) -> str:
    """Which settings took which values; nothing where there is no sweep."""
    phrases = []
    for settings in spec.sweep.values():
        moved = [f"the {named(path)} took {_values(values)}" for path, values in settings.items()]
        phrases.append(", and with them ".join(moved))
    if not phrases:
        return ""
    text = "; ".join(phrases)
    crossed = ", in all combinations" if len(phrases) > 1 else ""
    if excluded := excluded_points(spec):
        crossed += f" but {counted(excluded, 'that was', 'that were')} left out"
    return f"{text[0].upper()}{text[1:]}{crossed}."
