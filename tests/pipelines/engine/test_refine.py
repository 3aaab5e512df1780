"""Campaigns that add cells of their own accord: where, within which budget, and at what cost."""

import itertools
import math
import re
import shutil

import numpy as np
import pytest

from pipelines.commands.status import status
from pipelines.engine.engine import Inline, drive
from pipelines.engine.refine import bimodality, next_round
from pipelines.engine.stages import COMPARING, analyze
from pipelines.estimates.estimate import estimate
from storage.backend.reader import open_campaign, open_raw
from storage.errors import CampaignError
from storage.reading.document import parse, parse_stored
from storage.store.results import stored_plan
from storage.store.store import Store
from storage.verification.verify import verify
from support.driving import contents, prepared, simulate, unlike
from support.fake_ensemble import TEXT, fill, noise, stored

TRANSITION = 0.6371  # where the order parameter jumps
START = [0.1, 0.4, 0.7, 1.0]
LINE = f"\nsweep: {{temperature: {{sampler.temperature: {START}}}}}\n"
GRADIENT = "refine: {axis: temperature, by: gradient, observable: learnability He1, %s}\n"


def measured(shard):
    """An order parameter that jumps at the transition, with noise in its draws."""
    temperature = shard.cell.spec.sampler.temperature
    level = 0.5 - 0.5 * math.tanh((temperature - TRANSITION) / 1e-3)
    draws = level + 0.01 * noise(shard).standard_normal((4, 100, 2))
    return {"learnability": draws, "label": np.zeros(40)}


def refined(folder, refine, make=measured):
    """The plan after all rounds, each of them filled in."""
    store, planned = stored(folder, TEXT + LINE + refine)
    fill(store, planned, make)
    while (found := next_round(store, planned)) is not None:
        store.add_round(found)
        planned = stored_plan(store)
        store.allocate(planned)
        fill(store, planned, make)
    return planned


@pytest.mark.slow
def test_a_transition_is_located_to_1_percent_with_a_third_of_a_uniform_grid(tmp_path):
    planned = refined(tmp_path, GRADIENT % "rounds: 6, budget: 1000")
    found = [cell.spec.sampler.temperature for cell in planned.cells]
    above = min(t for t in found if t > TRANSITION)
    below = max(t for t in found if t < TRANSITION)
    assert above - below <= 0.01 * (START[-1] - START[0])
    assert len(found) == 10 <= 100 / 3
    assert [cell.refined for cell in planned.cells] == [False] * 4 + [True] * 6


@pytest.mark.slow
def test_the_budget_is_kept(tmp_path):
    per_cell = 2 * 2 * (1 + 2)  # datasets, blocks, the warm-up and two segments
    planned = refined(tmp_path, GRADIENT % f"rounds: 6, budget: {3 * per_cell + per_cell - 1}")
    assert sum(cell.refined for cell in planned.cells) == 3


@pytest.mark.slow
def test_rounds_are_counted(tmp_path):
    planned = refined(tmp_path, GRADIENT % "rounds: 2, budget: 1000")
    assert [len(each.points) for each in planned.rounds] == [1, 1]


@pytest.mark.slow
def test_what_the_campaign_leaves_out_is_not_added(tmp_path):
    planned = refined(
        tmp_path, GRADIENT % "rounds: 3, budget: 1000" + "exclude: [{temperature: 0.7}]\n"
    )
    found = [cell.spec.sampler.temperature for cell in planned.cells]
    assert len(found) == 6
    assert not [t for t in found if 0.4 < t < 1]  # where the transition is, about its middle 0.7


@pytest.mark.slow
def test_two_lobes_are_looked_at_from_both_sides(tmp_path):
    def lobes(shard):
        """The draws of the cell at 0.7 are ±1, those of the others normal."""
        draws = noise(shard).standard_normal((4, 100, 2))
        if shard.cell.spec.sampler.temperature == 0.7:
            draws = np.sign(draws)
        return {"learnability": draws, "label": np.zeros(40)}

    line = GRADIENT.replace("gradient", "bimodality")
    planned = refined(tmp_path, line % "rounds: 2, budget: 1000", lobes)
    added = [c.settings["sampler.temperature"] for c in planned.cells if c.refined]
    assert sorted(added) == pytest.approx([0.55, 0.85])


@pytest.mark.parametrize(
    ("draws", "expected"),
    [
        (np.array([-1.0, 1.0] * 50), 1.0),
        (np.array([0.0] * 90 + [1.0] * 10), 1.0),
        (np.linspace(-1, 1, 100_001), 5 / 9),
        (np.sqrt(2) * np.array([-1.5, 0.0, 1.5]), 2 / 3),
    ],
    ids=["two points", "two unequal points", "uniform", "three points"],
)
def test_bimodality_of_known_laws(draws, expected):
    assert bimodality(draws) == pytest.approx(expected, rel=1e-4)
    assert bimodality(3 - 2 * draws) == pytest.approx(expected, rel=1e-4)


def test_what_does_not_vary_has_no_lobes():
    assert math.isnan(bimodality(np.ones(9)))


@pytest.mark.slow
def test_a_campaign_refines_itself_and_computes_nothing_twice(tmp_path):
    before = prepared(tmp_path / "plain")
    simulate(before)
    refine = "refine={axis: size, by: gradient, observable: loss, rounds: 2, budget: 1000}"
    campaign = prepared(tmp_path, refine)
    with drive(campaign, Inline()) as driven:
        for wave in driven.left:
            list(driven.run(wave))
        assert driven.refine()
        assert [cell.settings["network.width"] for cell in driven.plan.cells] == [4, 8, 6]
        assert {lane[0].cell.index for wave in driven.left for lane in wave.lanes} == {2}
    # Killed here, the campaign goes on with the cell that it had added.
    with drive(campaign, Inline()) as driven:
        assert driven.plan.cells[2].refined
        assert driven.left
        while True:
            for wave in driven.left:
                list(driven.run(wave))
            driven.check()
            if not driven.refine():
                break
        widths = [cell.settings["network.width"] for cell in driven.plan.cells]
        assert widths[:3] == [4, 8, 6]
        assert widths[3] in (5, 7)
        assert len(widths) == 4
    assert verify(campaign.store) == []
    chunks = contents(f"{before.store.url}/data.zarr/ensemble/loss/c")
    after = contents(f"{campaign.store.url}/data.zarr/ensemble/loss/c")
    assert {name: after[name] for name in chunks} == chunks
    tree = open_campaign(campaign.store.url)
    assert tree["ensemble"].sizes["size"] == 2  # the labelled grid holds the sweep alone
    assert campaign.store.root["ensemble/refined"][...].tolist() == [0, 0, 1, 1]


# -- room in the store ------------------------------------------------------------------------

# Cells of small.yaml have 20 shards: the budget pays for three, and there are rounds for two.
REFINE = "refine={axis: size, by: gradient, observable: loss, rounds: 2, budget: 79}"


def stops(driven):
    """Drive a campaign to its end, stopping before and after each of its rounds."""
    while True:
        yield
        for wave in driven.left:
            list(driven.run(wave))
        driven.check()
        yield
        if not driven.refine():
            return


def to_the_end(campaign):
    """Go on with a campaign; the number of its cells."""
    with drive(campaign, Inline()) as driven:
        for _ in stops(driven):
            pass
        analyze(driven.store, campaign.plugins, COMPARING)
        return len(driven.plan.cells)


def everything(store):
    """All of a campaign but who drove it, when and where."""
    parts = ("data.zarr", "checkpoints", "specs", "refined")
    return {f"{part}/{k}": v for part in parts for k, v in contents(f"{store.url}/{part}").items()}


def shapes(store):
    """The shape of every array of the groups that shards write, as readers see it."""
    tree = open_raw(store.url)
    groups = ("ensemble", "step_check", "regression")
    return {f"{g}/{name}": v.shape for g in groups for name, v in tree[g].variables.items()}


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The folder of a campaign that has refined itself and ended, and what was seen on the way."""
    folder = tmp_path_factory.mktemp("ended")
    campaign, seen = prepared(folder, REFINE), []
    with drive(campaign, Inline()) as driven:
        for _ in stops(driven):
            trees = [open_raw(driven.store.url).load(), open_campaign(driven.store.url).load()]
            seen.append((shapes(driven.store), *trees, status(driven.store), verify(driven.store)))
        analyze(driven.store, campaign.plugins, COMPARING)
    return folder, seen


@pytest.mark.slow
def test_no_array_changes_its_shape_before_the_campaign_ends(ended):
    folder, seen = ended
    first, *others = [found for found, *_ in seen]
    assert len(others) == 5  # before and after the sweep and two rounds
    assert all(found == first for found in others)
    assert first["ensemble/loss"][0] == first["step_check/loss"][0] == 2 + 3
    last = shapes(prepared(folder, REFINE).store)
    assert last["ensemble/loss"][0] == last["step_check/loss"][0] == 2 + 2
    assert last.keys() == first.keys()
    assert [last[name][1:] for name in last] == [first[name][1:] for name in last]


@pytest.mark.slow
def test_room_is_told_from_cells_and_shown_by_none_of_our_readers(ended):
    for index, (_, raw, labelled, lines, bad) in enumerate(ended[1]):
        cells, ensemble = 2 + index // 2, raw["ensemble"].to_dataset()
        assert (ensemble["refined"] == 2).values.tolist() == [False] * cells + [True] * (5 - cells)
        room = ensemble.isel(cell=slice(cells, None))
        assert room["physical_temperature"].isnull().all()
        assert not room["network_width"].any()
        assert room["loss"].isnull().all()
        assert not room["finished"].any()
        assert labelled["ensemble"].sizes["size"] == 2
        assert len(re.findall(r"^  \d+ +\d+ of 20\b", lines, flags=re.MULTILINE)) == cells
        assert lines.count(" of 2  ") == (cells if "progress" in raw else 0)  # of its datasets
        assert bad == []
        analyzed = [group for group in raw.subtree if group.path.startswith(("/fits", "/theory/n"))]
        assert len(analyzed) == (0 if index < 2 else 2)
        assert {g.sizes["cell"] for g in analyzed} <= {cells - 1}  # what there was before the round


@pytest.mark.slow
def test_an_ended_campaign_has_its_cells_and_running_it_again_leaves_it_so(ended, tmp_path):
    shutil.copytree(ended[0], tmp_path, dirs_exist_ok=True)
    campaign = prepared(tmp_path, REFINE)
    assert campaign.store.root["ensemble/refined"][...].tolist() == [0, 0, 1, 1]
    before = everything(campaign.store)
    assert to_the_end(campaign) == 4
    assert unlike(before, everything(campaign.store)) == []
    assert "4 of the ensemble and budget for 1 more" in estimate(campaign)


def test_a_budget_below_the_shards_of_a_cell_is_told(tmp_path):
    assert "budget for no more" in estimate(prepared(tmp_path, REFINE.replace("79", "1")))


@pytest.mark.slow
def test_kills_on_the_way_leave_no_trace(ended, tmp_path, monkeypatch):
    allocate = Store.allocate

    def die(store):
        raise OSError("killed")

    def killed(store, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr(Store, "publish", die)
            allocate(store, *arguments)

    campaign = prepared(tmp_path, REFINE)
    for _ in range(3):  # the sweep and two rounds
        with drive(campaign, Inline()) as driven:
            next(driven.run(driven.left[0]))
        with drive(campaign, Inline()) as driven, monkeypatch.context() as patch:
            for wave in driven.left:
                list(driven.run(wave))
            patch.setattr(Store, "allocate", killed)  # for the next round, or without room
            with pytest.raises(OSError, match="killed"):
                driven.refine()
    to_the_end(campaign)
    undisturbed = prepared(ended[0], REFINE).store
    assert unlike(everything(undisturbed), everything(campaign.store)) == []


MORE = {
    "cells": (False, [REFINE, "sweep.size={network.width: [4, 8, 16]}"]),
    "budget": (True, [REFINE.replace("rounds: 2, budget: 79", "rounds: 3, budget: 119")]),
    "draws": (False, [REFINE, "sampler.draws=8"]),
    "draws at the end": (True, [REFINE, "sampler.draws=8"]),
    "no refinement and no check": (False, ["sampler.step_check=false"]),
}


@pytest.mark.slow
@pytest.mark.parametrize(("at_the_end", "overrides"), MORE.values(), ids=MORE.keys())
def test_more_of_a_campaign_with_room_computes_nothing_twice(
    ended, tmp_path, at_the_end, overrides
):
    """Asked for when it has ended, or when its driver has died in a round."""
    if at_the_end:
        shutil.copytree(ended[0], tmp_path, dirs_exist_ok=True)
    else:
        with drive(prepared(tmp_path, REFINE), Inline()) as driven:
            next(itertools.islice(stops(driven), 2, None))
            next(driven.run(driven.left[0]))
    campaign = prepared(tmp_path, *overrides)
    store = campaign.store
    receipts, losses = f"{store.url}/ledger/receipts", f"{store.data}/ensemble/loss/c"
    before = contents(receipts), contents(losses)
    cells = to_the_end(campaign)
    for kept, found in zip(before, (contents(receipts), contents(losses)), strict=True):
        assert [name for name in kept if found[name] != kept[name]] == []
    for group in ("ensemble", "step_check"):
        assert open_raw(store.url)[group].sizes["cell"] == cells
        assert (open_raw(store.url)[group]["refined"] < 2).all()
    assert f"cells     {cells} finished" in status(store)
    assert verify(store) == []  # every array is what its receipt says


REFUSED = {
    "refine: {axis: heat, by: disagreement, budget: 9}": "no axis of the sweep is heat",
    "refine: {axis: temperature, by: gradient, budget: 9}": "by gradient needs an observable",
    "refine: {axis: temperature, by: disagreement, observable: loss, budget: 9}": "observable out",
    "refine: {axis: temperature, by: gradient, observable: mass, budget: 9}": "refine.observable:",
    "refine: {axis: temperature, by: gradient, observable: loss, budget: 0}": "refine.budget:",
    "refine: {axis: temperature, by: slope, observable: loss, budget: 9}": "refine.by:",
}


@pytest.mark.parametrize(("section", "line"), REFUSED.items(), ids=REFUSED.values())
def test_what_cannot_be_refined_is_refused_in_one_line(section, line):
    with pytest.raises(CampaignError) as caught:
        parse(TEXT + LINE + section)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


DISAGREEMENT = "refine={axis: temperature, by: disagreement, budget: 99}"
FUTILE = {
    "found none in theories: name one": ["theories=[]", DISAGREEMENT],
    "scheme gd is never compared with theories": ["sampler.scheme=gd", DISAGREEMENT],
    "nothing lies between the values [3, 4, 5] of network.width": [
        "sweep={size: {network.width: [4, 3, 5]}}",
        "refine={axis: size, by: gradient, observable: loss, budget: 99}",
    ],
}


@pytest.mark.parametrize(("line", "overrides"), FUTILE.items(), ids=FUTILE.keys())
def test_a_refinement_that_could_add_nothing_is_refused(line, overrides):
    with pytest.raises(CampaignError) as caught:
        parse(TEXT + LINE, overrides)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_a_store_keeps_is_read_though_it_is_refused_by_now():
    text = TEXT.replace("theories: [nngp, kernel_scaling]", "theories: [adaptive, scale_mixture]")
    with pytest.raises(CampaignError, match="scale_mixture does not hold: found activation erf"):
        parse(text)
    assert parse_stored(text).theories == ("adaptive", "scale_mixture")
