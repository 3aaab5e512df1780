"""What theories and observables are called in sentences."""

import json
from typing import TYPE_CHECKING

from storage.campaign.observables import CURVES, IN_TIME, RECORDS, in_plain
from storage.campaign.theories import introduce, record
from storage.campaign.theory_record import Theory

if TYPE_CHECKING:
    from xarray import DataTree


def in_words(theory: str) -> str:
    """`the NNGP`; a plug-in without words by its own name."""
    return record(theory).words or theory


def learn(tree: "DataTree") -> None:
    """Know what a store calls its observables, and the theories of users that it has."""
    theories = tree.children.get("theory")
    for node in theories.children.values() if theories is not None else ():
        if "record" in node.attrs:
            known = json.loads(node.attrs["record"])
            papers = tuple(known.pop("papers", ()))
            introduce(Theory(node.attrs["theory"], papers=papers, **known))
    if "verdicts" in tree.children:
        _WORDS.update(json.loads(tree["verdicts"].attrs.get("words", "{}")))


def observable_in_words(observable: str) -> str:
    """The observable in running text, as the store has it; else by its name."""
    return _WORDS.get(observable) or in_plain(observable)


# Of observables, by their names: the same in every campaign. A store knows those with labels.
_WORDS = {
    record.kind: record.words
    for record in (*IN_TIME, *RECORDS, *CURVES)
    if isinstance(record.words, str)
}
