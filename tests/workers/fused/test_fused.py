import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from support.fused_networks import make_data, make_network, plain_network
from workers.fused.network import KERNELS, FusedNetwork, fused, potential
from workers.networks import networks
from workers.networks.activations import ACTIVATIONS, Activation

torch.set_num_threads(1)  # as in a worker

UNIT = 2.0**-24  # a rounding in float32, relative
TEMPERATURE = 0.3
SHAPES = [  # inputs, widths, points; a panel has 16 neurons and a tile 24 to 192 points
    (1, (1,), 1),
    (3, (5,), 2),
    (20, (16,), 31),
    (7, (33,), 65),
    (5, (100,), 200),
    (50, (3000,), 60),
    (1, (1, 1), 1),
    (3, (5, 2), 4),
    (20, (16, 32), 31),
    (7, (33, 15), 65),
    (50, (130, 200), 300),
    (2, (20, 900), 100),
    (4, (17, 48, 20), 250),
]

compiled = pytest.mark.usefixtures("library")


@dataclass
class Rounded:
    """Numbers, and the most by which rounding may have put each off."""

    exact: Tensor
    off: Tensor

    @property
    def size(self):
        return self.exact.abs() + self.off

    @property
    def mT(self):
        return Rounded(self.exact.mT, self.off.mT)

    def __matmul__(self, other):
        return self.product(other, self.exact.shape[-1])

    def product(self, other, terms):
        """Sums in which none of the numbers goes through more additions than these."""
        off = self.exact.abs() @ other.off + self.off @ other.size
        rounding = (terms + 6) * UNIT * (self.size @ other.size)
        return Rounded(self.exact @ other.exact, off + rounding)

    def __mul__(self, other):
        off = self.exact.abs() * other.off + self.off * other.size
        return Rounded(self.exact * other.exact, off + 2 * UNIT * self.size * other.size)


def exactly(numbers):
    return Rounded(numbers, torch.zeros_like(numbers))


def activated(activation, h):
    """φ and φ', whose slopes change by 2 at most."""
    phi, slope, big = activation.phi(h.exact), activation.dphi(h.exact), h.exact.abs().clamp_min(1)
    steep = slope.abs().clamp_min(1)
    jump = (h.exact.abs() <= h.off).double()  # of the slope of a ReLU, within rounding of its kink
    return (
        Rounded(phi, (steep + 2 * h.off) * h.off + 6 * UNIT * big),
        Rounded(slope, jump + 2 * h.off + 6 * UNIT * steep),
    )


def with_ones(signal):
    """A one for the bias below what a layer is fed, (chain, width, point)."""
    one = torch.ones_like(signal.exact[:, :1])
    return Rounded(torch.cat([signal.exact, one], 1), torch.cat([signal.off, 0 * one], 1))


def rounding_bound(network, parameters, x, y, additions):
    """The most that rounding in float32 may change L and ∇L: backpropagation of `Rounded`.

    `additions` are the most that a term goes through in a sum over points.
    """
    layers = {layer.name: layer.of(parameters) for layer in network.layers}
    weights = [layers[f"weight_{level}"] for level in range(1, network.depth + 1)]
    biased, fed, slopes = "bias_1" in layers, [], []
    signal = exactly(x.mT.expand(len(parameters), -1, -1))
    for level, weight in enumerate(weights, start=1):
        fed.append(with_ones(signal) if biased else signal)
        bias = [layers[f"bias_{level}"][:, :, None]] if biased else []
        h = exactly(torch.cat([weight, *bias], dim=2)) @ fed[-1]
        signal, slope = activated(network.activation, h)
        slopes.append(slope)
    readout = exactly(layers["readout"][:, None])
    f = readout @ signal
    r = Rounded(f.exact - y, f.off + UNIT * (f.size + y.abs()))
    off = [signal.product(r.mT, additions).off.flatten(1)]
    delta = readout.mT * slopes[-1]
    for level in reversed(range(network.depth)):
        of_sum = delta.product((fed[level] * r).mT, additions).off
        inputs = weights[level].shape[2]
        off = [of_sum[:, :, :inputs].flatten(1), of_sum[:, :, inputs:].flatten(1), *off]
        if level:
            delta = slopes[level - 1] * (exactly(weights[level].mT) @ delta)
    return r.product(r.mT, additions).off.flatten() / 2, torch.cat(off, dim=1)


def check_rounding(network, plain, data, additions):
    """Loss and gradient are those of the plain network in float64, but for rounding."""
    exactly = [tensor.double() for tensor in data]
    expected, bounds = plain.loss_and_gradient(*exactly), rounding_bound(plain, *exactly, additions)
    for found, exact, bound in zip(network.loss_and_gradient(*data), expected, bounds, strict=True):
        assert found.dtype == torch.float32
        assert ((found - exact).abs() <= bound).all()


@compiled
@pytest.mark.parametrize("bias_variance", [0.0, 0.4], ids=["", "biased"])
@pytest.mark.parametrize(("inputs", "widths", "points"), SHAPES, ids=str)
@pytest.mark.parametrize("activation", KERNELS)
def test_loss_and_gradient_are_the_plain_ones_but_for_rounding(
    activation, inputs, widths, points, bias_variance
):
    network = make_network(activation, inputs, widths, bias_variance)
    plain = plain_network(activation, inputs, widths, bias_variance)
    check_rounding(network, plain, make_data(network, points, chains=2), additions=points)


@compiled
@pytest.mark.parametrize("widths", [(3,), (3, 2)], ids=str)
def test_many_points_are_added_tile_by_tile(widths):
    points, tile = 300_000, 192  # a tile's points are added to each other, then tile to tile
    network, plain = make_network("erf", 2, widths), plain_network("erf", 2, widths)
    parameters, x, y = make_data(network, 1, chains=1)
    data = parameters, x.expand(points, -1), y.expand(points)  # roundings of equal terms add up
    check_rounding(network, plain, data, additions=tile + points // tile + 2)


@compiled
@pytest.mark.parametrize("bias_variance", [0.0, 0.4], ids=["", "biased"])
@pytest.mark.parametrize("widths", [(33,), (33, 20), (20, 18, 9)], ids=str)
@pytest.mark.parametrize("activation", KERNELS)
def test_potential_is_that_of_whitened_parameters(activation, widths, bias_variance):
    network = make_network(activation, 7, widths, bias_variance)
    parameters, x, y = make_data(network, 65, chains=3)
    z = parameters / network.standard_deviations.float()
    energy, gradient = potential(network, x, y, TEMPERATURE)(z)
    plain = plain_network(activation, 7, widths, bias_variance)
    exact = networks.potential(plain, x.double(), y.double(), TEMPERATURE)
    exact_energy, exact_gradient = exact(z.double())
    # Rounding is at most the sum of points, neurons and inputs, and far less as a rule.
    tolerance = 8 * (65 + sum(widths) + 7) * UNIT
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
@pytest.mark.parametrize("activation", KERNELS)
def test_an_activation_is_off_by_a_few_roundings(activation):
    size = torch.cat([torch.linspace(1e-3, 8, 200_001), torch.logspace(-15, 0, 2001)])
    h = torch.cat([size, -size])
    parameters = torch.stack([h, torch.full_like(h, 2.0**-40)], dim=1)
    network = make_network(activation, 1, (1,))
    _, gradient = network.loss_and_gradient(parameters, torch.ones(1, 1), -torch.ones(1))
    (reference, of_phi, of_slope), h = ACCURACY[activation], h.double()
    phi, slope = reference.phi(h), reference.dphi(h)
    assert ((gradient[:, 1] - phi).abs() <= UNIT * of_phi(h.abs(), phi.abs())).all()
    found = gradient[:, 0].double() * 2.0**40
    assert ((found - slope).abs() <= UNIT * of_slope(h.abs(), slope.abs())).all()


@compiled
def test_far_out_erf_is_one_and_its_slope_nothing():
    network = make_network("erf", 1, (1,))
    h = torch.tensor([8.0, 9.0, 1e3, 1e20, 1e38])
    parameters = torch.stack([torch.cat([h, -h]), torch.ones(10)], dim=1)
    _, gradient = network.loss_and_gradient(parameters, torch.ones(1, 1), -torch.ones(1))
    assert (gradient[:5, 1] == 2).all()
    assert (gradient[5:, 1] == 0).all()  # where r = 0
    assert (gradient[:, 0].abs() <= 4 * math.exp(-64)).all()


@compiled
@pytest.mark.parametrize("activation", KERNELS)
@pytest.mark.parametrize(
    ("widths", "place"), [((20,), 0), ((20,), -1), ((20, 9), 0), ((20, 9), 70), ((20, 9), -1)]
)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_a_number_stays_in_its_chain(activation, widths, place, value):
    network = make_network(activation, 3, widths)
    parameters, x, y = make_data(network, 40, chains=3)
    sound = network.loss_and_gradient(parameters, x, y)
    parameters[1, place] = value
    loss, gradient = network.loss_and_gradient(parameters, x, y)
    for found, expected in zip((loss, gradient), sound, strict=True):
        assert torch.equal(found[[0, 2]], expected[[0, 2]])
    if math.isnan(value) or place == -1 or activation in ("linear", "quadratic", "relu", "gelu"):
        assert not loss[1].isfinite()
        assert not gradient[1].isfinite().any()


# What has no kernel


def test_what_has_no_kernel_stays_as_it_is():
    function = networks.from_function(lambda vector, x: x @ vector, 3, torch.ones(3))
    several = plain_network("erf", 3, (4,), targets=2)
    some = plain_network("erf", 3, (4, 5), (0.0, 0.4))
    for network in (function, several, some, plain_network("sin", 3, (4,))):
        assert fused(network) is network
    for widths in ((4,), (4, 4), (4, 4, 4)):
        assert isinstance(make_network("erf", 3, widths), FusedNetwork)


@pytest.mark.parametrize("widths", [(4,), (4, 5)], ids=str)
def test_in_float64_all_is_plain(widths):
    network, plain = make_network("erf", 3, widths, 0.1), plain_network("erf", 3, widths, 0.1)
    parameters, x, y = (tensor.double() for tensor in make_data(plain, 5, chains=2))
    for evaluate in (
        lambda network: network.loss_and_gradient(parameters, x, y),
        lambda network: potential(network, x, y, TEMPERATURE)(parameters),
    ):
        for found, expected in zip(evaluate(network), evaluate(plain), strict=True):
            assert torch.equal(found, expected)


@compiled
def test_what_does_not_fit_is_refused():
    network = make_network("erf", 3, (4,))
    parameters, x, y = make_data(network, 5, chains=2)
    with pytest.raises(ValueError, match=r"labels have shape \(5, 1\)"):
        potential(network, x, y[:, None], TEMPERATURE)
    with pytest.raises(ValueError, match=r"inputs \(5, 2\); give y as \(n,\) and x as \(n, 3\)"):
        network.loss_and_gradient(parameters, x[:, :2], y)
    with pytest.raises(ValueError, match=r"shape \(2, 15\).*of shape \(chains, 16\)"):
        network.loss_and_gradient(parameters[:, :-1], x, y)
    with pytest.raises(ValueError, match=r"parameters are torch.float64"):
        network.loss_and_gradient(parameters.double(), x, y)
    with pytest.raises(ValueError, match=r"labels torch.float64"):
        network.loss_and_gradient(parameters, x, y.double())
