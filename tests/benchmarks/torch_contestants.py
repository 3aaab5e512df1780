"""What torch users write, and the two implementations of this project."""

import math
import sys

import serving

serving.one_thread()

import torch  # noqa: E402
from settings import GEMM_SIZE, STEP_SIZE, TEMPERATURE, Setting, data, start  # noqa: E402

torch.set_num_threads(1)

KICK = math.sqrt(2 * STEP_SIZE)


def energy(setting, parameters, x, y):
    """U of one chain, from z of its layers."""
    signal = x
    for layer, fan in zip(parameters[:-1], setting.fans, strict=False):
        signal = torch.erf(signal @ layer.T / math.sqrt(fan))
    residual = signal @ parameters[-1] / math.sqrt(setting.fans[-1]) - y
    prior = sum(layer.square().sum() for layer in parameters)
    return prior / 2 + residual.square().sum() / (2 * TEMPERATURE)


def tensors(setting):
    return [torch.from_numpy(array) for array in (*data(setting), *start(setting))]


def autograd_loop(setting: Setting):
    """One chain after another, by automatic differentiation."""
    x, y, *layers = tensors(setting)
    chains = [
        [layer[chain].clone().requires_grad_() for layer in layers]
        for chain in range(setting.chains)
    ]

    def gradient(parameters):
        return torch.autograd.grad(energy(setting, parameters, x, y), parameters)

    def run(steps):
        for _ in range(steps):
            for parameters in chains:
                slopes = gradient(parameters)
                with torch.no_grad():
                    for layer, slope in zip(parameters, slopes, strict=True):
                        layer.add_(slope, alpha=-STEP_SIZE)
                        layer.add_(torch.randn_like(layer), alpha=KICK)

    return serving.Chains(lambda: [slope[None] for slope in gradient(chains[0])], run)


def functional(setting: Setting):
    """All chains at once, by torch.func.vmap of torch.func.grad."""
    x, y, *layers = tensors(setting)
    gradient = torch.func.vmap(torch.func.grad(lambda z: energy(setting, z, x, y)))

    def run(steps):
        for _ in range(steps):
            for layer, slope in zip(layers, gradient(layers), strict=True):
                layer.add_(slope, alpha=-STEP_SIZE)
                layer.add_(torch.randn_like(layer), alpha=KICK)

    return serving.Chains(lambda: gradient(layers), run)


def sampled(setting: Setting, network, potential, noise):
    """The ULA of this project on a potential of this project."""
    from workers.samplers.ula import ula

    x, y, *layers = tensors(setting)
    position = torch.cat([layer.flatten(1) for layer in layers], dim=1)
    gradient = potential(network, x, y, TEMPERATURE)
    normals = noise(0, range(setting.chains), 1)
    sampler = ula(gradient, STEP_SIZE)
    state, made = sampler.init(position, normals.at(0)), 0

    def run(steps):
        nonlocal state, made
        for _ in range(steps):
            made += 1
            state = sampler.step(state, normals.at(made))

    return serving.Chains(lambda: [gradient(position[:1])[1]], run)


def plain_network(setting: Setting):
    from workers.networks.activations import ACTIVATIONS
    from workers.networks.networks import fully_connected

    return fully_connected(
        setting.inputs,
        setting.widths,
        ACTIVATIONS["erf"],
        weight_variance=[1.0] * len(setting.fans),
        bias_variance=0.0,
        chi=1.0,
    )


def plain(setting: Setting):
    """This project without its kernels."""
    from workers.networks.networks import potential
    from workers.philox import Noise

    return sampled(setting, plain_network(setting), potential, Noise)


def fused(setting: Setting):
    """This project's kernels, of the gradient and of the noise."""
    from workers.fused.network import fused, potential
    from workers.fused.noise import Noise

    return sampled(setting, fused(plain_network(setting)), potential, Noise)


def torch_product(setting: Setting):
    """The product of large matrices, for the speed that a processor has."""
    left, right = (torch.randn(GEMM_SIZE, GEMM_SIZE) for _ in range(2))

    def run(steps):
        for _ in range(steps):
            torch.mm(left, right)

    return serving.Chains(None, run)


def numpy_product(setting: Setting):
    """The same by numpy."""
    left, right = (torch.randn(GEMM_SIZE, GEMM_SIZE).numpy() for _ in range(2))

    def run(steps):
        for _ in range(steps):
            left @ right

    return serving.Chains(None, run)


if __name__ == "__main__":
    contestants = {
        "autograd": (autograd_loop, ["torch"]),
        "vmap": (functional, ["torch"]),
        "plain": (plain, ["torch", "numpy"]),
        "fused": (fused, ["torch"]),
        "torch.mm": (torch_product, ["torch"]),
        "numpy.matmul": (numpy_product, ["numpy"]),
    }
    serving.serve(*contestants[sys.argv[1]])
