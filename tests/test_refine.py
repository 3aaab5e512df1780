"""Campaigns that add cells of their own accord: where, within which budget, and at what cost."""

import math

import numpy as np
import pytest
from driving import contents, prepared, simulate
from fake_ensemble import TEXT, fill, noise, stored

from pipelines.engine import Inline, drive
from pipelines.refine import bimodality, next_round
from storage.errors import CampaignError
from storage.reader import open_campaign
from storage.reading import parse
from storage.results import stored_plan
from storage.verify import verify

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
