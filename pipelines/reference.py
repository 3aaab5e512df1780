"""The reference of all settings in pipelines/SETTINGS.md, made of the JSON schema.

`python -m pipelines.reference > pipelines/SETTINGS.md` makes it anew.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from storage.campaign.frozen import LARGEST_COUNT
from storage.campaign.spec import Campaign
from storage.reading.document import by_default

Schema = Mapping[str, Any]
Row = tuple[str, str, str, str, str]  # the cells of a setting, under HEAD

HEAD = (
    "| setting | takes | unit | default | meaning |",
    "|---|---|---|---|---|",
)
BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
}
NAMES = {"integer": "whole number", "number": "number", "boolean": "`true` or `false`"}
_UNIT = re.compile(r"(?P<meaning>.*?)(?: \[(?P<unit>[^][]+)\])?")


def reference() -> str:
    """Every setting of a campaign, section by section, in Markdown."""
    schema = Campaign.model_json_schema()
    lines = [
        "# Settings of a campaign",
        "",
        "Made by `python -m pipelines.reference > pipelines/SETTINGS.md`. Whatever is counted is "
        f"at most {LARGEST_COUNT}. Targets have the unit y; points have none.",
    ]
    lines += ["", *_table(_rows(schema))]
    lines += _subsections("", schema, schema["$defs"], set())
    return "\n".join(lines) + "\n"


def described(setting: Schema) -> tuple[str, str]:
    """The meaning of a setting and its unit; no unit where it is no quantity."""
    found = _UNIT.fullmatch(" ".join(setting["description"].split()))
    assert found is not None
    return found["meaning"], found["unit"] or ""


def _subsections(
    place: str, section: Schema, models: Mapping[str, Schema], seen: set[str]
) -> Iterator[str]:
    """The sections that a section holds, each once: the first of equal ones stands for all."""
    for key, setting in section["properties"].items():
        names = [name for name in _references(setting) if name not in seen]
        seen.update(names)
        here = f"{place}{key}"
        if len(names) == 1:
            yield from _section(f"`{here}`", models[names[0]], _rows(models[names[0]]))
        elif names:
            yield from _choice(here, key, [models[name] for name in names])
        for name in names:
            yield from _subsections(f"{here}.", models[name], models, seen)


def _choice(place: str, key: str, options: Sequence[Schema]) -> Iterator[str]:
    """A section of several kinds: what all have, and what each has beside it."""
    rows = [_rows(option) for option in options]
    shared = [row for row in rows[0] if all(row in others for others in rows)]
    yield from ("", f"## `{place}`", "", f"What every {key} has:", "", *_table(shared))
    for option, its in zip(options, rows, strict=True):
        kind = _kind(option["properties"]["source"])
        own = [row for row in its if row not in shared]
        yield from _section(f"`{place}` with source {kind}", option, own)


def _section(title: str, model: Schema, rows: Sequence[Row]) -> list[str]:
    meaning = _escaped(" ".join(model["description"].split()))
    return ["", f"## {title}", "", meaning, "", *_table(rows)]


def _table(rows: Sequence[Row]) -> list[str]:
    return [*HEAD, *(f"| {' | '.join(row)} |" for row in rows)]


def _rows(model: Schema) -> list[Row]:
    required = model.get("required", ())
    return [_row(key, setting, key in required) for key, setting in model["properties"].items()]


def _row(key: str, setting: Schema, required: bool) -> Row:
    default = "" if required else by_default(setting).removeprefix("Default: ")
    meaning, unit = described(setting)
    return f"`{key}`", _kind(setting), _escaped(unit), default or "required", _escaped(meaning)


def _escaped(text: str) -> str:
    """Text in which Markdown sees no columns, emphasis or tags."""
    return re.sub(r"([|*<])", r"\\\1", text)


def _references(setting: Schema) -> list[str]:
    """Names of the models that a setting may hold."""
    if "$ref" in setting:
        return [setting["$ref"].removeprefix("#/$defs/")]
    return [name for option in _options(setting) for name in _references(option)]


def _options(setting: Schema) -> list[Schema]:
    return [*setting.get("anyOf", ()), *setting.get("oneOf", ())]


def _kind(setting: Schema) -> str:
    """What values a setting takes."""
    if options := _options(setting):
        kinds = [_kind(option) for option in options if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "$ref" in setting:
        return "section"
    if "const" in setting or "enum" in setting:
        return ", ".join(f"`{value}`" for value in setting.get("enum", [setting.get("const")]))
    kind = setting.get("type")
    if kind == "string":
        return "`module:name`" if ":" in setting.get("pattern", "") else "text"
    if kind == "array":
        return f"list of {_length(setting)}{_plural(_kind(setting['items']))}"
    if "properties" in setting:
        return f"section of {', '.join(f'`{key}`' for key in setting['properties'])}"
    if kind == "object":
        values = setting["additionalProperties"]
        return f"section of {_plural(_kind({} if values is True else values))}"
    return NAMES.get(str(kind), "nothing" if kind else "value") + _bounds(setting)


def _bounds(setting: Schema) -> str:
    limits = {
        key: setting[key] for key in BOUNDS if key in setting and setting[key] != LARGEST_COUNT
    }
    return "".join(f" {BOUNDS[key].format(limit)}" for key, limit in limits.items())


def _length(setting: Schema) -> str:
    least, most = setting.get("minItems", 0), setting.get("maxItems")
    return f"{least} " if least == most else ""


def _plural(kind: str) -> str:
    return re.sub(r"\b(number|list|section|value)\b", r"\1s", kind)


if __name__ == "__main__":
    sys.stdout.write(reference())
