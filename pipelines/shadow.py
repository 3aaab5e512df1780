"""A folder of the user's called theory/ or storage/ must not stand in for ours."""

import importlib.util
from pathlib import Path

OURS = Path(__file__).resolve().parent.parent
PACKAGES = ("storage", "theory", "workers")


def shadowing() -> str | None:
    """One line about a folder that hides one of our packages, or None where all is well."""
    for package in PACKAGES:
        found = importlib.util.find_spec(package)
        places = [] if found is None else list(found.submodule_search_locations or [])
        if [Path(place).resolve() for place in places] != [OURS / package]:
            return (
                f"found the package {package} in {', '.join(places) or 'no folder'}, which hides "
                f"the one of finitewidth in {OURS}; start from another folder, or rename that one"
            )
    return None
