"""Seven ways in which a file of a store may be damaged, and the kinds of files that a store has."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

Damage = Callable[[Path, Path], None]  # of a file in the store at a place


def flipped(top: Path, name: Path) -> None:
    """One bit, which in a text is another character."""
    data = bytearray((top / name).read_bytes())
    data[len(data) // 2] ^= 1
    (top / name).write_bytes(data)


def truncated(top: Path, name: Path) -> None:
    data = (top / name).read_bytes()
    (top / name).write_bytes(data[: len(data) * 2 // 3])


def emptied(top: Path, name: Path) -> None:
    (top / name).write_bytes(b"")


def deleted(top: Path, name: Path) -> None:
    (top / name).unlink()


def garbage(top: Path, name: Path) -> None:
    size = (top / name).stat().st_size
    (top / name).write_bytes(np.random.default_rng(1).bytes(size))


def swapped(top: Path, name: Path) -> None:
    """Another file of the same kind in its place; garbage where there is none."""
    mine, like = (top / name).read_bytes(), re.sub(r"\d", "#", kind(name))
    for other in sorted(path for path in top.rglob("*") if path.is_file()):
        of = other.relative_to(top)
        if of != name and re.sub(r"\d", "#", kind(of)) == like and other.read_bytes() != mine:
            shutil.copy(other, top / name)
            return
    garbage(top, name)


def made_a_folder(top: Path, name: Path) -> None:
    (top / name).unlink()
    (top / name).mkdir()


DAMAGES: tuple[Damage, ...] = (
    flipped,
    truncated,
    emptied,
    deleted,
    garbage,
    swapped,
    made_a_folder,
)


def kind(name: Path) -> str:
    """What a file is, by its name: those of one kind are written and read in one way."""
    text = str(name)
    for pattern, found in (
        (r"data\.zarr/(.*/)?c(/\d+)*", lambda: f"chunk of {_group(name)}/{_variable(name)}"),
        (r"data\.zarr/.*zarr\.json", lambda: f"metadata of {_group(name)} {len(name.parts)}"),
        (r"ledger/receipts/.*", lambda: f"receipts {name.parts[2]}{' warm' * ('w' in name.stem)}"),
        # of a lane of two segments, where the first goes on as a spare
        (r"checkpoints/.*s00000\.npz", lambda: f"checkpoints {name.parts[1]} spare"),
        (r"ledger/.*|checkpoints/.*|copies/.*", lambda: " ".join(name.parts[:2])),
        (r"provenance/run-.*", lambda: "provenance/run"),
        (r"report/.*", lambda: f"report {name.suffix}"),
    ):
        if re.fullmatch(pattern, text):
            return found()
    return text


def _variable(name: Path) -> str:
    """One variable stands for all that are written alike."""
    variable = name.parts[name.parts.index("c") - 1]
    apart = ("label", "step_size", "finished", "loss", "status", "eigenvalue", "pool_error")
    if variable in apart and _group(name) != "results":
        return variable
    return "many" if len(name.parts) > 5 else "one"  # chunks


def _group(name: Path) -> str:
    group = name.parts[1]
    measured = ("ensemble", "step_check", "regression", "zarr.json")
    return group if group in measured else "results"
