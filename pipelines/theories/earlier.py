"""Predictions that a store has already, and that would come out the same again.

A campaign that has grown by a few cells, as one that refines itself does, need not solve the
equations of the others anew. For each prediction `provenance/predictions.json` has a digest of all
that it follows from. That note goes before the groups do, and is written when they are whole.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from pipelines.progress.freshness import code
from pipelines.theories.ensemble_theories import Prediction, key
from pipelines.theories.theory_groups import VARIABLES, group_name
from storage.campaign.data_spec import PLUGIN
from storage.campaign.plugins import Plugins
from storage.errors import CampaignError
from storage.files.sealed import seal, unseal
from storage.planning.identity import digest
from storage.planning.plan import EnsembleCell, Plan
from storage.store.store import Store

NOTE = "provenance/predictions.json"
Place = tuple[int, int]  # cell and dataset


class Rows(NamedTuple):
    """The numbers of a group by name, (cell, dataset, ...), and the place of each digest."""

    values: Mapping[str, np.ndarray]
    reasons: np.ndarray
    places: Mapping[str, Sequence[int]]

    def of(self, wanted: str) -> Prediction | str | None:
        """A prediction by its digest, or why there is none; None where it is not known."""
        if wanted not in self.places:
            return None
        place = tuple(self.places[wanted])
        if reason := str(self.reasons[place]):
            return reason
        rows = {name: values[place] for name, values in self.values.items()}
        return {name: row for name, row in rows.items() if not np.isnan(row).all()}


class Earlier:
    """The predictions of before by theory, read when this is made, and a note of those of now."""

    def __init__(self, store: Store, theories: Sequence[str]) -> None:
        """Read what is known of these theories, and forget it in the store."""
        self.store = store
        known: Mapping[str, Mapping[str, Sequence[int]]] = {}
        with suppress(ValueError):  # one that nobody can read says nothing
            known = unseal(store.objects.get(NOTE) or b"{}")
        self._rows: dict[str, Rows] = {}
        for theory in known.keys() & {*theories}:
            with suppress(CampaignError, KeyError):  # what is damaged or gone is predicted again
                self._rows[theory] = _rows(store, theory, known[theory])
        self._now: dict[str, dict[str, Place]] = {theory: {} for theory in theories}
        store.objects.delete(NOTE)

    def of(self, theory: str, wanted: Sequence[str]) -> list[Prediction | str] | None:
        """The predictions of these digests; None unless all of them are there."""
        rows = self._rows.get(theory)
        if rows is None:
            return None
        known = [found for each in wanted if (found := rows.of(each)) is not None]
        return known if len(known) == len(wanted) else None

    def note(self, theory: str, wanted: str, place: Place) -> None:
        """A prediction is in its group now."""
        self._now[theory][wanted] = place

    def keep(self) -> None:
        """All groups are whole."""
        self.store.objects.put(NOTE, seal(self._now))


def _rows(store: Store, theory: str, places: Mapping[str, Sequence[int]]) -> Rows:
    group = store.root.group(group_name(theory))
    values = {
        name: np.asarray(array)
        for name, array in group.arrays()
        if array.dims[:2] == ("cell", "dataset") and name not in VARIABLES
    }
    return Rows(values, np.asarray(group["reason"]), places)


def digests(
    theory: str, planned: Plan, plugins: Plugins, cells: Sequence[EnsembleCell], index: int
) -> list[str]:
    """Of all that the predictions for cells follow from which differ in width alone.

    They are solved for together, so that each may follow from the widths of the others.
    """
    users = PLUGIN.fullmatch(theory) is not None  # it is given all of a spec
    shared = [
        code(),
        theory,
        key(cells[0].spec),
        cells[0].spec.observe.model_dump(mode="json"),
        planned.times,
        [cell.spec.network.width for cell in cells],
        [cell.spec.model_dump(mode="json") for cell in cells] if users else None,
        index,
        plugins.digests,
        dict(planned.sources),
    ]
    return [digest([*shared, place]) for place in range(len(cells))]
