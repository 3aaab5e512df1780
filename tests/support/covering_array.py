"""An array of campaigns that covers every pair of choices.

`campaign_array.txt` holds its rows. This file, run as a script, leaves out those that are not
accepted any more and adds what new choices need:

    cd tests && python -m support.covering_array > rows && mv rows support/campaign_array.txt
"""

import itertools
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import chdir
from pathlib import Path

from pipelines.engine.engine import prepare
from storage.errors import CampaignError
from storage.reading.document import validate
from support.campaign_files import write_files
from support.campaign_space import FACTORS, PLAINEST, PLUGIN, Row, specification, valid

ARRAY = Path(__file__).parent / "campaign_array.txt"
SHARDS = 48  # at most, since each costs time whatever its size

Pair = tuple[tuple[str, str], tuple[str, str]]


def prepared(row: Row) -> bool:
    """Whether `plan` accepts the campaign, where `write_files` has written, and it is small."""
    try:
        planned = prepare(validate(specification(row)), "results", [PLUGIN]).plan
    except CampaignError:
        return False
    return sum(1 for _ in planned.shards()) <= SHARDS


def pairs_of(row: Mapping[str, str]) -> set[Pair]:
    """Every pair of levels of different factors in a row."""
    return set(itertools.combinations(row.items(), 2))


def all_pairs() -> list[Pair]:
    """Every pair of levels of different factors."""
    found = []
    for (one, levels), (other, others) in itertools.combinations(FACTORS.items(), 2):
        found += [((one, a), (other, b)) for a in levels for b in others]
    return found


def read_array() -> list[Row]:
    """The rows of `campaign_array.txt`: what is not named there has its plainest level."""
    rows = []
    for line in ARRAY.read_text().splitlines():
        changes = dict(word.split("=") for word in line.split())
        rows.append(PLAINEST | changes)
    return rows


def written(row: Row) -> str:
    """A line of the array: what differs from the plainest campaign."""
    return " ".join(f"{key}={value}" for key, value in row.items() if value != PLAINEST[key])


# Rows in whose place a pair is tried: some choices need a third one.
COMPANY: tuple[Row, ...] = (
    {},
    {"depth": "2"},
    {"activation": "linear"},
    {"theories": "none"},
    {"regression": "plain", "theories": "all"},
    {"regression": "alone", "theories": "regression"},
    {"source": "patches", "architecture": "patches"},
    {"source": "patches", "architecture": "patches", "theories": "all"},
    {"grid": "width"},
    {"grid": "noise"},
    {"grid": "temperature", "theories": "nngp"},
    {"scheme": "gibbs", "activation": "linear"},
    {"scheme": "gibbs_moves"},
    {"scheme": "prior", "theories": "none"},
    {"source": "npz_outputs", "theories": "none"},
    {"source": "linear"},
    {"source": "power_law"},
    {"source": "digits"},
    {"architecture": "image", "theories": "none"},
    {"observe": "measure", "theories": "none", "step": "auto"},
    {"draws": "few"},
    {"chains": "8", "block": "half"},
    {"regression": "quartic", "theories": "all"},
)


def attempts(pair: Pair) -> Iterator[Row]:
    """Rows with the pair in them, the plainest first."""
    for company in COMPANY:
        yield PLAINEST | company | dict(pair)


def possible(pair: Pair) -> Row | None:
    """A row with the pair in it, where there is one."""
    return next((row for row in attempts(pair) if valid(row) and prepared(row)), None)


def covering_array(rows: Sequence[Row], seed: int = 0) -> list[Row]:
    """What is accepted of `rows`, and more, to hold every pair that a row of `attempts` can have.

    Each new row begins with a pair that is still missing and goes on greedily: factor by factor it
    takes the level that brings most missing pairs and keeps the campaign valid. It stands in a
    folder where `write_files` has written.
    """
    draw = random.Random(seed)
    rows = [row for row in rows if prepared(row)]
    missing = set(all_pairs()).difference(*map(pairs_of, rows))
    for pair in all_pairs():
        if pair not in missing:
            continue
        start = possible(pair)
        if start is None:
            missing.discard(pair)
            continue
        row = _grown(start, {factor for factor, _ in pair}, missing, draw)
        missing -= pairs_of(row)
        rows.append(row)
        print(len(rows), len(missing), file=sys.stderr)
    return rows


def _grown(row: Row, fixed: set[str], missing: set[Pair], draw: random.Random) -> Row:
    free = [factor for factor in FACTORS if factor not in fixed]
    draw.shuffle(free)
    for factor in free:
        gains = sorted(
            (-_gain(row | {factor: level}, factor, missing), draw.random(), level)
             for level in FACTORS[factor]
        )  # fmt: skip
        here = _gain(row, factor, missing)
        for gain, _, level in gains:
            if -gain <= here:
                break
            if valid(row | {factor: level}) and prepared(row | {factor: level}):
                row = row | {factor: level}
                break
    return row


def _gain(row: Row, factor: str, missing: set[Pair]) -> int:
    own = (factor, row[factor])
    places = {name: place for place, name in enumerate(FACTORS)}
    pairs = (
        (own, other) if places[factor] < places[other[0]] else (other, own)
        for other in row.items()
        if other[0] != factor
    )
    return sum(pair in missing for pair in pairs)


def main() -> None:
    """Write the covering array."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        write_files(Path(folder))
        for row in covering_array(read_array()):
            print(written(row))


if __name__ == "__main__":
    main()
