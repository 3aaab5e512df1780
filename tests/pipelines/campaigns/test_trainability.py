"""The packaged campaigns of trainability, reduced, and what they assert."""

import os

import numpy as np
import pytest
import torch

from pipelines.commands import packaged
from pipelines.engine import engine
from pipelines.report.figures import phases
from pipelines.report.sentences.accuracy_conclusions import accuracy_lines
from storage.backend.reader import open_campaign
from storage.reading.document import read
from support.driving import simulate
from theory.signal import fixed_point

torch.set_num_threads(1)  # as in a worker

MNIST = os.environ.get("FINITEWIDTH_MNIST", "")
SHALLOW, DEEP = 2, 30
REDUCED = (
    f"sweep.layers={{network.depth: [{SHALLOW}, {DEEP}]}}",
    "sweep.weights={network.weight_variance: [0.3, 0.9, 2.7]}",
    "sweep.biases={network.bias_variance: [0.02, 0.1, 0.2]}",
    "regression.pool=300",
    "regression.train=[100]",
)


@pytest.mark.slow
def test_deep_networks_learn_near_criticality_and_not_in_chaos(tmp_path):
    prepared = engine.prepare(read(packaged.find("trainability-digits"), REDUCED), str(tmp_path))
    simulate(prepared)
    tree = open_campaign(prepared.store.url)
    found = tree["regression"]["test_accuracy"].squeeze()  # layers, weights, biases, repeat
    found = found.transpose("layers", "weights", "biases", "repeat").values
    mean = found.mean(-1)
    error = found.std(-1, ddof=1) / found.shape[-1] ** 0.5
    (shallow, deep), at_bias = mean, 0
    order, critical, chaos = range(3)
    assert (shallow > 0.85).all()
    count = 200  # held-out points: a coin's standard error, and that of the repeats
    reach = 5 * np.hypot(0.5 / count**0.5, error[1, order, at_bias])
    assert abs(deep[order, at_bias] - 0.5) < reach
    assert deep[critical, at_bias] > shallow[critical, at_bias] - 0.06
    lost = shallow[chaos, at_bias] - deep[chaos, at_bias]
    assert lost > 2 * np.hypot(*error[:, chaos, at_bias])
    assert deep[chaos, at_bias] > 0.65  # and is not at chance
    scale = fixed_point("erf", weight_variance=2.7, bias_variance=0.02).depth_correlation
    assert 7 < float(scale) < 8  # layers, against 30
    lines = list(accuracy_lines(tree))
    assert len(lines) == 1
    assert "is highest with" in lines[0]
    panel = phases.panel(tree)
    assert panel is not None
    assert panel.figure is not None


@pytest.mark.skipif(not MNIST, reason="FINITEWIDTH_MNIST names no folder with the MNIST test files")
def test_ten_classes_of_mnist_are_told_apart_near_criticality_alone(tmp_path):
    reduced = (
        f"data.folder={MNIST}",
        f"sweep.layers={{network.depth: [{DEEP}]}}",
        "sweep.weights={network.weight_variance: [0.5, 1.5]}",
        "sweep.biases={network.bias_variance: [0.02]}",
        "regression.pool=300",
        "regression.train=[100]",
    )
    prepared = engine.prepare(read(packaged.find("trainability-mnist"), reduced), str(tmp_path))
    simulate(prepared)
    found = open_campaign(prepared.store.url)["regression"]["test_accuracy"].squeeze()
    order, critical = found.transpose("weights", "repeat").values
    # Guesses of ten classes among 200 held-out points: the deviation of a share of 0.1.
    assert abs(order.mean() - 0.1) < 0.05 + 5 * (0.09 / 200) ** 0.5
    assert critical.min() > 0.6
