"""What is made up appears everywhere, with no edit but its own file: a theory, an observable, an
activation and a source of data.
"""

import numpy as np
import pytest
import torch

from pipelines.analysis.verdict_rows import verdicts
from pipelines.engine import engine, stages
from pipelines.report import theory_names
from pipelines.report.export import export
from pipelines.report.html import write_report
from storage.backend.reader import open_campaign
from storage.campaign import theories
from storage.errors import CampaignError
from storage.reading.document import parse
from support.made_up import bent

pytestmark = pytest.mark.slow

TEXT = """
version: 1
name: made-up
data: {source: 'support.made_up:ring', settings: {radius: 2.0}, train: 12, test: 16}
network: {width: 8, activation: 'support.made_up:bent', weight_variance: [1, 1]}
sampler: {scheme: prior, temperature: 0.5, warmup: 0, draws: 8, thin: 1, segment: 4}
ensemble: {datasets: 1, chains: 8, block: 8}
sweep: {size: {network.width: [4, 8]}}
observe: {points: 8, histograms: false, kernels: false, measure: ['support.made_up:largest']}
theories: [nngp, 'support.made_up:nothing']
"""
MODULE, THEORY = "support.made_up", "support.made_up:nothing"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    prepared = engine.prepare(parse(TEXT, []), str(tmp_path_factory.mktemp("m")), [MODULE])
    with engine.drive(prepared, engine.Inline()) as driven:
        for _ in driven.run(*driven.left):
            pass
        stages.analyze(driven.store, prepared.plugins)
        driven.check()
    return driven.store


def test_it_is_in_the_store_and_in_the_fits(store):
    tree = open_campaign(store.url)
    assert tree["ensemble"]["largest"].dims == ("size", "dataset", "chain", "draw")
    fits = tree["fits"].to_dataset().sel(observable="largest", theory=THEORY)
    assert fits["measured"].notnull().all()
    assert fits["predicted"].values.ravel().tolist()[1:] == [1.0]
    means = tree["ensemble"]["largest"].mean(("chain", "draw"))
    assert abs(fits["measured"] - means).max() < 1e-12


def test_the_activation_and_the_points_are_those_of_the_nngp(store):
    """One hidden layer of any width: E[f²] = E[φ(u)²] of u with the variance |x|²/d = 2."""
    tree = open_campaign(store.url)
    variance = 4 / 2
    u = np.linspace(-12, 12, 4001)
    weight = np.exp(-(u**2) / 2)
    expected = (bent(torch.from_numpy(np.sqrt(variance) * u)).numpy() ** 2 * weight).sum()
    found = tree["theory/nngp"]["predictive_variance"]
    np.testing.assert_allclose(found, expected / weight.sum(), rtol=1e-6)


def test_it_is_judged_where_it_holds(store):
    rows = [row for row in verdicts(open_campaign(store.url)) if row.theory == THEORY]
    of = {(row.observable, row.place): row for row in rows}
    assert of["largest", "N = 8"].kind != "silent"
    assert of["mse_mean", "N = 4"].kind == "silent"
    assert of["mse_mean", "N = 4"].reason == "width 4, wanted 8"


def test_it_is_in_the_report_and_in_the_export(store, tmp_path, monkeypatch):
    """Its words are those of the store: neither command is given the plug-in."""
    monkeypatch.setattr(theories, "_INTRODUCED", {})
    monkeypatch.setattr(theory_names, "_WORDS", {})
    write_report(store)
    page = (store.objects.get("report/report.html") or b"").decode()
    for words in ("nothing learned", "largest output", "made by support.made_up:ring with radius"):
        assert words in page
    assert "he theory that nothing is learned" in page
    export(store, tmp_path)
    for name, words in {
        "methods.md": "learned nothing",
        "verdicts.csv": f"{THEORY},largest",
        "verdicts.tex": "nothing learned",
        "references.bib": "@misc{nobody2026nothing",
    }.items():
        assert words in (tmp_path / name).read_text(), name


def test_what_is_no_theory_is_one_line(tmp_path):
    spec = parse(TEXT, ["theories=['support.made_up:__name__']"])
    with pytest.raises(CampaignError, match=r"wanted a function of spec and dataset, or a Theory"):
        engine.prepare(spec, str(tmp_path), [MODULE])
    assert not [*tmp_path.iterdir()]
