"""Everything that is written below a folder, in order, and the folder as it was at any moment.

A process that is killed leaves the first writes of this list, and maybe the next one half staged.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from storage.files.objects import Objects


class Write(NamedTuple):
    """An object as it was once it had been written; None where it was removed."""

    name: str
    data: bytes | None


@contextmanager
def recorded(top: Path) -> Iterator[list[Write]]:
    """The list of what is written below a folder while the block runs."""
    writes: list[Write] = []
    writing = Objects.writing

    @contextmanager
    def noted(self: Objects, doing: str, name: str) -> Iterator[None]:
        with writing(self, doing, name):
            yield
        file = Path(self.url, name)
        if doing != "sweep" and file.is_relative_to(top):
            data = file.read_bytes() if file.is_file() else None
            writes.append(Write(str(file.relative_to(top)), data))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Objects, "writing", noted)
        yield writes


def carry_out(writes: Sequence[Write], top: Path) -> None:
    """Write and remove what the list says."""
    for name, data in writes:
        file = top / name
        if data is None:
            file.unlink(missing_ok=True)
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def cut(
    base: Path, writes: Sequence[Write], trials: Path, moments: Iterator[int]
) -> Iterator[Path]:
    """The folder as it is when its writer is killed after so many writes, for each of these counts.

    The next write is half staged. Each folder is there until the next one is asked for.
    """
    state, done = trials / "state", 0
    shutil.copytree(base, state)
    for moment in moments:
        carry_out(writes[done:moment], state)
        done = moment
        trial = trials / "trial"
        shutil.copytree(state, trial)
        if moment < len(writes) and (data := writes[moment].data) is not None:
            staged = trial / f"{writes[moment].name}#1"
            staged.parent.mkdir(parents=True, exist_ok=True)
            staged.write_bytes(data[: len(data) // 2])
        yield trial
        shutil.rmtree(trial)
    shutil.rmtree(trials)
