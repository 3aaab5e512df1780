"""The packaged campaigns of networks in time, reduced, and what they assert."""

import numpy as np
import pytest
import torch

from pipelines.analysis.trajectories import judged
from pipelines.commands import packaged
from pipelines.engine import engine, stages
from pipelines.report.figures import in_time
from pipelines.report.sentences.conclusions import conclusions
from storage.backend.reader import open_campaign
from storage.reading.document import read
from support.driving import contents, simulate, unlike
from theory.statistics import bonferroni

torch.set_num_threads(1)  # as in a worker

LEVEL = 1e-3
pytestmark = pytest.mark.slow


def analyzed(name: str, folder: object, *overrides: str):
    """A packaged campaign, reduced, as a tree."""
    prepared = engine.prepare(read(packaged.find(name), overrides), str(folder))
    simulate(prepared)
    stages.analyze(prepared.store, prepared.plugins, ["assess convergence", "predict", "fit"])
    return open_campaign(prepared.store.url)


def limits(tree, theory: str, *kinds: str):
    """p-values in the limit of the width, corrected for their number, (observable,)."""
    laws = tree["scaling"].to_dataset().sel(theory=theory)
    names = [name for name in laws["observable"].values if str(name).startswith(kinds)]
    return bonferroni(laws["intercept_p_value"].sel(observable=names).values)


def test_langevin_dynamics_go_from_the_tangent_kernel_to_the_posterior(tmp_path):
    tree = analyzed(
        "ntk-to-nngp", tmp_path,
        "ensemble.datasets=1", "sampler.step_size=0.003", "sampler.times.first=0.024",
        "sampler.draws=10", "sampler.segment=5", "sweep.width={network.width: [32, 64, 128]}",
    )  # fmt: skip
    kinds = ("loss", "learnability")
    assert limits(tree, "volterra", *kinds).min() > LEVEL
    both = limits(tree, "volterra", "output_covariance")
    assert np.nanmin(both) > LEVEL
    assert np.isnan(both).sum() == 4  # a lag of 1 from the first time, and of 4 from three of them
    assert np.nanmin(limits(tree, "gradient_flow", "output_covariance")) < LEVEL
    fits = tree["fits"].to_dataset()
    first, last = fits["observable"].values[-6], fits["observable"].values[1]
    p = fits["p_value"].sel(width=128)
    assert float(p.sel(theory="gradient_flow", observable=last)) < 1e-9
    assert float(p.sel(theory="nngp", observable=first)) < 1e-9
    panel = in_time.panel(tree)
    assert panel is not None
    assert panel.figure is not None
    assert any("Langevin dynamics at infinite width" in line for line in conclusions(tree))


def test_networks_that_learn_features_follow_the_mean_field(tmp_path):
    tree = analyzed(
        "mean-field-dynamics", tmp_path,
        "sampler.draws=6", "sampler.segment=3", "ensemble.chains=64",
        "sweep.width={network.width: [16, 32, 64], network.chi: [16, 32, 64]}",
    )  # fmt: skip
    found = limits(tree, "mean_field", "loss", "learnability", "hidden_variance teacher")
    assert found.min() > LEVEL
    assert limits(tree, "gradient_flow", "learnability").min() < 1e-9


def test_what_is_asked_for_later_goes_on_with_the_same_bytes(tmp_path):
    """Longer and with more chains: in two runs, or at once."""
    changes = (
        "ensemble.datasets=1", "sweep={}", "network.width=8", "ensemble.block=2",
        "sampler.step_size=0.003", "sampler.times.first=0.006", "sampler.segment=2",
        "observe.lags=[1]",
    )  # fmt: skip

    def run(folder: str, draws: int, chains: int):
        lengths = (f"sampler.draws={draws}", f"ensemble.chains={chains}")
        spec = read(packaged.find("ntk-to-nngp"), [*changes, *lengths])
        simulate(prepared := engine.prepare(spec, str(tmp_path / folder)))
        data = contents(f"{prepared.store.data}/ensemble")
        return {name: each for name, each in data.items() if "/c/" in name}

    before = run("grown", 2, 2)
    grown, whole = run("grown", 6, 4), run("whole", 6, 4)
    assert len(before) < len(grown)
    assert unlike(grown, whole) == []


def test_few_times_are_judged_and_the_ends_among_them():
    assert judged(np.arange(3.0)) == [0, 1, 2]
    found = judged(np.arange(30.0))
    assert len(found) == 8
    assert (found[0], found[-1]) == (0, 29)
