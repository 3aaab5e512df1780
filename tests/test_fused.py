import hashlib
import math
import platform

import pytest
import torch

from workers import networks, philox
from workers.activations import ACTIVATIONS, Activation
from workers.fused import build, noise, two_layer
from workers.networks import fully_connected
from workers.samplers.baoab import baoab

torch.set_num_threads(1)  # as in a worker

UNIT = 2.0**-24  # a rounding in float32, relative
TEMPERATURE, SEED = 0.3, 0x0123456789ABCDEF
SHAPES = [  # inputs, width, points; a panel has 16 neurons and a tile 24 to 192 points
    (1, 1, 1),
    (3, 5, 2),
    (20, 16, 31),
    (7, 33, 65),
    (5, 100, 200),
    (50, 3000, 60),
]
WORDS = [  # seed, chains, stream, step, elements
    (SEED, [5, 2**32 - 1, 0], 7, 2**20 + 3, 3 * philox.TILE + 10),
    (2**64 - 1, [0, 1], 2**32 - 1, 2**32 - 1, philox.TILE),
    (0, [1], 0, 0, 1),
    (3, [2], 1, 4, 100_000),
]

compiled = pytest.mark.usefixtures("library")


@pytest.fixture
def library():
    if why := build.unavailable():
        pytest.skip(why)


def make_network(activation, inputs, width, bias_variance=0.0):
    return two_layer.fused(plain_network(activation, inputs, width, bias_variance))


def plain_network(activation, inputs, width, bias_variance=0.0):
    return fully_connected(
        inputs,
        (width,),
        ACTIVATIONS[activation],
        weight_variance=[1.5, 2.0],
        bias_variance=bias_variance,
        chi=1.0,
    )


def make_data(network, points, chains):
    generator = torch.Generator().manual_seed(points)
    parameters = torch.randn(chains, network.size, generator=generator)
    x = torch.randn(points, network.inputs, generator=generator)
    y = torch.sin(x.sum(1)) + torch.randn(points, generator=generator)
    return parameters * network.standard_deviations.float(), x, y


def rounding_of_activations(network, parameters, x):
    """What rounding of h, φ and φ' may do to φ and φ', whose slopes change by 2 at most.

    A sum of k terms is off by at most k roundings of the sum of their magnitudes.
    """
    size = network.pre_activations(parameters.abs(), x.abs())[0]
    (h,) = network.pre_activations(parameters, x)
    slope = network.activation.dphi(h)
    off = (network.inputs + 3) * UNIT * size
    of_phi = (slope.abs().clamp_min(1) + 2 * off) * off + 6 * UNIT * h.abs().clamp_min(1)
    jump = (h.abs() <= off).double()  # of the slope of a ReLU, within rounding of its kink
    return of_phi, jump + 2 * off + 6 * UNIT * slope.abs().clamp_min(1)


def rounding_bound(network, parameters, x, y):
    """The most that rounding in float32 may change L and ∇L, from the magnitudes of all terms."""
    (h,) = network.pre_activations(parameters, x)
    phi, slope = network.activation.phi(h).abs(), network.activation.dphi(h).abs()
    readout = network.layers[-1].of(parameters).abs()[:, :, None]
    of_phi, of_slope = rounding_of_activations(network, parameters, x)
    terms, points = network.widths[0] + 8, len(x) + 8
    r = (network.outputs(parameters, x) - y).abs()[:, None]
    of_r = (readout * (of_phi + terms * UNIT * phi)).sum(1, keepdim=True) + UNIT * (r + y.abs())
    of_loss = ((r + of_r) * of_r + points * UNIT * r.square()).sum((1, 2))
    off = {"readout": (of_r * phi + (r + of_r) * (of_phi + points * UNIT * phi)).sum(2)}
    delta = readout * (of_r * slope + (r + of_r) * (of_slope + points * UNIT * slope))
    off["weight_1"], off["bias_1"] = delta @ x.abs(), delta.sum(2)
    return of_loss, torch.cat([off[layer.name].flatten(1) for layer in network.layers], dim=1)


@compiled
@pytest.mark.parametrize("bias_variance", [0.0, 0.4], ids=["", "biased"])
@pytest.mark.parametrize(("inputs", "width", "points"), SHAPES)
@pytest.mark.parametrize("activation", two_layer.KERNELS)
def test_loss_and_gradient_are_the_plain_ones_but_for_rounding(
    activation, inputs, width, points, bias_variance
):
    network = make_network(activation, inputs, width, bias_variance)
    single = make_data(network, points, chains=2)
    parameters, x, y = (tensor.double() for tensor in single)
    loss, gradient = network.loss_and_gradient(*single)
    assert loss.dtype == gradient.dtype == torch.float32
    exact = plain_network(activation, inputs, width, bias_variance).loss_and_gradient(
        parameters, x, y
    )
    bounds = rounding_bound(network, parameters, x, y)
    for found, expected, bound in zip((loss, gradient), exact, bounds, strict=True):
        assert ((found - expected).abs() <= bound).all()


@compiled
@pytest.mark.parametrize("bias_variance", [0.0, 0.4], ids=["", "biased"])
@pytest.mark.parametrize("activation", two_layer.KERNELS)
def test_potential_is_that_of_whitened_parameters(activation, bias_variance):
    network = make_network(activation, 7, 33, bias_variance)
    parameters, x, y = make_data(network, 65, chains=3)
    z = parameters / network.standard_deviations.float()
    energy, gradient = two_layer.potential(network, x, y, TEMPERATURE)(z)
    plain = plain_network(activation, 7, 33, bias_variance)
    exact = networks.potential(plain, x.double(), y.double(), TEMPERATURE)
    exact_energy, exact_gradient = exact(z.double())
    # 65 points, 33 neurons, 7 inputs: rounding is at most their sum, and far less as a rule.
    tolerance = 8 * (65 + 33 + 7) * UNIT
    torch.testing.assert_close(energy.double(), exact_energy, rtol=tolerance, atol=0)
    off = (gradient - exact_gradient).norm(dim=1) / exact_gradient.norm(dim=1)
    assert (off < tolerance).all()


# A network of one neuron at w = h, x = 1, y = -1 and a = 2^-40 has r = 1, ∂L/∂a = φ(h) and
# ∂L/∂w = 2^-40 φ'(h), without a further rounding.

TANH = Activation(torch.tanh, lambda z: torch.cosh(z).pow(-2))
GELU = Activation(lambda z: z * torch.special.ndtr(z), ACTIVATIONS["gelu"].dphi)
ACCURACY = {  # in roundings: error of φ, error of φ'
    "erf": (ACTIVATIONS["erf"], lambda h, phi: 4 * phi, lambda h, slope: 5 * (1 + h**2) * slope),
    "tanh": (TANH, lambda h, phi: 5 * phi, lambda h, slope: 6 * (1 + h) * slope),
    "gelu": (GELU, lambda h, phi: 3 * (1 + h), lambda h, slope: 4 * (1 + h)),
    "relu": (ACTIVATIONS["relu"], lambda h, phi: 0 * h, lambda h, slope: 0 * h),
    "linear": (ACTIVATIONS["linear"], lambda h, phi: 0 * h, lambda h, slope: 0 * h),
    "quadratic": (ACTIVATIONS["quadratic"], lambda h, phi: phi, lambda h, slope: 0 * h),
}


@compiled
@pytest.mark.parametrize("activation", two_layer.KERNELS)
def test_an_activation_is_off_by_a_few_roundings(activation):
    size = torch.cat([torch.linspace(1e-3, 8, 200_001), torch.logspace(-15, 0, 2001)])
    h = torch.cat([size, -size])
    parameters = torch.stack([h, torch.full_like(h, 2.0**-40)], dim=1)
    network = make_network(activation, 1, 1)
    _, gradient = network.loss_and_gradient(parameters, torch.ones(1, 1), -torch.ones(1))
    (reference, of_phi, of_slope), h = ACCURACY[activation], h.double()
    phi, slope = reference.phi(h), reference.dphi(h)
    assert ((gradient[:, 1] - phi).abs() <= UNIT * of_phi(h.abs(), phi.abs())).all()
    found = gradient[:, 0].double() * 2.0**40
    assert ((found - slope).abs() <= UNIT * of_slope(h.abs(), slope.abs())).all()


@compiled
def test_far_out_erf_is_one_and_its_slope_nothing():
    network = make_network("erf", 1, 1)
    h = torch.tensor([8.0, 9.0, 1e3, 1e20, 1e38])
    parameters = torch.stack([torch.cat([h, -h]), torch.ones(10)], dim=1)
    _, gradient = network.loss_and_gradient(parameters, torch.ones(1, 1), -torch.ones(1))
    assert (gradient[:5, 1] == 2).all()
    assert (gradient[5:, 1] == 0).all()  # where r = 0
    assert (gradient[:, 0].abs() <= 4 * math.exp(-64)).all()


@compiled
@pytest.mark.parametrize("activation", two_layer.KERNELS)
@pytest.mark.parametrize("place", [0, -1], ids=["weight", "readout"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_a_number_stays_in_its_chain(activation, place, value):
    network = make_network(activation, 3, 20)
    parameters, x, y = make_data(network, 40, chains=3)
    sound = network.loss_and_gradient(parameters, x, y)
    parameters[1, place] = value
    loss, gradient = network.loss_and_gradient(parameters, x, y)
    for found, expected in zip((loss, gradient), sound, strict=True):
        assert torch.equal(found[[0, 2]], expected[[0, 2]])
    if math.isnan(value) or place == -1 or activation in ("linear", "quadratic", "relu", "gelu"):
        assert not loss[1].isfinite()
        assert not gradient[1].isfinite().any()


@compiled
@pytest.mark.parametrize("evaluate", ["loss_and_gradient", "potential"])
def test_the_bits_of_a_chain_are_its_own(evaluate):
    network = make_network("erf", 10, 45, 0.2)
    parameters, x, y = make_data(network, 300, chains=8)

    def run(parameters):
        if evaluate == "potential":
            return two_layer.potential(network, x, y, TEMPERATURE)(parameters)
        return network.loss_and_gradient(parameters, x, y)

    together = run(parameters)
    for chains in ([0], [5], [7, 2], list(range(8)), slice(None, None, 3)):
        for found, expected in zip(run(parameters[chains]), together, strict=True):
            assert torch.equal(found, expected[chains])
    strided = torch.cat([parameters, parameters], dim=1)[:, : network.size]
    assert torch.equal(run(strided)[1], together[1])


@compiled
def test_a_chain_resumed_on_the_fused_potential_has_the_same_bits():
    network = make_network("erf", 10, 45)
    parameters, x, y = make_data(network, 70, chains=4)
    z, random = parameters / network.standard_deviations.float(), noise.Noise(SEED, range(4), 0)
    sampler = baoab(two_layer.potential(network, x, y, TEMPERATURE), 0.02, 1.0)
    state = sampler.init(z, random.at(0))
    for step in range(1, 11):
        state = sampler.step(state, random.at(step))
        if step == 5:
            kept = type(state)(*(tensor.clone() for tensor in state))
    again = baoab(two_layer.potential(network, x, y, TEMPERATURE), 0.02, 1.0)
    for step in range(6, 11):
        kept = again.step(kept, noise.Noise(SEED, range(4), 0).at(step))
    for name in state._fields:
        assert torch.equal(getattr(state, name), getattr(kept, name))


# The same bits everywhere

BITS = {  # of energies and gradients: raise build.BITS where they are meant to change
    "erf": "85f1e7be42f9d734",
    "gelu": "f161eaf4f680977d",
    "linear": "8163d5339967c5b5",
    "quadratic": "b88b2ad6c8616530",
    "relu": "aa3e9d84a021a860",
    "tanh": "900eaf0fb91c88fd",
}


def exact_numbers(*shape):
    """Fractions of 512 that look like noise."""
    count = math.prod(shape)
    return ((torch.arange(count) * 7919 % 2017 - 1008) / 512).reshape(shape)


def digest(activation):
    network = make_network(activation, 11, 53, 0.3)
    x, y = exact_numbers(400, 11), exact_numbers(400)
    evaluate = two_layer.potential(network, x, y, TEMPERATURE)
    arrays = evaluate(exact_numbers(2, network.size))
    return hashlib.sha256(b"".join(array.numpy().tobytes() for array in arrays)).hexdigest()[:16]


@compiled
@pytest.mark.parametrize("activation", two_layer.KERNELS)
def test_bits_are_those_of_every_other_machine(activation):
    assert digest(activation) == BITS[activation]


@compiled
@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="compiles for AVX2")
def test_bits_depend_neither_on_the_width_of_a_register_nor_on_optimization(tmp_path, monkeypatch):
    other = build.load(build.build(tmp_path, ("-mavx2", "-mfma", "-O1")))
    monkeypatch.setattr(build, "library", lambda: other)
    assert {name: digest(name) for name in two_layer.KERNELS} == BITS
    seed, chains, stream, step, elements = WORDS[0]
    narrow = noise.Noise(seed, chains, stream)(step, (elements,), torch.float32)
    monkeypatch.undo()
    wide = noise.Noise(seed, chains, stream)(step, (elements,), torch.float32)
    assert torch.equal(narrow, wide)


@compiled
@pytest.mark.parametrize(("seed", "chains", "stream", "step", "elements"), WORDS)
def test_normals_are_the_plain_ones_to_the_last_bit(seed, chains, stream, step, elements):
    plain = philox.Noise(seed, chains, stream)(step, (elements,), torch.float32)
    fused = noise.Noise(seed, chains, stream)(step, (elements,), torch.float32)
    assert torch.equal(plain, fused)


@compiled
def test_normals_of_other_kinds_are_the_plain_ones():
    plain, fused = philox.Noise(SEED, range(3), 1), noise.Noise(SEED, range(3), 1)
    assert torch.equal(plain(2, (5, 3), torch.float64), fused.at(2)((5, 3), torch.float64))
    assert fused.at(2)((5, 3), torch.float32).shape == (3, 5, 3)
    assert fused(2, (0,), torch.float32).shape == (3, 0)
    with pytest.raises(ValueError, match="step is -1"):
        fused(-1, (1,), torch.float32)
    with pytest.raises(ValueError, match="float16"):
        fused(0, (1,), torch.float16)


# What has no kernel


def test_what_has_no_kernel_stays_as_it_is():
    erf = ACTIVATIONS["erf"]
    deep = fully_connected(3, (4, 4), erf, weight_variance=[1.0] * 3, bias_variance=0.0, chi=1.0)
    function = networks.from_function(lambda vector, x: x @ vector, 3, torch.ones(3))
    for network in (deep, function, plain_network("sin", 3, 4)):
        assert two_layer.fused(network) is network
    assert isinstance(make_network("erf", 3, 4), two_layer.TwoLayer)


def test_in_float64_all_is_plain():
    network, plain = make_network("erf", 3, 4, 0.1), plain_network("erf", 3, 4, 0.1)
    parameters, x, y = (tensor.double() for tensor in make_data(plain, 5, chains=2))
    for evaluate in (
        lambda network: network.loss_and_gradient(parameters, x, y),
        lambda network: two_layer.potential(network, x, y, TEMPERATURE)(parameters),
    ):
        for found, expected in zip(evaluate(network), evaluate(plain), strict=True):
            assert torch.equal(found, expected)


@compiled
def test_what_does_not_fit_is_refused():
    network = make_network("erf", 3, 4)
    parameters, x, y = make_data(network, 5, chains=2)
    with pytest.raises(ValueError, match=r"labels have shape \(5, 1\)"):
        two_layer.potential(network, x, y[:, None], TEMPERATURE)
    with pytest.raises(ValueError, match=r"inputs \(5, 2\); give y as \(n,\) and x as \(n, 3\)"):
        network.loss_and_gradient(parameters, x[:, :2], y)
    with pytest.raises(ValueError, match=r"shape \(2, 15\).*of shape \(chains, 16\)"):
        network.loss_and_gradient(parameters[:, :-1], x, y)
    with pytest.raises(ValueError, match=r"parameters are torch.float64"):
        network.loss_and_gradient(parameters.double(), x, y)
    with pytest.raises(ValueError, match=r"labels torch.float64"):
        network.loss_and_gradient(parameters, x, y.double())
