"""Reading a campaign from YAML, and refusing in one line what could not be run."""

from storage.reading.document import read

__all__ = ["read"]
