"""The plug-ins of the manual do what it says, and nothing runs that was not allowed by name."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pipelines.engine import engine
from pipelines.theories.ensemble_theories import Problem
from storage.campaign.plugins import ALLOWED
from storage.errors import CampaignError
from storage.reading.document import parse
from workers.data.datasets import dataset

README = Path(__file__).parents[2] / "pipelines" / "README.md"

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
    """The examples of the manual as modules in the working directory."""
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


def test_the_identity_is_an_activation_too(modules):
    """Its derivative is one number in the place of many, to which nothing could be added."""
    (modules / "identity.py").write_text("def phi(z):\n    return z\n")
    sys.modules.pop("identity", None)
    ours = simulate("identity", "network.activation=identity:phi", "name=ours")
    assert np.isfinite(ours.loss).all()


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


@pytest.mark.parametrize("name", ["roughness:roughness", "mylab:rough"])
def test_observable_is_measured_on_every_draw(modules, name):
    module, _, kind = name.partition(":")
    found = simulate(module, f"observe.measure=['{name}']")[kind]
    assert found.dims == ("cell", "dataset", "chain", "draw")
    assert (found > 0).all()


@pytest.mark.parametrize("name", ["ridge:predict", "mylab:linear"])
def test_theory_is_held_against_the_ensemble(modules, name):
    from pipelines.theories.predict import predict

    settings = [f"theories=['{name}']"]
    prepared = engine.prepare(parse(CAMPAIGN, settings), "results", [name.partition(":")[0]])
    with engine.drive(prepared, engine.Inline()) as driven:
        for wave in driven.left:
            list(driven.run(wave))
        predict(driven.store, prepared.plugins)
    tree = xr.open_datatree(driven.store.data, engine="zarr", consolidated=False)
    learnability = tree[f"theory/{name.replace(':', '_')}"].learnability
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


RETURNS = "import numpy as np\nimport torch\n\n\ndef {function}({arguments}):\n    return {value}\n"
SOURCE = "data={source: 'mine:make', train: 3, test: 2}"
X = "np.eye(3)"
SOURCES = {
    "complex": (f"{X} + 1j, np.ones(3), {X}[:2], np.ones(2)", "x_train has dtype complex128"),
    "objects": (f"{X}, np.array([object()] * 3), {X}[:2], np.ones(2)", "y_train has dtype object"),
    "text": (f"{X}, ['a', 'b', 'c'], {X}[:2], np.ones(2)", "y_train has dtype <U1"),
    "nothing": (f"{X}, None, {X}[:2], np.ones(2)", r"y_train has dtype object \(a NoneType"),
    "a generator": (f"(row for row in {X}), np.ones(3), {X}[:2], np.ones(2)", "(a generator)"),
    "no arrays": ("None", "must return the four arrays .*; found NoneType"),
    "three arrays": (f"{X}, np.ones(3), {X}[:2]", "found 3 values"),
    "ragged rows": (f"[[1, 2], [3], [4]], np.ones(3), {X}[:2], np.ones(2)", "no array of numbers"),
    "NaN": (f"{X}, np.ones(3), {X}[:2], [0, np.nan]", "y_test holds 1 values .* row 1"),
    "1e400": (
        f"np.full((3, 3), float('1e400')), np.ones(3), {X}[:2], [0, 1]",
        "x_train holds 9 values",
    ),
    "10**400": (f"{X}, [10**400] * 3, {X}[:2], [0, 1]", "y_train has dtype object"),
    "a gradient": (
        f"torch.eye(3, requires_grad=True), np.ones(3), {X}[:2], [0, 1]",
        "numbers .*grad",
    ),
    "no columns": ("np.ones((3, 0)), np.ones(3), np.ones((2, 0)), [0, 1]", r"shape \(3, 0\)"),
    "other inputs": (
        f"{X}, np.ones(3), np.ones((2, 4)), [0, 1]",
        "x_test .* the inputs of x_train",
    ),
    "too few": (f"{X}[:2], np.ones(3), {X}[:2], [0, 1]", "x_train .* wanted 3 rows"),
    "too large": (
        f"1e160 * {X}, np.ones(3), {X}[:2], [0, 1]",
        r"row 0 of x_train of mine:make has",
    ),
    "zeros": (f"{X}, np.zeros(3), {X}[:2], [0, 1]", "all training targets are 0"),
}
ACTIVATIONS = {
    "no tensor": ("z.numpy()", "a ndarray; wanted a tensor"),
    "NaN": ("z.log()", "is NaN or infinite between"),
    "another shape": ("z.sum()", r"shape \(\) and dtype float32; wanted shape \(3, 4\)"),
    "another dtype": ("z.double()", "dtype float64; wanted shape .* float32"),
    "complex": ("z + 0j", "dtype complex64"),
    "a gradient": ("z * torch.ones((), dtype=z.dtype, requires_grad=True)", "requires a gradient"),
    "a mean": ("z - z.mean()", "not elementwise"),
    "in place": ("z.mul_(2)", "changes its argument"),
    "an error": ("z.no_such_method()", "failed: AttributeError"),
}
ARCHITECTURES = {
    "one thing": ("1.0", "must return"),
    "complex widths": ("np.ones(3) * 1j, lambda p, x: x @ p", "deviations has dtype complex128"),
    "a width of zero": ("np.zeros(3), lambda p, x: x @ p", "wanted one number above 0"),
    "a width of NaN": ("[1, 1, np.nan], lambda p, x: x @ p", "1 values that are NaN .* row 2"),
    "no number": ("np.ones(3), lambda p, x: (x @ p)[0]", "mine:make failed"),
    "infinity": ("np.ones(3), lambda p, x: 1e400 * x @ p", "wanted finite numbers"),
    "another length": ("np.ones(4), lambda p, x: x @ p", "mine:make failed"),
}
OBSERVABLES = {
    "a number": ("1.0", "a float; wanted a tensor"),
    "an array": ("np.ones(2)", "a ndarray; wanted a tensor"),
    "another shape": ("outputs", r"wanted one real number .*, shape \(2,\)"),
    "complex": ("outputs[:, 0] + 1j", "complex128; wanted one real"),
    "NaN": ("outputs[:, 0] / 0 * 0", "is NaN or infinite at draws from the prior"),
    "None": ("None", "a NoneType"),
    "an error": ("outputs[:, 99]", "mine:make failed: IndexError"),
}
ARGUMENTS = {
    SOURCE: ("train, test, seed", SOURCES),
    "network.activation=mine:make": ("z", ACTIVATIONS),
    "network={architecture: 'mine:make', activation: tanh, width: 2, weight_variance: [1, 1]}": (
        "inputs, network",
        ARCHITECTURES,
    ),
    "observe={points: 8, measure: ['mine:make']}": ("outputs, fields, data", OBSERVABLES),
}


@pytest.mark.parametrize(
    ("setting", "value", "line"),
    [
        pytest.param(setting, value, line, id=f"{arguments.split(',')[0]} {name}")
        for setting, (arguments, cases) in ARGUMENTS.items()
        for name, (value, line) in cases.items()
    ],
)
def test_what_nobody_can_store_is_refused_before_anything_is_computed(
    modules, setting, value, line
):
    arguments, _ = ARGUMENTS[setting]
    module = RETURNS.format(function="make", arguments=arguments, value=value)
    (modules / "mine.py").write_text(module)
    sys.modules.pop("mine", None)
    settings = [setting] + ["observe={histograms: false, kernels: false}"] * ("inputs" in arguments)
    with pytest.raises(CampaignError, match=line) as caught:
        engine.prepare(parse(CAMPAIGN, settings), "results", ["mine"])
    assert "\n" not in str(caught.value)
    assert "mine:make" in str(caught.value) or "all training targets" in str(caught.value)
    assert not (modules / "results").exists()


THEORIES = {
    "complex": ("{'mse_mean': 1j}", "mse_mean has dtype complex128"),
    "None": ("{'mse_mean': None}", "mse_mean has dtype object"),
    "NaN": ("{'mse_mean': float('nan')}", "mse_mean holds 1 values that are NaN"),
    "a gradient": ("{'mse_mean': torch.ones((), requires_grad=True)}", "mse_mean is no array"),
    "another shape": ("{'mse_mean': [1.0]}", r"mse_mean has shape \(1,\); wanted \(\)"),
    "an error": ("1 / 0", "mine:make failed for .*: ZeroDivisionError"),
}


@pytest.mark.parametrize(("value", "line"), THEORIES.values(), ids=THEORIES)
def test_a_theory_that_nobody_can_store_is_one_line(modules, value, line):
    from pipelines.theories.attempts import explained
    from pipelines.theories.predict import _users

    module = RETURNS.format(function="make", arguments="spec, dataset", value=value)
    (modules / "mine.py").write_text(module)
    sys.modules.pop("mine", None)
    prepared = engine.prepare(parse(CAMPAIGN, ["theories=['mine:make']"]), "results", ["mine"])
    (cell,) = prepared.plan.cells
    spec, data = cell.spec, dataset(cell.spec, 0, prepared.plugins, prepared.sources)
    with (
        pytest.raises(CampaignError, match=line) as caught,
        explained("mine:make", cell, "dataset 0"),
    ):
        _users("mine:make", spec, Problem(spec, data, prepared.plugins))
    assert "\n" not in str(caught.value)
    assert "mine:make" in str(caught.value)


@pytest.mark.parametrize("code", ["1 / 0", "def broken(:", "raise AttributeError('odd')"])
def test_a_module_that_cannot_be_imported_is_one_line(modules, code):
    (modules / "mine.py").write_text(code)
    sys.modules.pop("mine", None)
    with pytest.raises(CampaignError, match="mine:phi: cannot import mine: ") as caught:
        engine.prepare(parse(CAMPAIGN, ["network.activation=mine:phi"]), "results", ["mine"])
    assert "\n" not in str(caught.value)


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
