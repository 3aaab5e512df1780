import math

import numpy as np
import pytest
import torch
from scipy import stats

from workers import philox
from workers.philox import LOW, M0, M1, TILE, W0, W1, Noise

torch.set_num_threads(1)  # as in a worker

SEED = 0x0123456789ABCDEF
KNOWN_ANSWERS = {  # counter, key, words: the vectors that come with the paper's Random123
    "zeros": ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    "ones": ([LOW] * 4, [LOW] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    "pi": (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
}


def scalar_philox(counter, key):
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(10):
        p, q = M0 * a, M1 * c
        a, b, c, d = (q >> 32) ^ b ^ k0, q & LOW, (p >> 32) ^ d ^ k1, p & LOW
        k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
    return a, b, c, d


def scalar_normal(chain, stream, step, element, dtype):
    """One normal from the words of its pair, as Noise describes it."""
    tile, place = divmod(element, TILE)
    is_cosine, place = divmod(place, TILE // 2)
    pair = tile * (TILE // 2) + place
    key = (SEED & LOW, SEED >> 32)
    if dtype == torch.float32:
        bits = 31
        w = scalar_philox((pair // 2, step, chain, stream), key)
        pair_words = (w[0], w[2]) if pair % 2 else (w[1], w[3])
    else:
        bits = 63
        w = scalar_philox((pair, step, chain, stream), key)
        pair_words = (w[0] << 32 | w[1], w[2] << 32 | w[3])
    mask = 2**bits - 1
    real = {torch.float32: np.float32, torch.float64: np.float64}[dtype]

    def fraction(k):  # in (0, 1], rounded as the arithmetic of that precision rounds it
        return np.longdouble((real(k) + real(0.5)) * real(2.0**-bits))

    radius = np.sqrt(-2 * np.log(fraction(pair_words[0] & mask)))
    angle = pair_words[1] & mask
    turn = fraction(mask - angle if is_cosine else angle)
    quarter = np.longdouble(2) * np.arctan(np.longdouble(1))
    sign = -1 if pair_words[is_cosine] >> bits else 1
    return float(sign * radius * np.sin(quarter * turn))


@pytest.mark.parametrize("case", KNOWN_ANSWERS)
def test_known_answers(case):
    counter, key, expected = KNOWN_ANSWERS[case]
    assert [int(word) for word in philox.words((key[0], key[1]), counter)] == expected


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_words_equal_a_scalar_implementation(backend):
    rng = np.random.default_rng(0)
    counters = torch.as_tensor(rng.integers(0, 2**32, (50, 4)))
    key = (0xDEADBEEF, 0x00C0FFEE)
    expected = [scalar_philox([int(word) for word in counter], key) for counter in counters]
    if backend == "numpy":
        found = torch.stack(philox.words(key, list(counters.T)), dim=1)
    else:  # what runs where there is no numpy: on an accelerator
        work = torch.empty(6, 50, dtype=torch.int64)
        philox._encrypt(torch, key, list(counters.T), work)
        first, second = work[:2]
        halves = [first >> 32 & LOW, first & LOW, second >> 32 & LOW, second & LOW]
        found = torch.stack(halves, dim=1)
    assert found.tolist() == [list(block) for block in expected]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normals_are_the_box_muller_pairs_of_the_scalar_implementation(dtype):
    chains, stream, step, count = [5, 2**32 - 1], 7, 2**20 + 3, 3 * TILE + 10
    noise = Noise(SEED, chains, stream)(step, (count,), dtype)
    expected = torch.tensor(
        [[scalar_normal(c, stream, step, e, dtype) for e in range(count)] for c in chains],
        dtype=torch.float64,
    )
    # Rounding: ten or so operations after the argument, none of them cancelling.
    torch.testing.assert_close(noise.double(), expected, rtol=5 * torch.finfo(dtype).eps, atol=0.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normals_do_not_depend_on_packing(dtype, monkeypatch):
    count = 1000
    together = Noise(SEED, range(20), 1)(9, (count,), dtype)
    for chains in ([3], [19, 0, 7], range(5, 12)):
        apart = Noise(SEED, torch.tensor(list(chains)), 1)(9, (count,), dtype)
        assert torch.equal(apart, together[list(chains)])
    monkeypatch.setattr(philox, "CPU_BLOCKS", 300)
    assert torch.equal(Noise(SEED, range(20), 1)(9, (count,), dtype), together)


def test_normals_depend_on_the_element_and_not_on_the_shape():
    noise = Noise(SEED, range(3), 1)
    flat = noise(0, (1300,), torch.float32)
    assert torch.equal(noise(0, (13, 4, 25), torch.float32), flat.view(3, 13, 4, 25))
    assert torch.equal(noise(0, (700,), torch.float32), flat[:, :700])
    assert noise(0, (), torch.float32).shape == (3,)
    assert noise(0, (0,), torch.float32).shape == (3, 0)
    assert torch.equal(noise.at(4)((10,), torch.float32), noise(4, (10,), torch.float32))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_moments_and_distribution_of_the_normals(dtype):
    n = 1 << 20
    sample = Noise(SEED, range(8), 3)(2, (n // 8,), dtype).double().flatten()
    # Standard errors of the moments 1 to 6 of a standard normal: √((E x^2k - (E x^k)²)/n).
    for power in range(1, 7):
        even = 0 if power % 2 else math.prod(range(1, power, 2))
        error = math.sqrt((math.prod(range(1, 2 * power, 2)) - even**2) / n)
        assert sample.pow(power).mean().item() == pytest.approx(even, abs=5 * error)
    assert stats.kstest(sample.numpy(), "norm").pvalue > 1e-4
    beyond = (sample.abs() > 4).double().mean().item()
    rare = 2 * stats.norm.sf(4)
    assert beyond == pytest.approx(rare, abs=5 * math.sqrt(rare / n))


def test_sines_and_cosines_of_a_pair_are_uncorrelated_and_so_are_their_squares():
    n = 1 << 19
    tiles = Noise(SEED, [0], 0)(0, (2 * n,), torch.float32).double().view(-1, 2, TILE // 2)
    sine, cosine = tiles[:, 0].flatten(), tiles[:, 1].flatten()
    assert (sine * cosine).mean().abs().item() < 5 / math.sqrt(n)
    covariance = ((sine**2 - 1) * (cosine**2 - 1)).mean().abs().item()
    assert covariance < 5 * 2 / math.sqrt(n)


@pytest.mark.parametrize("change", ["seed", "stream", "step", "chain"])
def test_every_coordinate_of_the_counter_gives_independent_normals(change):
    n, where = 1 << 16, {"seed": SEED, "stream": 1, "step": 1, "chain": 1}

    def sample(seed, stream, step, chain):
        return Noise(seed, [chain], stream)(step, (n,), torch.float32).double()

    for other in (where[change] + 1, where[change] ^ 1 << 31):
        product = sample(**where) * sample(**{**where, change: other})
        assert product.mean().abs().item() < 5 / math.sqrt(n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_words_give_finite_normals(dtype):
    integer = philox.INTEGER[dtype]
    limits = torch.iinfo(integer)
    extremes = torch.tensor([0, -1, 1, limits.min, limits.max, limits.min + 1], dtype=integer)
    radius, angle = torch.meshgrid(extremes, extremes, indexing="ij")
    normals = torch.empty(2, 6, 6, dtype=dtype)
    philox._box_muller(torch.stack([radius, angle]), normals)
    bits = 8 * dtype.itemsize - 1
    bound = math.sqrt(2 * math.log(2) * (bits + 1))  # the smallest u is 2^-(bits + 1)
    assert normals.isfinite().all()
    assert normals.abs().max().item() == pytest.approx(bound, rel=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normals_are_the_same_bits_on_an_accelerator(dtype):
    here = Noise(SEED, range(50), 1)(3, (10_000,), dtype)
    there = Noise(SEED, range(50), 1, device="cuda")(3, (10_000,), dtype)
    assert torch.equal(there.cpu(), here)


def test_a_permutation_is_one_and_each_place_is_as_likely():
    order = philox.permutation(SEED, 2, 1000)
    assert torch.equal(order.sort().values, torch.arange(1000))
    assert torch.equal(order, philox.permutation(SEED, 2, 1000))
    assert not torch.equal(order, philox.permutation(SEED, 3, 1000))
    places = [int(philox.permutation(seed, 0, 10)[0]) for seed in range(2000)]
    assert stats.chisquare(np.bincount(places, minlength=10)).pvalue > 1e-4


def test_integers_are_uniform_and_prefixes_of_each_other():
    draws = philox.integers(SEED, 4, 20_000, 7)
    assert torch.equal(philox.integers(SEED, 4, 500, 7), draws[:500])
    assert stats.chisquare(np.bincount(draws.numpy(), minlength=7)).pvalue > 1e-4


def test_uniform_numbers_lie_inside_the_unit_interval():
    sample = philox.uniform(SEED, 5, 100_000)
    assert sample.min() > 0
    assert sample.max() < 1
    assert stats.kstest(sample.numpy(), "uniform").pvalue > 1e-4
    assert torch.equal(philox.uniform(SEED, 5, 10), sample[:10])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Noise(2**64, [0], 0), "seed is"),
        (lambda: Noise(0, [-1], 0), "chain is -1"),
        (lambda: Noise(0, [0], 2**32), "stream is"),
        (lambda: Noise(0, [0], 0)(-1, (1,), torch.float32), "step is -1"),
        (lambda: Noise(0, [0], 0)(0, (1,), torch.float16), "float16"),
    ],
)
def test_a_counter_out_of_range_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
