"""What a plan says of the mean field: as many steps as its particles take."""

from pathlib import Path

import pytest

from pipelines.commands.packaged import find
from pipelines.engine import engine
from pipelines.estimates import particles
from pipelines.estimates.speeds import Speeds
from pipelines.theories import trajectory_theories
from pipelines.theories.ensemble_theories import Problem
from storage.reading.document import read
from theory.dynamics.mean_field import REPLICAS
from theory.dynamics.particles import System
from workers.data.datasets import dataset

SMALL = ("data.train=4", "data.test=4", "observe.points=2", "sampler.draws=6", "sampler.segment=2")
OF_A_PAIR = 3  # steps: two, and one of twice the length


@pytest.fixture
def campaign(tmp_path):
    return engine.prepare(read(find("mean-field-dynamics"), SMALL), str(tmp_path / "store"))


@pytest.fixture
def speeds(tmp_path):
    return Speeds(Path(tmp_path / "speeds.json"))


@pytest.mark.parametrize("cell", [0, 3])
def test_all_pairs_of_steps_are_counted(cell, campaign, speeds, monkeypatch):
    cell, times, taken = campaign.plan.cells[cell], campaign.plan.times, []
    plain = System.step
    monkeypatch.setattr(trajectory_theories, "PARTICLES", 8)
    said = particles.seconds(campaign, speeds, True, cell, times)
    monkeypatch.setattr(System, "step", lambda *given: taken.append(1) or plain(*given))
    data = dataset(cell.spec, 0, campaign.plugins, campaign.sources)
    problem = Problem(cell.spec, data, campaign.plugins, times)
    trajectory_theories.features(problem, cell.spec.network.width)
    monkeypatch.setattr(particles, "_few", lambda *_: pytest.fail("it is known"))
    again = particles.seconds(campaign, speeds, False, cell, times)
    assert said is not None
    assert said == again
    (_, pair) = next(iter(speeds._new.values()))["seconds"]
    assert said / pair == pytest.approx(len(taken) / OF_A_PAIR)
    assert len(taken) % (OF_A_PAIR * REPLICAS) == 0


def test_what_would_take_long_to_try_is_not_tried(campaign, speeds, monkeypatch):
    cell, times = campaign.plan.cells[0], campaign.plan.times
    assert particles.seconds(campaign, speeds, False, cell, times) is None
    monkeypatch.setattr(particles, "MAX_POINTS", cell.spec.data.train - 1)
    assert particles.seconds(campaign, speeds, True, cell, times) is None


def test_cells_that_the_theory_does_not_fit_cost_nothing(tmp_path, speeds):
    over_depths = ("sweep={depth: {network.depth: [1, 2]}}", "network.weight_variance=1")
    text = read(find("mean-field-dynamics"), (*SMALL, *over_depths))
    campaign = engine.prepare(text, str(tmp_path / "store"))
    shallow, deep = (
        particles.seconds(campaign, speeds, True, cell, campaign.plan.times)
        for cell in campaign.plan.cells
    )
    assert shallow > 0
    assert deep is None


def test_particles_that_leave_all_bounds_are_told_by_the_prediction(campaign, speeds, monkeypatch):
    def leave(*_, **__):
        raise ValueError("particles have left all bounds")

    monkeypatch.setattr(particles, "solved", leave)
    assert particles.seconds(campaign, speeds, True, *_first(campaign)) is None


def _first(campaign):
    return campaign.plan.cells[0], campaign.plan.times
