"""Speeds as a page of Markdown, with what is needed to read them."""

import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from settings import GEMM_SIZE, SETTINGS

FLAGS = ("avx512f", "avx512_bf16", "avx2", "fma", "neon", "asimd", "sve")  # that bear on speed
OURS = "finitewidth: fused"
INTRODUCTION = """Written by `make bench`. A step is one of the unadjusted Langevin algorithm, with
its noise, for an ensemble of erf networks in float32; a chain making one is a member-step. Every
contestant has a process and one thread. They took turns in {rounds} rounds; numbers are medians, of
process CPU time, and ratios are medians of the ratios within a round. Each gradient was first
compared with one in float64. All chains of a setting have the same data; the second column says
what a contestant makes of that."""
PEAK = """What the steps' own matrix products reach, of the better of two libraries' large square
product. More than 100 % means that the library does not use the whole width of a register here."""


@dataclass
class Row:
    """What was measured of one contestant, by setting: member-steps, or flop, per CPU second."""

    title: str
    sharing: str  # of the data between chains
    is_product: bool = False  # a matrix product, for the peak
    version: str = ""
    absence: str = ""
    speeds: dict[str, list[float]] = field(default_factory=dict)


def write(rows: Sequence[Row], rounds: int) -> str:
    """The page."""
    steps = [row for row in rows if not row.is_product]
    products = [row for row in rows if row.is_product]
    parts = [
        "# Langevin steps per CPU second",
        INTRODUCTION.format(rounds=rounds),
        "\n".join(f"- {name}: {setting.describe()}" for name, setting in SETTINGS.items()),
        "## Member-steps per CPU second",
        speed_table(steps),
        "## How many times faster the fused kernel is",
        ratio_table(steps),
        "## Beside the matrix product",
        PEAK,
        peak_table(steps, products),
        "## The machine",
        machine(rows),
    ]
    return "\n\n".join(parts) + "\n"


def grid(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table of Markdown; all columns but the first are set to the right."""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *body))


def speed_table(rows: Sequence[Row]) -> str:
    body = [
        [row.title, row.sharing, *(cell(row, name, speed_of) for name in SETTINGS)] for row in rows
    ]
    return grid(["", "data", *SETTINGS], body)


def ratio_table(rows: Sequence[Row]) -> str:
    """Ours over theirs."""
    (ours,) = (row for row in rows if row.title == OURS)

    def ratio(row: Row, name: str) -> str:
        if name not in ours.speeds:
            return "-"
        return f"{median_ratio(ours.speeds[name], row.speeds[name]):.1f}"

    others = [row for row in rows if row is not ours]
    body = [[row.title, *(cell(row, name, ratio) for name in SETTINGS)] for row in others]
    return grid(["", *SETTINGS], body)


def peak_table(rows: Sequence[Row], products: Sequence[Row]) -> str:
    """GF/s of a large matrix product, and what part of the best the steps' own products reach."""

    def rate(row: Row, name: str) -> str:
        return f"{statistics.median(row.speeds[name]) / 1e9:.0f} GF/s"

    def part(row: Row, name: str) -> str:
        setting = SETTINGS[name]
        flops = [speed * setting.flops / setting.chains for speed in row.speeds[name]]
        peaks = [max(speeds) for speeds in zip(*(p.speeds[name] for p in present), strict=True)]
        return f"{100 * median_ratio(flops, peaks):.0f} %"

    present = [row for row in products if row.speeds]
    body = [
        [f"{row.title}, n = {GEMM_SIZE}", *(cell(row, n, rate) for n in SETTINGS)]
        for row in products
    ]
    if present:
        body += [[row.title, *(cell(row, name, part) for name in SETTINGS)] for row in rows]
    return grid(["", *SETTINGS], body)


def cell(row: Row, name: str, show) -> str:
    """What is shown of a row in a setting, if it took part."""
    if name in row.speeds:
        return show(row, name)
    return "absent" if row.absence else "-"


def speed_of(row: Row, name: str) -> str:
    speed = statistics.median(row.speeds[name])
    return f"{speed:.0f}" if speed >= 100 else f"{speed:.1f}"


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def machine(rows: Sequence[Row]) -> str:
    """Processor and versions, and why somebody is absent."""
    lines = [f"- {processor()}", f"- Python {platform.python_version()}"]
    versions = {row.version: None for row in rows if row.version}
    lines += [f"- {version}" for version in versions]
    lines += [f"- absent: {row.title}: {row.absence}" for row in rows if row.absence]
    return "\n".join(lines)


def processor() -> str:
    """The model as the system calls it, and the instructions that bear on speed."""
    told: dict[str, str] = {}
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.exists() else ():
        name, _, value = line.partition(":")
        told.setdefault(name.strip(), value.strip())
    flags = told.get("flags", told.get("Features", "")).split()
    model = told.get("model name", platform.machine())
    family = f"family {told['cpu family']}, model {told['model']}, " if "cpu family" in told else ""
    return f"{model} ({family}{' '.join(flag for flag in FLAGS if flag in flags)})"
