"""Reading a campaign: YAML 1.2, overrides, validation, and one line for whatever is wrong."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from storage.campaign.messages import explain, word
from storage.campaign.plain import plain
from storage.campaign.spaced import spelled_out
from storage.campaign.spec import Campaign
from storage.errors import CampaignError
from storage.planning.sweep import Resolver, assign, axis_lengths, grid
from storage.reading.futile import check_refine
from storage.reading.theory_rules import check_theories
from storage.reading.yaml12 import load_yaml, write_yaml

MAXIMUM_BYTES = 1_000_000


def read(path: Path, overrides: Sequence[str] = ()) -> Campaign:
    """The campaign in a YAML file, with overrides `key=value` put in.

    Raises CampaignError, one line that names the file and the key.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAXIMUM_BYTES + 1)
    except OSError as error:
        raise CampaignError(f"{path}: {error.strerror}; give a campaign file") from None
    if len(content) > MAXIMUM_BYTES:
        raise CampaignError(f"{path}: found more than {MAXIMUM_BYTES} bytes, wanted a campaign")
    try:
        return parse(content.decode(), overrides)
    except UnicodeDecodeError:
        raise CampaignError(f"{path}: not text in UTF-8; give a YAML file") from None
    except CampaignError as error:
        raise CampaignError(f"{path}: {error}") from None


def parse(text: str, overrides: Sequence[str] = ()) -> Campaign:
    """The campaign in a YAML text, with overrides `key=value` put in. Raises CampaignError."""
    raw = _sections(load_yaml(text))
    _check_is_campaign(raw)
    for override in overrides:
        path, equals, value = override.partition("=")
        if not (path and equals):
            raise CampaignError(
                f"--set {word(override)}: wanted key=value, such as sampler.draws=50"
            )
        try:
            assign(raw, path, load_yaml(value))
        except CampaignError as error:
            raise CampaignError(f"--set {word(override)}: {error}") from None
    return validate(raw)


def validate(raw: object) -> Campaign:
    """The campaign in nested mappings, its sweep and every cell of it checked.

    Raises CampaignError.
    """
    spec, cells = _resolved(raw)
    check_theories(spec, cells)
    check_refine(spec)
    return spec


def parse_stored(text: str) -> Campaign:
    """A campaign as a store keeps it: it ran, though it may ask for what is refused by now."""
    return _resolved(load_yaml(text))[0]


def _resolved(raw: object) -> tuple[Campaign, list[Campaign]]:
    """The campaign in nested mappings, and all its cells."""
    try:
        spec = Campaign.model_validate(spelled_out(_sections(plain(raw))))
    except ValidationError as error:
        raise CampaignError(explain(error)) from None
    axis_lengths(spec)
    resolver = Resolver(spec)
    return spec, [resolver.at(settings) for settings in grid(spec)]


def _sections(raw: object) -> dict[str, object]:
    """The sections; what else there is is not repeated, since it may be a file of secrets."""
    if not isinstance(raw, dict):
        kinds = {list: "a list", str: "text", type(None): "nothing"}
        found = kinds.get(type(raw), "a number")
        raise CampaignError(f"found {found}, wanted the sections of a campaign")
    return raw


def _check_is_campaign(raw: Mapping[str, object]) -> None:
    """Refuse a file that has nothing of a campaign, likewise without repeating what it has."""
    if raw and not Campaign.model_fields.keys() & raw.keys():
        raise CampaignError(
            "found none of the sections of a campaign, wanted "
            f"{', '.join(Campaign.model_fields)}; give a campaign file"
        )


def dump_yaml(spec: Campaign) -> str:
    """A campaign as YAML that reads back as the same campaign."""
    return write_yaml(spec.model_dump(mode="json", exclude_unset=True))


def json_schema() -> dict[str, object]:
    """The JSON schema of a campaign, for editors: every setting says what it is by default."""
    schema = Campaign.model_json_schema()
    for section in (schema, *schema["$defs"].values()):
        for key, setting in section["properties"].items():
            meaning = " ".join(setting["description"].split())
            absent = "Required" if key in section.get("required", ()) else by_default(setting)
            setting["description"] = f"{meaning}. {absent}."
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def by_default(setting: Mapping[str, object]) -> str:
    """What a setting of the schema is where it is left out."""
    default = setting["default"]
    if default is None:
        return "Default: none"
    if isinstance(default, dict) and default:
        return "Default: each of its settings by its own default"
    return f"Default: {json.dumps(default)}"
