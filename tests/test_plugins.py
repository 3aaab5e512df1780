"""The plug-ins of the README do what it says, and nothing runs that was not allowed by name."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pipelines import engine
from storage.errors import CampaignError
from storage.plugins import ALLOWED
from storage.reading import parse

README = Path(__file__).parent.parent / "README.md"

CAMPAIGN = """
version: 1
name: plugins
data: {source: single_index, dimension: 3, teacher: {1: 1.0}, train: 12, test: 16}
network: {width: 6, activation: erf, weight_variance: [1, 1]}
sampler: {scheme: baoab, temperature: 0.5, step_size: 0.1, friction: 1, warmup: 20, draws: 4,
  thin: 2, segment: 2}
ensemble: {datasets: 1, chains: 2, block: 2}
observe: {points: 8}
"""


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """The examples of the README as modules in the working directory."""
    for name, body in re.findall(
        r"```python\n# (\w+)\.py: [^\n]*\n(.*?)```", README.read_text(), re.S
    ):
        (tmp_path / f"{name}.py").write_text(body)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv(ALLOWED, raising=False)
    return tmp_path


def simulate(module: str, *overrides: str) -> xr.Dataset:
    prepared = engine.prepare(parse(CAMPAIGN, overrides), "results", [module])
    with engine.drive(prepared, engine.Inline()) as driven:
        for wave in driven.left:
            list(driven.run(wave))
        driven.check()
    return xr.open_dataset(driven.store.data, group="ensemble", engine="zarr", consolidated=False)


def test_activation(modules):
    ensemble = simulate("softsign", "network.activation=softsign:phi")
    assert np.isfinite(ensemble.learnability).all()
    assert ensemble.histogram.sum("bin").values.ravel().tolist() == [6 * 2] * 2 * 2 * 3


def test_data_source(modules):
    data = "data={source: 'rings:make', train: 12, test: 16, settings: {radius: 2.0}}"
    ensemble = simulate("rings", data)
    assert set(np.unique(ensemble.label)) == {-1.0, 1.0}


def test_architecture(modules):
    ensemble = simulate(
        "residual",
        "network={architecture: 'residual:net', activation: tanh, width: 6, depth: 2, "
        "weight_variance: [1, 1, 1]}",
        "observe={points: 8, histograms: false, kernels: false}",
    )
    assert np.isfinite(ensemble.loss).all()
    assert "histogram" not in ensemble


def test_observable_is_measured_on_every_draw(modules):
    ensemble = simulate("roughness", "observe.measure=['roughness:roughness']")
    assert ensemble.roughness.dims == ("cell", "dataset", "chain", "draw")
    assert (ensemble.roughness > 0).all()


def test_theory_is_held_against_the_ensemble(modules):
    from pipelines.analysis.predict import predict

    prepared = engine.prepare(parse(CAMPAIGN, ["theories=['ridge:predict']"]), "results", ["ridge"])
    with engine.drive(prepared, engine.Inline()) as driven:
        for wave in driven.left:
            list(driven.run(wave))
        predict(driven.store, prepared.plugins)
    tree = xr.open_datatree(driven.store.data, engine="zarr", consolidated=False)
    learnability = tree["theory/ridge_predict"].learnability
    assert learnability.dims == ("cell", "dataset", "component")
    assert 0 < learnability.item() < 1


def test_a_spec_alone_runs_no_code(modules):
    spec = parse(CAMPAIGN, ["network.activation=softsign:phi"])
    with pytest.raises(CampaignError, match=r"allow it with --plugins softsign"):
        engine.prepare(spec, "results")
    assert not (modules / "results").exists()


def test_the_environment_allows_a_module_too(modules, monkeypatch):
    monkeypatch.setenv(ALLOWED, "other,softsign")
    engine.prepare(parse(CAMPAIGN, ["network.activation=softsign:phi"]), "results")


def test_another_source_is_another_campaign(modules):
    spec = parse(CAMPAIGN, ["network.activation=softsign:phi"])
    before = engine.prepare(spec, "results", ["softsign"]).store.url
    with (modules / "softsign.py").open("a") as file:
        file.write("\n# changed\n")
    assert engine.prepare(spec, "results", ["softsign"]).store.url != before


@pytest.mark.parametrize(
    ("setting", "module", "line"),
    [
        ("network.activation=absent_module:phi", "absent_module", "cannot be found"),
        ("network.activation=softsign:psi", "softsign", "has no psi"),
        ("observe.measure=['roughness:absent']", "roughness", "has no absent"),
        ("data={source: 'softsign:phi', train: 2, test: 2}", "softsign", "softsign:phi"),
    ],
)
def test_a_wrong_name_is_one_line_and_nothing_is_written(modules, setting, module, line):
    with pytest.raises(CampaignError, match=line) as caught:
        engine.prepare(parse(CAMPAIGN, [setting]), "results", [module])
    assert "\n" not in str(caught.value)
    assert not (modules / "results").exists()
