"""What is refused of steps and of random networks, in one line, before anything is computed."""

import pytest

from pipelines.commands.packaged import find
from storage.campaign.plugins import Plugins
from storage.errors import CampaignError
from storage.planning.plan import plan
from storage.reading.document import read
from workers.data.datasets import dataset
from workers.ensemble import trajectory_checks
from workers.ensemble.signal_checks import check_signal
from workers.ensemble.trajectory_checks import check_step

ALONE = ("sweep={}", "theories=[]")
QUADRATIC = ("network.activation=quadratic", "network.depth=12", "network.weight_variance=9")
TOO_LARGE = {
    "float64": (QUADRATIC, "random networks are not finite: a pre-activation has variance"),
    "float32": (
        ("network.activation=relu", "network.depth=20", "network.weight_variance=400"),
        "outputs of random networks have variance .*, and float32 ends at 3.4e\\+38",
    ),
}


def checked(check, name: str, *changes: str):
    spec = plan(read(find(name), [*ALONE, *changes])).cells[0].spec
    check(spec, dataset(spec, 0, Plugins(), {}), Plugins())


@pytest.mark.parametrize("name", TOO_LARGE)
def test_random_networks_that_overflow_are_refused(name):
    changes, message = TOO_LARGE[name]
    with pytest.raises(CampaignError, match=message) as refusal:
        checked(check_signal, "width-corrections", *changes)
    assert "\n" not in str(refusal.value)
    checked(check_signal, "width-corrections")


def test_steps_beyond_stability_are_refused_and_so_are_networks_that_overflow():
    checked(check_step, "ntk-to-nngp")
    long = ("sampler.step_size=0.1", "sampler.times={first: 1, ratio: 2}")
    with pytest.raises(
        CampaignError, match=r"step_size is 0\.1, beyond stability: .* give at most"
    ):
        checked(check_step, "ntk-to-nngp", *long)
    with pytest.raises(CampaignError, match="tangent kernel of the networks is not known"):
        checked(check_step, "ntk-to-nngp", *QUADRATIC)


def test_the_fastest_mode_of_many_points_is_known_from_a_part_of_them(monkeypatch):
    """Of a Gaussian cloud the largest eigenvalue grows as the number of points."""
    steps = []
    for most in (512, 2048):
        monkeypatch.setattr(trajectory_checks, "MOST_POINTS", most)
        with pytest.raises(CampaignError, match="give at most") as refusal:
            checked(check_step, "ntk-to-nngp", "data.train=1024", "sampler.step_size=0.0015")
        steps.append(float(str(refusal.value).rpartition(" ")[2]))
    assert steps[0] == pytest.approx(steps[1], rel=0.1)
