"""The manuals: their campaigns run, their code does what it says, their links lead somewhere."""

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
MANUAL = (ROOT / "pipelines" / "README.md").read_text()
SECTION = MANUAL.partition("## Learning curves of your own data")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", SECTION, re.S)


@pytest.mark.slow
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


MANUALS = [
    path
    for path in sorted(ROOT.rglob("*.md"))
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
]


@pytest.mark.parametrize("manual", MANUALS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_a_manual_lead_somewhere(manual):
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", manual.read_text()):
        assert (manual.parent / target).exists(), target


def test_the_campaign_of_the_readme_is_accepted(finitewidth, tmp_path):
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 120
    (campaign,) = re.findall(r"```yaml\n(.*?)```", readme, re.S)
    (tmp_path / "cubic.yaml").write_text(campaign)
    status, said, _ = finitewidth("plan", tmp_path / "cubic.yaml")
    assert status == 0
    assert "3 of the ensemble" in said
    assert "measured = grid[" in readme
    assert "# (width, dataset, component)" in readme
