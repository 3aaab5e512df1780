"""Kernels for GPUs, without one: run by Triton's interpreter, and compiled for GPUs elsewhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="Triton is installed for tests on Linux alone")

from support import compiled_kernels
from support.compiled_kernels import CASES
from workers import philox
from workers.networks import networks
from workers.networks.activations import ACTIVATIONS
from workers.networks.networks import fully_connected
from workers.samplers.baoab import baoab
from workers.triton import noise
from workers.triton.activations import UNITS
from workers.triton.network import HOPPER, has_kernel, potential

TABLE = Path(compiled_kernels.__file__)

pytestmark = pytest.mark.slow
POINTS, TEMPERATURE = 130, 0.1
ROUNDING = 2e-6  # relative, of some hundred products in float32, over a few steps of Horner's rule
MOST_REGISTERS, MOST_SHARED = 255, 227 * 1024
FEW = (
    "noise",
    "noise, float64",
    "forward",
    "backward",
    "backward, gelu and biases",
    "backward, sm_80",
    "backward, sm_89",
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("seed", [0, 0x123456789ABCDEF0, 2**64 - 1])
def test_noise_is_that_of_philox_to_the_last_bit(seed, dtype):
    where = (12, (300,), dtype)  # the third tile is cut short
    expected = philox.Noise(seed, [0, 5, 2**32 - 1], 3)(*where)
    found = noise.Noise(seed, [0, 5, 2**32 - 1], 3)(*where)
    bits = philox.INTEGER[dtype]
    assert torch.equal(found.view(bits), expected.view(bits))


def problem(activation="erf", bias=0.0, inputs=20, chains=2, width=100):
    network = fully_connected(
        inputs, [width], ACTIVATIONS[activation], weight_variance=[1, 1], bias_variance=bias, chi=1
    )
    draw = lambda seed, rows, size: philox.Noise(seed, range(rows), 0)(0, (size,), torch.float32)  # noqa: E731
    x, y = draw(1, POINTS, inputs), draw(2, 1, POINTS)[0]
    return network, x, y, draw(3, chains, network.size)


@pytest.mark.parametrize("bias", [0.0, 0.3], ids=["plain", "biased"])
@pytest.mark.parametrize("activation", UNITS)
def test_the_gradient_is_that_of_float64_to_rounding(activation, bias):
    network, x, y, z = problem(activation, bias)
    energy, slope = potential(network, x, y, TEMPERATURE)(z)
    exact = networks.potential(network, x.double(), y.double(), TEMPERATURE)(z.double())
    assert has_kernel(network, x)
    torch.testing.assert_close(energy.double(), exact[0], rtol=ROUNDING, atol=0)
    assert (slope - exact[1]).norm() <= ROUNDING * exact[1].norm()


def test_a_step_of_langevin_is_the_plain_one_to_rounding():
    network, x, y, z = problem(bias=0.3)
    normals = noise.Noise(4, range(2), 1)
    states = []
    for make, noisy in ((potential, normals), (networks.potential, philox.Noise(4, range(2), 1))):
        sampler = baoab(make(network, x, y, TEMPERATURE), 0.02, 0.2)
        states.append(sampler.step(sampler.init(z, noisy.at(0)), noisy.at(1)))
    for found, expected in zip(*states, strict=True):
        assert (found - expected).norm() <= ROUNDING * expected.norm()


def test_bits_of_a_chain_do_not_depend_on_what_is_packed_beside_it():
    network, x, y, z = problem(chains=3)
    gradient = potential(network, x, y, TEMPERATURE)
    together, apart = gradient(z), [gradient(each) for each in z.split(1)]
    for place, found in enumerate(together):
        assert torch.equal(found, torch.cat([one[place] for one in apart]))
    tiles = HOPPER._replace(neurons=32)
    assert not torch.equal(potential(network, x, y, TEMPERATURE, tiles)(z)[1], together[1])


@pytest.mark.parametrize("change", [{"inputs": 65}, {"activation": "sin"}])
def test_what_has_no_kernel_is_computed_by_torch(change):
    network, x, y, z = problem(**change)
    assert not has_kernel(network, x)
    found = potential(network, x, y, TEMPERATURE)(z)
    for one, other in zip(found, networks.potential(network, x, y, TEMPERATURE)(z), strict=True):
        assert torch.equal(one, other)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """What came of a few kernels, from a process in which Triton compiles."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    command = [sys.executable, str(TABLE), "--json", *FEW]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
def test_kernels_fit_the_gpu_they_are_compiled_for(compiled, name):
    found = compiled[name]
    assert found["spills"] == 0
    assert found["registers"] <= MOST_REGISTERS
    assert found["shared"] <= MOST_SHARED
    assert (found["tensor"] > 0) == (CASES[name].function in ("forward", "backward"))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("noise", 32), ("noise, float64", 64)])
def test_the_compiled_noise_rounds_each_operation_by_itself(compiled, name, size):
    assert compiled[name]["fused"] == 0
    assert compiled[name]["roots"] == [f"div.rn.f{size}", f"sqrt.rn.f{size}"]
