"""Code of the user's own, named in a spec as `module:attribute` and allowed by name elsewhere."""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.campaign.data_spec import PLUGIN
from storage.campaign.spec import Campaign
from storage.errors import CampaignError, in_one_line

ALLOWED = "FINITEWIDTH_PLUGINS"  # environment variable: module names, separated by commas


@dataclass(frozen=True)
class Plugins:
    """The modules that may be imported, with the sha256 of their source, and where they lie."""

    digests: tuple[tuple[str, str], ...] = ()
    path: str = ""  # a folder to import from, behind all others

    def load(self) -> None:
        """Make the modules importable here, and refuse one that differs from the campaign's."""
        if self.path and self.path not in sys.path:
            sys.path.append(self.path)
        for module, wanted in self.digests:
            if source_digest(module) != wanted:
                raise CampaignError(
                    f"the plug-in {module} differs from the one that the campaign began with; "
                    "install the same source on every machine"
                )

    def get(self, name: str) -> Any:
        """The object that `module:attribute` names."""
        module, _, attribute = name.partition(":")
        if module not in dict(self.digests):
            raise CampaignError(_not_allowed(name, module))
        try:
            found = importlib.import_module(module)
        except Exception as error:  # whatever the user's code does
            reason = in_one_line(error)
            raise CampaignError(f"{name}: cannot import {module}: {reason}") from error
        if not hasattr(found, attribute):
            raise CampaignError(f"{name}: the module {module} has no {attribute}")
        return getattr(found, attribute)


def named(spec: Campaign, theories: bool = True) -> Iterator[str]:
    """Every `module:attribute` that a spec names, cells of its sweep included."""
    names = [spec.data.source, *spec.observe.measure, *(spec.theories if theories else ())]
    if spec.network is not None:
        names += [spec.network.activation, spec.network.architecture]
    for settings in spec.sweep.values():
        for path, values in settings.items():
            names += values if path == "network.activation" else []
    yield from dict.fromkeys(name for name in names if PLUGIN.fullmatch(name))


def allow(spec: Campaign, allowed: Sequence[str], folder: Path) -> Plugins:
    """The plug-ins of a spec, each of which the user must have allowed by its module's name.

    Raises CampaignError for one that is not allowed or cannot be found.
    """
    modules = list(dict.fromkeys(name.partition(":")[0] for name in named(spec)))
    for name in named(spec):
        if name.partition(":")[0] not in allowed:
            raise CampaignError(_not_allowed(name, name.partition(":")[0]))
    if not modules:
        return Plugins()
    path = str(folder.resolve())
    if path not in sys.path:
        sys.path.append(path)
    return Plugins(tuple((module, source_digest(module)) for module in modules), path)


def source_digest(module: str) -> str:
    """sha256 of the source of a module; a parent package is imported to find it."""
    try:
        found = importlib.util.find_spec(module)
    except Exception as error:  # the code of a parent package runs
        reason = " ".join(str(error).split())
        raise CampaignError(f"the plug-in {module} cannot be found: {reason}") from error
    if found is None or found.origin is None or not Path(found.origin).is_file():
        raise CampaignError(
            f"the plug-in {module} cannot be found; install it, or run where {module}.py lies"
        )
    return hashlib.sha256(Path(found.origin).read_bytes()).hexdigest()


def _not_allowed(name: str, module: str) -> str:
    return f"{name} is code of your own; allow it with --plugins {module}, or {ALLOWED}={module}"
