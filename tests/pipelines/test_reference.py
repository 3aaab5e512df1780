"""Every setting says what it is, in which unit, and what it is where it is left out."""

import json
from pathlib import Path

from pipelines.reference import described, reference
from storage.campaign.spec import Campaign
from storage.reading.document import json_schema

ROOT = Path(__file__).parents[2]
MODELS = {"Campaign": Campaign.model_json_schema()}
MODELS |= MODELS["Campaign"]["$defs"]
SETTINGS = {
    f"{name}.{key}": setting
    for name, model in MODELS.items()
    for key, setting in model["properties"].items()
}
NO_QUANTITY = {"version", "seed"}  # numbers that count and measure nothing


def objects(value):
    """Every mapping inside nested mappings and lists, itself among them."""
    if isinstance(value, dict):
        yield value
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from objects(part)


def test_no_property_of_the_schema_is_without_a_description():
    found = [part["properties"] for part in objects(json_schema()) if "properties" in part]
    assert sum(len(properties) for properties in found) >= len(SETTINGS)
    endings = (". Required.", ". Default: ")
    assert not [
        key
        for properties in found
        for key, setting in properties.items()
        if not any(ending in setting["description"] for ending in endings)
    ]


def test_every_setting_says_what_it_is_and_a_quantity_has_a_unit():
    said = {name: described(setting) for name, setting in SETTINGS.items()}
    assert not [name for name, (meaning, _) in said.items() if len(meaning) < 5]
    assert not [name for name, (meaning, _) in said.items() if meaning.endswith((".", "]"))]
    quantities = {
        name
        for name, setting in SETTINGS.items()
        if {part.get("type") for part in objects(setting)} & {"integer", "number"}
    }
    without = {name for name in quantities if not said[name][1]}
    assert {name.rpartition(".")[2] for name in without} == NO_QUANTITY


def test_the_schema_for_editors_says_the_default_of_the_model():
    schema = json_schema()
    for name, model in {"Campaign": schema, **schema["$defs"]}.items():
        for key, setting in model["properties"].items():
            words = setting["description"]
            assert words.startswith(described(SETTINGS[f"{name}.{key}"])[0])
            if key in model.get("required", ()):
                assert words.endswith(". Required.")
            elif not isinstance(setting["default"], dict) and setting["default"] is not None:
                assert words.endswith(f". Default: {json.dumps(setting['default'])}.")
            else:
                assert ". Default: " in words


def test_the_reference_is_that_of_the_schema():
    again = "`python -m pipelines.reference > pipelines/SETTINGS.md` makes it anew"
    assert (ROOT / "pipelines" / "SETTINGS.md").read_text() == reference(), again


def test_the_reference_has_every_setting_in_its_section():
    lines = reference().splitlines()
    rows = [line.split(" | ")[0].strip("| `") for line in lines if line.startswith("| `")]
    assert set(rows) == {name.rpartition(".")[2] for name in SETTINGS}
    headings = [line for line in lines if line.startswith("## ")]
    assert len(set(headings)) == len(headings) == len(MODELS)  # the campaign has none, data two
    assert {len(line.replace("\\|", "").split("|")) for line in lines if line[:1] == "|"} == {7}


def test_the_manual_names_the_reference():
    assert "(SETTINGS.md)" in (ROOT / "pipelines" / "README.md").read_text()
