import hashlib
import platform

import pytest
import torch

from support.exact_numbers import exact_numbers
from support.fused_networks import make_data, make_network
from workers import philox
from workers.fused import build, noise
from workers.fused.network import potential
from workers.samplers.baoab import baoab

torch.set_num_threads(1)  # as in a worker

TEMPERATURE, SEED = 0.3, 0x0123456789ABCDEF
SHALLOW, DEEP = (45,), (32, 45)
WORDS = [  # seed, chains, stream, step, elements
    (SEED, [5, 2**32 - 1, 0], 7, 2**20 + 3, 3 * philox.TILE + 10),
    (2**64 - 1, [0, 1], 2**32 - 1, 2**32 - 1, philox.TILE),
    (0, [1], 0, 0, 1),
    (3, [2], 1, 4, 100_000),
]

compiled = pytest.mark.usefixtures("library")


@pytest.mark.slow
@compiled
@pytest.mark.parametrize("evaluate", ["loss_and_gradient", "potential"])
@pytest.mark.parametrize("widths", [SHALLOW, DEEP], ids=str)
def test_the_bits_of_a_chain_are_its_own(widths, evaluate):
    network = make_network("erf", 10, widths, 0.2)
    parameters, x, y = make_data(network, 300, chains=8)

    def run(parameters):
        if evaluate == "potential":
            return potential(network, x, y, TEMPERATURE)(parameters)
        return network.loss_and_gradient(parameters, x, y)

    together = run(parameters)
    for chains in ([0], [5], [7, 2], list(range(8)), slice(None, None, 3)):
        for found, expected in zip(run(parameters[chains]), together, strict=True):
            assert torch.equal(found, expected[chains])
    strided = torch.cat([parameters, parameters], dim=1)[:, : network.size]
    assert torch.equal(run(strided)[1], together[1])


@compiled
@pytest.mark.parametrize("widths", [SHALLOW, DEEP], ids=str)
def test_a_chain_resumed_on_the_fused_potential_has_the_same_bits(widths):
    network = make_network("erf", 10, widths)
    parameters, x, y = make_data(network, 70, chains=4)
    z, random = parameters / network.standard_deviations.float(), noise.Noise(SEED, range(4), 0)
    sampler = baoab(potential(network, x, y, TEMPERATURE), 0.02, 1.0)
    state = sampler.init(z, random.at(0))
    for step in range(1, 11):
        state = sampler.step(state, random.at(step))
        if step == 5:
            kept = type(state)(*(tensor.clone() for tensor in state))
    again = baoab(potential(network, x, y, TEMPERATURE), 0.02, 1.0)
    for step in range(6, 11):
        kept = again.step(kept, noise.Noise(SEED, range(4), 0).at(step))
    for name in state._fields:
        assert torch.equal(getattr(state, name), getattr(kept, name))


# The same bits everywhere

BITS = {  # of energies and gradients: raise build.BITS where they are meant to change
    ("erf", (53,)): "85f1e7be42f9d734",
    ("gelu", (53,)): "f161eaf4f680977d",
    ("linear", (53,)): "8163d5339967c5b5",
    ("quadratic", (53,)): "b88b2ad6c8616530",
    ("relu", (53,)): "aa3e9d84a021a860",
    ("tanh", (53,)): "900eaf0fb91c88fd",
    ("erf", (48, 37)): "10963652dc8dcd37",
    ("gelu", (48, 37)): "04d1a0fe33654474",
    ("linear", (48, 37)): "b533e7c546d5b460",
    ("quadratic", (48, 37)): "177eb5dc7408f2c4",
    ("relu", (48, 37)): "cb06d426aea59ae0",
    ("tanh", (48, 37)): "e1c16689bffafa8b",
}


def digest(activation, widths):
    network = make_network(activation, 11, widths, 0.3)
    x, y = exact_numbers(400, 11), exact_numbers(400)
    evaluate = potential(network, x, y, TEMPERATURE)
    arrays = evaluate(exact_numbers(2, network.size))
    return hashlib.sha256(b"".join(array.numpy().tobytes() for array in arrays)).hexdigest()[:16]


@compiled
@pytest.mark.parametrize(("activation", "widths"), BITS, ids=str)
def test_bits_are_those_of_every_other_machine(activation, widths):
    assert digest(activation, widths) == BITS[activation, widths]


@compiled
@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="compiles for AVX2")
def test_bits_depend_neither_on_the_width_of_a_register_nor_on_optimization(tmp_path, monkeypatch):
    other = build.load(build.build(tmp_path, ("-mavx2", "-mfma", "-O1")))
    monkeypatch.setattr(build, "library", lambda: other)
    assert {case: digest(*case) for case in BITS} == BITS
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
