"""Manifests of deploy/ against the shapes of tests/support/manifests.yaml, which are closed."""

from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

DEPLOY = Path(__file__).parents[2] / "deploy"
TYPES = {
    "string": {"type": "string"},
    "integer": {"type": "integer"},
    "boolean": {"type": "boolean"},
    "quantity": {"type": ["string", "integer"], "pattern": r"^[0-9.]+(m|[KMGT]i?)?$"},
    "port": {"type": ["string", "integer"]},
}


def documents(path: Path | str) -> list[Any]:
    """The documents of a YAML file, or of text."""
    text = path.read_text() if isinstance(path, Path) else path
    return [each for each in YAML(typ="safe").load_all(text) if each is not None]


(SHAPES,) = documents(Path(__file__).parent / "manifests.yaml")


@cache
def _validator(shape: str) -> Draft202012Validator:
    return Draft202012Validator(_schema(shape))


def faults(shape: str, document: Any) -> list[str]:
    """In what a document differs from a shape."""
    found = _validator(shape).iter_errors(document)
    return [f"{'/'.join(map(str, each.absolute_path))}: {each.message}" for each in found]


def _schema(shape: Any) -> dict[str, Any]:
    if isinstance(shape, str):
        return TYPES.get(shape) or _schema(SHAPES[shape])
    if isinstance(shape, list):
        return {"type": "array", "items": _schema(shape[0])}
    if "any" in shape:
        return {"type": "object", "additionalProperties": _schema(shape["any"])}
    fields = dict(shape)
    if more := fields.pop("extends", None):
        fields = SHAPES[more] | fields
    properties = {name: _schema(each) for name, each in fields.items()}
    return {"type": "object", "additionalProperties": False, "properties": properties}


@cache
def objects(path: Path) -> list[Any]:
    """The objects of a folder of manifests, kustomization and patches aside."""
    return [
        each
        for file in sorted(path.glob("*.yaml"))
        for each in documents(file)
        if isinstance(each, dict) and each["kind"] != "Kustomization"
    ]


@cache
def patched() -> list[Any]:
    """What the patches of the overlays add: groups of workers."""
    files = sorted((DEPLOY / "k8s" / "overlays").glob("*/workers.yaml"))
    return [change["value"] for file in files for (change,) in documents(file)]


def pods(found: Any) -> list[Any]:
    """Every description of a pod within an object."""
    if isinstance(found, list):
        return [pod for each in found for pod in pods(each)]
    if not isinstance(found, dict):
        return []
    if "containers" in found:
        return [found]
    return [pod for each in found.values() for pod in pods(each)]
