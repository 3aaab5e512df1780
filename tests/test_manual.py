"""The regression campaign of the manual runs, and is read as the manual reads it."""

import re
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

README = (Path(__file__).parents[1] / "README.md").read_text()
SECTION = README.partition("### Learning curves of your own data")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", SECTION, re.S)


def test_learning_curves_of_ones_own_data(tmp_path, monkeypatch, finitewidth):
    monkeypatch.chdir(tmp_path)
    (_, make), (_, campaign), (_, commands), (_, look) = BLOCKS
    exec(make, {})
    (tmp_path / "digits-curves.yaml").write_text(campaign)
    for command in re.findall(r"\$ finitewidth (\w+) (\S+)", commands):
        inline = ["--executor", "inline"] if command[0] == "run" else []
        assert finitewidth(*command, *inline)[0] == 0
    (store,) = (tmp_path / "results").glob("digits-curves-*")
    names = {}
    exec(look.replace("digits-curves-...", store.name), names)
    assert names["measured"].dims == ("repeat", "train", "ridge")
    assert names["measured"].shape == (10, 4, 2)
    assert np.isfinite(names["measured"]).all()
    assert (names["mean"].diff("train") < 0).all()
    assert names["residual"].dims == ("train", "ridge")
    assert np.abs(names["residual"]).max() < 20  # within the size of an error, not of the curve
    assert names["residual"].sel(train=100, ridge=0.1).size == 1
