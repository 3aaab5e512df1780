"""A folder of the user's called theory/ or storage/ must not stand in for ours.

Importing this module, before any of those packages, raises an ImportError that says so.
"""

import importlib.util
from pathlib import Path

OURS = Path(__file__).resolve().parent.parent
PACKAGES = ("storage", "theory", "workers")


def shadowing() -> str | None:
    """One line about a module that hides one of our packages, or None where all is well."""
    for package in PACKAGES:
        found = importlib.util.find_spec(package)
        origin = found.origin if found is not None else None
        if origin is None or Path(origin).resolve() != OURS / package / "__init__.py":
            return (
                f"found the package {package} in {origin or 'no file'}, which hides the one of "
                f"finitewidth in {OURS}; start from another folder, or rename that one"
            )
    return None


if (problem := shadowing()) is not None:
    raise ImportError(problem)
