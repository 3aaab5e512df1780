"""What a plan says of the mean field: as many steps as its particles take."""

import dataclasses
from pathlib import Path

import pytest

from pipelines.commands.packaged import find
from pipelines.engine import engine
from pipelines.estimates import particles, predictions
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
    said = particles.MeanField(campaign, speeds, True)(cell, times)
    monkeypatch.setattr(System, "step", lambda *given: taken.append(1) or plain(*given))
    data = dataset(cell.spec, 0, campaign.plugins, campaign.sources)
    problem = Problem(cell.spec, data, campaign.plugins, times)
    trajectory_theories.features(problem, cell.spec.network.width)
    monkeypatch.setattr(particles, "_few", lambda *_: pytest.fail("it is known"))
    again = particles.MeanField(campaign, speeds, False)(cell, times)
    assert said is not None
    assert said == again
    _, pair = next(iter(speeds._new.values()))["seconds"]
    assert said / pair == pytest.approx(len(taken) / OF_A_PAIR)
    assert len(taken) % (OF_A_PAIR * REPLICAS) == 0


def test_what_would_take_long_to_try_is_not_tried(campaign, speeds, monkeypatch):
    cell, times = campaign.plan.cells[0], campaign.plan.times
    assert particles.MeanField(campaign, speeds, False)(cell, times) is None
    monkeypatch.setattr(particles, "MAX_POINTS", cell.spec.data.train - 1)
    assert particles.MeanField(campaign, speeds, True)(cell, times) is None


def test_few_cells_are_timed_and_the_others_scaled_by_their_size(tmp_path, speeds, monkeypatch):
    over_sizes = "sweep={size: {data.train: [4, 8, 64]}}"
    text = read(find("mean-field-dynamics"), (*SMALL, over_sizes))
    campaign = engine.prepare(text, str(tmp_path / "store"))
    timed = []

    def few(_, cell):
        timed.append(cell.spec.data.train)
        monkeypatch.setattr(particles, "PATIENCE", 0.0)  # as if it had taken all of it
        return 0.1, 1.0

    monkeypatch.setattr(particles, "_few", few)
    mean_field = particles.MeanField(campaign, speeds, True)
    times = campaign.plan.times
    small, middle, large = (mean_field(cell, times) for cell in campaign.plan.cells)
    assert timed == [4]
    assert [middle / small, large / small] == pytest.approx([2, 16])


def test_theories_cost_nothing_where_they_do_not_fit(tmp_path):
    over_depths = ("sweep={depth: {network.depth: [1, 2]}}", "network.weight_variance=1")
    text = read(find("mean-field-dynamics"), (*SMALL, *over_depths))
    campaign = engine.prepare(text, str(tmp_path / "store"))
    asked = []

    def seconds(theories, mean_field=0.0):
        spec = campaign.plan.spec.model_copy(update={"theories": theories})
        planned = dataclasses.replace(campaign.plan, spec=spec)

        def of_particles(cell, times):
            asked.append(cell.spec.network.depth)
            return mean_field

        return predictions.seconds(planned, lambda *_: 0.0, of_particles, 0.0, 1.0)

    nothing, everywhere = seconds(()), seconds(("gradient_flow",))
    somewhere, with_steps = seconds(("mean_field",)), seconds(("mean_field",), 5.0)
    datasets = campaign.plan.most("ensemble", "datasets")
    assert everywhere - nothing == pytest.approx(2 * (somewhere - nothing))
    assert with_steps - somewhere == pytest.approx(5.0 * datasets)
    assert set(asked) == {1}


def test_particles_that_leave_all_bounds_are_told_by_the_prediction(campaign, speeds, monkeypatch):
    def leave(*_, **__):
        raise ValueError("particles have left all bounds")

    monkeypatch.setattr(particles, "solved", leave)
    assert particles.MeanField(campaign, speeds, True)(*_first(campaign)) is None


def _first(campaign):
    return campaign.plan.cells[0], campaign.plan.times
