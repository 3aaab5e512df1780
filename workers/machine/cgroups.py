"""The control groups of this process: what a container or a batch job may take of a machine."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

PROCESS = Path("/proc/self")


def groups(controller: str) -> list[Path]:
    """Folders of the groups that limit a resource: this process' own and all above, either version.

    None where the system has no control groups.
    """
    try:
        own = (PROCESS / "cgroup").read_text().splitlines()
        mounts = (PROCESS / "mountinfo").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in own:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            found += [f for root, top in _mounts(mounts, "cgroup2") for f in _up(path, root, top)]
        elif controller in controllers.split(","):
            places = _mounts(mounts, "cgroup", controller)
            found += [folder for root, top in places for folder in _up(path, root, top)]
    return found


def number(path: Path) -> int | None:
    """The number in a file; None where there is none, and for `max`."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _mounts(lines: list[str], kind: str, controller: str = "") -> Iterator[tuple[str, Path]]:
    """Which group is mounted where."""
    for line in lines:
        mount, _, system = line.partition(" - ")
        root, top = mount.split()[3:5]
        found, _, options = system.split()[:3]
        if found == kind and (not controller or controller in options.split(",")):
            yield root, Path(top)


def _up(path: str, root: str, top: Path) -> list[Path]:
    """The folder of a group below a mount, and those above it; the mount's own if it is outside."""
    try:
        inside = PurePosixPath(path).relative_to(root)
    except ValueError:  # a container sees its own group as the root, under the host's name
        return [top]
    if ".." in inside.parts:
        return [top]
    folder = top / inside
    return [folder, *(each for each in folder.parents if each.is_relative_to(top))]
