"""Theories of random networks: their groups against other routes, and what they need."""

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import torch
from numpy.testing import assert_allclose

from pipelines.analysis.measured import correlators_without_each, kurtoses_without_each
from pipelines.engine.engine import prepare
from pipelines.theories import prior_theories
from pipelines.theories.ensemble_theories import Problem, correlator_kernels, nngp, prior_layers
from storage.arrays.coordinates import bin_edges
from storage.arrays.schema import direction_names
from storage.campaign.plugins import Plugins
from storage.errors import CampaignError
from storage.planning.plan import plan
from storage.reading.document import parse
from theory.signal import flow, layered_corrections, prior_moments, width_corrections
from workers.data.datasets import dataset
from workers.measurement.observables import correlators
from workers.models import nngp_of, prior_kernels
from workers.networks.activations import ACTIVATIONS
from workers.philox import Noise
from workers.samplers.prior import prior

torch.set_num_threads(1)

TEXT = """
version: 1
name: random
data: {source: linear, inputs: sphere, dimension: 3, train: 1, test: 4}
network: {depth: 3, width: 8, activation: relu, weight_variance: 2}
sampler: {scheme: prior, temperature: 1, warmup: 0, draws: 4, segment: 4}
ensemble: {datasets: 1, chains: 2, block: 2, seed: 1}
observe: {points: 3, correlators: true}
theories: [nngp]
"""
MALA = "sampler={scheme: mala, temperature: 1, step_size: 0.1, warmup: 0, draws: 4, segment: 4}"
PLANE = ("data.dimension=2", "data.inputs=gaussian", "network.prior=uniform", "network.width=3")


def problem(*overrides: str) -> Problem:
    spec = parse(TEXT, overrides)
    return Problem(spec, dataset(spec, 0, Plugins(), {}), Plugins())


# -- what is measured -----------------------------------------------------------------------


def test_correlators_are_the_first_elements_of_the_kernel_of_every_layer():
    layers = [torch.from_numpy(np.random.default_rng(k).normal(size=(5, 7, 3))) for k in (0, 1)]
    found = correlators(layers, [2.0, 0.5])
    for layer, (phi, variance) in enumerate(zip(layers, (2.0, 0.5), strict=True)):
        kernel = variance * phi.mT @ phi / 7
        expected = torch.stack([kernel[:, 0, 0], kernel[:, 0, 1], kernel[:, 1, 1]], 1)
        torch.testing.assert_close(found[:, layer], expected)


def test_leaving_a_chain_out_is_measuring_without_it():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(5, 6, 2, 3)) ** 2 + 1
    table = correlators_without_each(values)
    z = rng.normal(size=(5, 40)) ** 3
    moments = np.stack([(z**k).sum(1) for k in range(7)], axis=1)
    kurtoses = kurtoses_without_each(moments)
    for left_out in (None, 0, 3):
        row = 0 if left_out is None else left_out + 1
        kept = values if left_out is None else np.delete(values, left_out, axis=0)
        k = kept.reshape(-1, 2, 3)
        mean = k.mean(0)
        expected = [mean[:, 0], k[..., 0].var(0), mean[:, 1] / np.sqrt(mean[:, 0] * mean[:, 2])]
        assert_allclose(table[row], np.stack(expected, axis=-1), rtol=1e-10)
        some = (z if left_out is None else np.delete(z, left_out, axis=0)).ravel()
        centred = some - some.mean()
        kurtosis = (centred**4).mean() / (centred**2).mean() ** 2 - 3
        assert kurtoses[row] == pytest.approx(kurtosis, rel=1e-9)


def test_uniform_weights_have_the_law_of_uniform_numbers_of_variance_one():
    noise = Noise(7, range(4), 0).at(0)
    state = prior("uniform").init(torch.empty(4, 50_000, dtype=torch.float64), noise)
    z = state.position.flatten() / 3**0.5
    assert float(z.abs().max()) < 1
    for power, moment in ((1, 0.0), (2, 1 / 3), (4, 1 / 5), (6, 1 / 7)):
        error = (1 / (2 * power + 1) - moment**2) ** 0.5 / len(z) ** 0.5
        assert abs(float(z.pow(power).mean()) - moment) < 5 * error


# -- infinite width -------------------------------------------------------------------------


@pytest.mark.parametrize("phi", ["tanh", "relu"])
def test_correlators_of_the_nngp_are_the_flow_of_signals(phi):
    given = problem(
        f"network.activation={phi}",
        "network.weight_variance=1.7",
        "network.depth=5",
        "network.bias_variance=0.2",
    )
    x = torch.as_tensor(given.data.x_test[:2])
    first = 1.7 * x @ x.T / 3 + 0.2
    signal = flow(
        phi,
        weight_variance=1.7,
        bias_variance=0.2,
        variance=float(first[0, 0]),
        correlation=float(first[0, 1] / first[0, 0]),
        depth=5,
    )
    found = prior_layers(given)
    assert_allclose(found["kernel_mean"], signal.variance[1:].numpy() - 0.2, rtol=1e-6)
    mean = found["kernel_mean"]
    covariance = signal.correlation[1:].numpy() * signal.variance[1:].numpy() - 0.2
    assert_allclose(found["correlation"], covariance / mean, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("overrides", [(), PLANE], ids=["gaussian", "uniform"])
def test_correlators_are_those_of_the_kernels_of_shallower_networks(overrides):
    given = problem(*overrides, "network.activation=erf", "network.bias_variance=0.3")
    x, network = torch.as_tensor(given.data.x_test[:2]), given.network
    for layer, kernel in enumerate(correlator_kernels(given), start=1):
        shallow = network.model_copy(update={"depth": layer})
        torch.testing.assert_close(kernel, nngp_of(shallow, x), rtol=1e-8, atol=1e-10)
    kernels = prior_kernels(given.spec, x, ACTIVATIONS["erf"])
    torch.testing.assert_close(kernels[0], 2 * x @ x.T / x.shape[1] + 0.3)
    torch.testing.assert_close(kernels[2] - 0.3, correlator_kernels(given)[1])


def test_nothing_is_said_of_a_first_layer_whose_weights_are_uniform():
    found = nngp(problem(*PLANE, "network.activation=erf"))
    assert np.isnan(found["density"][0]).all()
    assert_allclose(found["density"][1:].sum(-1), 1)
    assert np.isnan(found["pre_activation_kurtosis"][0]).all()
    assert (found["pre_activation_variance"] == 1).all()


# -- finite width ---------------------------------------------------------------------------


def test_layers_of_one_variance_are_the_recursion_of_one_variance():
    same = width_corrections("tanh", weight_variance=1.5, bias_variance=0.1, variance=0.8, depth=3)
    several = layered_corrections(
        "tanh", weight_variance=[1.5] * 3, bias_variance=[0.1] * 3, variance=0.8
    )
    for one, other in zip(same, several, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_readout_of_twice_the_variance_has_twice_the_kernel():
    networks = [
        layered_corrections("gelu", weight_variance=[1.5, last], bias_variance=[0.1, 0], variance=1)
        for last in (1.0, 2.0)
    ]
    one, two = (each.variance[-1] + each.mean[-1] / 50 for each in networks)
    assert float(two) == pytest.approx(2 * float(one))
    assert float(networks[1].fluctuation[-1]) == pytest.approx(
        4 * float(networks[0].fluctuation[-1])
    )


@pytest.mark.parametrize("phi", ["relu", "linear"])
def test_order_one_over_n_and_the_exact_law_meet_as_1_over_n_squared(phi):
    given = problem(f"network.activation={phi}", "network.weight_variance=[2, 1.5, 1, 3]")
    widths = [400, 800]
    point = direction_names(given.spec).index("point")
    pairs = zip(
        prior_theories.exact_prior(given, widths),
        prior_theories.width_corrections(given, widths),
        strict=True,
    )
    missed = {}
    for width, (exact, leading) in zip(widths, pairs, strict=True):
        assert_allclose(leading["kernel_mean"], exact["kernel_mean"], rtol=1e-12)
        assert_allclose(leading["predictive_variance"], exact["predictive_variance"], rtol=1e-9)
        missed[width] = [np.abs(exact["kernel_variance"] - leading["kernel_variance"]).max()]
        for name in ("pre_activation_kurtosis", "density"):
            along = min(point, exact[name].shape[1] - 1)  # linear: the same along all
            missed[width].append(np.abs(exact[name][:, along] - leading[name][:, point]).max())
    ratio = np.array(missed[400]) / np.array(missed[800])
    assert ((ratio > 3.6) & (ratio < 4.4)).all()


def test_one_linear_neuron_has_the_law_of_a_product_of_two_normals():
    found = prior_theories.binned("linear", [1])
    assert found.sum() == pytest.approx(1)
    edges = bin_edges()
    for place in (100, 101, 150, 198):  # K_0(|z|)/π
        density = scipy.integrate.quad(
            lambda z: scipy.special.k0(z) / np.pi, edges[place], edges[place + 1]
        )[0]
        assert found[place] == pytest.approx(density, rel=1e-6)
    assert_allclose(found, found[::-1], rtol=1e-9)


def test_dead_relu_networks_are_counted_below_zero():
    found = prior_theories.binned("relu", [2, 3])
    alive = (1 - 2**-2) * (1 - 2**-3)
    assert found.sum() == pytest.approx(1)
    assert found[100:].sum() == pytest.approx(alive / 2)
    middle = (bin_edges()[1:] + bin_edges()[:-1]) / 2
    law = prior_moments("relu", weight_variance=2, bias_variance=0, variance=1, widths=[2, 3])
    assert float(law.mean[-1]) == pytest.approx(1)
    inner = slice(1, -1)
    assert 0.3 < (found * middle**2)[inner].sum() < 1  # heavy tails lie beyond the bins


# -- mistakes -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["network.width=0"], "network.width"),
        (["network.depth=0"], "network.depth"),
        (["network.weight_variance=0"], "weight_variance"),
        (["network.weight_variance=[1, 2]"], "or one number for all"),
        (["network.prior=uniform"], "known for 3 inputs, of which a bias is one") ,
        (["network.prior=cauchy"], "network.prior"),
        (["observe.points=1"], "observe.correlators are of 2 probe points"),
        (["data.test=1"], "observe.correlators are of 2 probe points"),
        (["observe.correlators=false", "theories=[exact_prior]"], "speaks of observe.correlators"),
        (["network.activation=tanh", "theories=[exact_prior]"], "found activation tanh"),
        (["network.bias_variance=1", "theories=[exact_prior]"], "found bias_variance 1.0"),
        (
            [MALA,
             "theories=[width_corrections]"],
            "found scheme mala, wanted prior",
        ),
        (
            [MALA,
             "data.dimension=2", "network.prior=uniform"],
            "whose prior is Gaussian",
        ),
        ([*PLANE, "theories=[width_corrections]"], "found network.prior uniform, wanted gaussian"),
        ([*PLANE, "network.bias_variance=1", "data.dimension=3"], "found 4"),
        (
            ["network.architecture=cnn", "network.patches=3", "network.depth=1",
             "network.weight_variance=1"],
            "observe.correlators are of fcn",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(overrides, said):
    if said.startswith("known for 3 inputs"):
        overrides = [*overrides, "data.dimension=4"]
    with pytest.raises(CampaignError) as refused:
        parse(TEXT, overrides)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_too_many_inputs_of_uniform_weights_are_seen_in_the_file_before_anything_is_written(
    tmp_path,
):
    x, y = np.eye(4), np.arange(4.0)
    np.savez(tmp_path / "four.npz", x_train=x, y_train=y, x_test=-x, y_test=-y)
    spec = parse(TEXT, [
        f"data={{source: npz, file: {tmp_path / 'four.npz'}, train: 1, test: 4}}",
        "network.prior=uniform",
    ])  # fmt: skip
    with pytest.raises(CampaignError, match="the data have 4 inputs; its kernel is known for 3"):
        prepare(spec)


def test_one_variance_for_all_layers_is_a_list_of_it():
    one, several = parse(TEXT), parse(TEXT, ["network.weight_variance=[2, 2, 2, 2]"])
    assert one.network.weights == several.network.weights == (2, 2, 2, 2)
    swept = parse(TEXT, ["sweep={layers: {network.depth: [1, 3]}, weights: "
                         "{network.weight_variance: [1, 2.5]}}"])  # fmt: skip
    assert [cell.spec.network.weights for cell in plan(swept).cells] == [
        (1, 1), (2.5, 2.5), (1, 1, 1, 1), (2.5, 2.5, 2.5, 2.5),
    ]  # fmt: skip
