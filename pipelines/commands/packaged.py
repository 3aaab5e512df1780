"""The campaigns that come with the package.

What reads a spec is imported where it is used: names alone need none.
"""

from pathlib import Path

from storage.campaign.frozen import nearest
from storage.errors import CampaignError

FOLDER = Path(__file__).parents[1] / "campaigns"


def names() -> list[str]:
    """Names of the packaged campaigns."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def titles() -> dict[str, str]:
    """Name and title of each packaged campaign."""
    from storage.reading.document import read

    return {name: read(FOLDER / f"{name}.yaml").title for name in names()}


def find(spec: str) -> Path:
    """The file of a campaign: a path, or the name of a packaged one."""
    path = Path(spec)
    if path.is_file():
        return path
    if spec in names():
        return FOLDER / f"{spec}.yaml"
    if path.is_dir():
        raise CampaignError(f"{spec} is a folder; give a campaign file, or {', '.join(names())}")
    raise CampaignError(f"{spec}: no such file or packaged campaign; {nearest(spec, names())}")
