"""Counter-based random numbers: Philox 4x32-10 of Salmon, Moraes, Dror and Shaw (SC 2011).

A block of four 32-bit words is a bijection of a 128-bit counter under a 64-bit key, so a number
depends on where it stands and not on what was drawn before it. Here the key is the seed and the
counter is (block of elements, step, chain, stream): chains may be packed, moved, stopped and
resumed at will. The normals are made of integer arithmetic and of +, -, *, / and square roots,
which IEEE 754 fixes to the last bit: they are the same bits on every device.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

M0, M1 = 0xD2511F53, 0xCD9E8D57  # multipliers of the two halves of a block
W0, W1 = 0x9E3779B9, 0xBB67AE85  # what a round adds to the key
LOW = 0xFFFFFFFF  # the lower word of 64 bits
ROUNDS = 10
SHARED_ROUNDS = 2  # so long, a word depends on the element or on the chain but not on both
TILE = 128  # normals of one tile: 64 sines, then the 64 cosines of the same pairs
CPU_BLOCKS = 1 << 14  # at a time: six arrays of 128 KiB stay in the second-level cache
DEVICE_BLOCKS = 1 << 22
INTEGER = {torch.float32: torch.int32, torch.float64: torch.int64}  # of the same size
TERMS = {torch.float32: (5, 7), torch.float64: (11, 11)}  # of atanh and sine: error < ε / 50

Normals = Callable[[Sequence[int], torch.dtype], Tensor]
"""(shape, dtype) -> standard normals (chain, *shape): the noise of one step of a block."""


def words(key: tuple[int, int], counter: Sequence[Tensor | int]) -> tuple[Tensor, ...]:
    """Philox4x32-10: the four words of each block, for counters (c0, c1, c2, c3) that broadcast.

    Key, counter and words are 32-bit numbers in the order of the paper; tensors are int64.
    """
    columns = torch.broadcast_tensors(*(torch.as_tensor(word) for word in counter))
    blocks = _blocks(key, [column.reshape(-1) for column in columns])
    first, second = blocks.view(2, *columns[0].shape)
    return first >> 32 & LOW, first & LOW, second >> 32 & LOW, second & LOW


def permutation(seed: int, stream: int, n: int) -> Tensor:
    """A random order of 0..n-1 (int64): the stable argsort of n 64-bit words."""
    return torch.argsort(_long_words(seed, stream, n), stable=True)


def integers(seed: int, stream: int, n: int, high: int) -> Tensor:
    """n draws with replacement from 0..high-1 (int64); fewer draws are a prefix of more.

    63 bits of a word modulo `high`: no value is favoured by more than high / 2^63 of itself.
    """
    return (_long_words(seed, stream, n) & (2**63 - 1)) % high


def uniform(seed: int, stream: int, n: int) -> Tensor:
    """n uniform numbers inside (0, 1) (float64), (w + 1/2) / 2^52; fewer are a prefix of more."""
    bits = _long_words(seed, stream, n) >> 12 & (2**52 - 1)
    return (bits.to(torch.float64) + 0.5) * 2.0**-52


class Noise:
    """Standard normals of a block of chains, by seed, global chain index and stream.

    `noise(step, shape, dtype)` is (chain, *shape). A number depends on the seed, the chain, the
    stream, the step, the dtype and the element's index in the flattened shape, and on nothing
    else. Elements come in tiles of 128: number 128 t + i and number 128 t + 64 + i, i < 64, are
    Box-Muller pair 64 t + i. A pair takes two words of 32 bits in float32 (a block has two
    pairs) and two of 64 in float64. Each word gives a sign s and a fraction u in (0, 1], of
    31 or 63 bits, and the pair is

        s_0 √(-2 ln u_0) sin(π u_1 / 2)  and  s_1 √(-2 ln u_0) cos(π u_1 / 2):

    the signs are the quadrant of the angle. No normal exceeds 6.67 (float32) or 9.42 (float64).
    """

    def __init__(
        self,
        seed: int,
        chains: Sequence[int] | Tensor,
        stream: int,
        device: str | torch.device = "cpu",
    ) -> None:
        self.key = _key(seed)
        self.stream = word("stream", stream)
        numbers = torch.as_tensor(chains, dtype=torch.int64)
        for chain in (int(numbers.min()), int(numbers.max())):
            word("chain", chain)
        self.chains = numbers.to(device)

    def at(self, step: int | Tensor) -> Normals:
        """The normals of one step, as a function of (shape, dtype)."""
        return lambda shape, dtype: self(step, shape, dtype)

    def __call__(self, step: int | Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Normals (chain, *shape) of a step; a chain's numbers fill its shape row by row.

        The step is a number, or lies on the device as int64, (1,).
        """
        if dtype not in INTEGER:
            raise ValueError(f"normals in {dtype} were asked for; ask for float32 or float64")
        chains, elements, device = len(self.chains), math.prod(shape), self.chains.device
        constant = [self._column(step), self._column(self.stream)]
        per_tile = TILE * dtype.itemsize // 16  # blocks, of 16 bytes
        normals = torch.empty(chains, elements, dtype=dtype, device=device)
        for rows, tiles in _chunks(chains, -(-elements // TILE), per_tile, device):
            block = torch.arange(tiles.start * per_tile, tiles.stop * per_tile, device=device)
            counter = (block[None], constant[0], self.chains[rows, None], constant[1])
            pairs = _blocks(self.key, counter).view(INTEGER[dtype])
            part = normals[rows, tiles.start * TILE : tiles.stop * TILE]
            _tiled(pairs, part)
        return normals.view(chains, *shape)

    def counter(self, step: int | Tensor) -> Tensor:
        """The number of a step on the device, (1,); made there, since a copy would wait for it."""
        if isinstance(step, Tensor):
            return step
        number = word("step", step)
        return torch.full((1,), number, dtype=torch.int64, device=self.chains.device)

    def _column(self, step: int | Tensor) -> Tensor:
        return self.counter(step).view(1, 1)


def _tiled(pairs: Tensor, normals: Tensor) -> None:
    """Fill normals (chain, element) from words (2, chain, pair); the last tile may be cut short."""
    chains, elements = normals.shape
    whole = normals if elements % TILE == 0 else normals.new_empty(chains, 2 * pairs.shape[2])
    tiles = whole.unflatten(1, (-1, 2, TILE // 2)).permute(2, 0, 1, 3)
    _box_muller(pairs.view(tiles.shape), tiles)
    if whole is not normals:
        normals.copy_(whole[:, :elements])


def word(name: str, value: int) -> int:
    """A 32-bit word of the counter."""
    if not 0 <= value <= LOW:
        raise ValueError(f"{name} is {value}; random numbers are counted from 0 to 2^32 - 1")
    return value


def _key(seed: int) -> tuple[int, int]:
    """The two words of a 64-bit seed, the lower one first."""
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed}; choose one from 0 to 2^64 - 1")
    return seed & LOW, seed >> 32


def _long_words(seed: int, stream: int, n: int) -> Tensor:
    """The first 64 bits of blocks 0..n-1 (int64), at step 0 of chain 0."""
    constant = [torch.tensor([word]) for word in (0, 0, word("stream", stream))]
    return _blocks(_key(seed), [torch.arange(n), *constant])[0]


def _chunks(
    chains: int, tiles: int, per_tile: int, device: torch.device
) -> Iterator[tuple[slice, slice]]:
    """Parts of (chain, tile) that fit the cache; several chains in each share the first rounds."""
    room = (CPU_BLOCKS if device.type == "cpu" else DEVICE_BLOCKS) // per_tile  # tiles
    rows = min(chains, max(8, room // max(1, tiles)))
    parts = max(1, -(-tiles * rows // room))
    columns = max(1, -(-tiles // parts))
    for chain in range(0, chains, rows):
        for tile in range(0, tiles, columns):
            yield slice(chain, chain + rows), slice(tile, min(tile + columns, tiles))


def _blocks(key: tuple[int, int], counter: Sequence[Tensor]) -> Tensor:
    """The blocks of counters that broadcast, as int64 (2, *shape): w0 2^32 + w1, w2 2^32 + w3.

    On a CPU numpy does the rounds: its integer products take half the time of torch's.
    """
    shape = torch.broadcast_shapes(*(word.shape for word in counter))
    work = torch.empty(6, *shape, dtype=torch.int64, device=counter[0].device)
    if work.is_cpu:
        columns = [word.numpy().view(np.uint64) for word in counter]
        _encrypt(np, key, columns, work.numpy().view(np.uint64))
    else:
        _encrypt(torch, key, counter, work)
    return work[:2]


def _encrypt(
    xp: ModuleType, key: tuple[int, int], counter: Sequence[Any], work: np.ndarray | Tensor
) -> None:
    """The ten rounds, by operations that numpy and torch give the same names, into work[:2].

    A round is (a, b, c, d) <- (hi(M1 c) ^ b ^ k0, lo(M1 c), hi(M0 a) ^ d ^ k1, lo(M0 a)). The
    lower words b and d carry the upper half of their product along, which a and c mask out.
    """
    (m0, m1, low, word), keys = _constants(xp, key, work.dtype)
    a, b, c, d = counter
    for k0, k1 in keys[:SHARED_ROUNDS]:
        p, q = m0 * a, m1 * c
        a, b, c, d = ((q >> word) ^ b ^ k0) & low, q, ((p >> word) ^ d ^ k1) & low, p
    A, C, B, D, P, Q = work
    A[...], B[...], C[...], D[...] = a, b, c, d
    for k0, k1 in keys[SHARED_ROUNDS:-1]:
        xp.multiply(A, m0, out=P)
        xp.multiply(C, m1, out=Q)
        for upper, product, lower, k in ((A, Q, B, k0), (C, P, D, k1)):
            xp.bitwise_right_shift(product, word, out=upper)
            xp.bitwise_xor(lower, k, out=lower)
            xp.bitwise_xor(upper, lower, out=upper)
            xp.bitwise_and(upper, low, out=upper)
        B, D, P, Q = Q, P, B, D
    xp.multiply(A, m0, out=P)
    xp.multiply(C, m1, out=Q)
    for packed, product, lower, k in zip((A, C), (Q, P), (B, D), keys[-1], strict=True):
        xp.bitwise_xor(lower, k, out=lower)
        xp.bitwise_left_shift(lower, word, out=lower)
        xp.bitwise_xor(product, lower, out=packed)


@lru_cache(maxsize=64)
def _constants(xp: ModuleType, key: tuple[int, int], dtype: object) -> tuple[list[Any], list[Any]]:
    """(M0, M1, mask of a word, shift by a word) and the keys of the rounds, as scalar arrays."""
    numbers = [xp.asarray(number, dtype=dtype) for number in (M0, M1, LOW, 32)]
    keys = [((key[0] + r * W0) & LOW, (key[1] + r * W1) & LOW) for r in range(ROUNDS)]
    return numbers, [tuple(xp.asarray(k, dtype=dtype) for k in pair) for pair in keys]


class Scalars(NamedTuple):
    """Constants of the Box-Muller map in one precision, as scalar tensors."""

    fraction: Tensor  # the bits of a word that are not its sign
    sign: Tensor
    unit: Tensor  # 2^-31 or 2^-63
    half: Tensor
    one: Tensor
    root_half: Tensor  # bits of √½
    exponent: Tensor  # bits of a float's exponent and sign
    two_log: Tensor  # -2 ln 2, divided by the exponent's lowest bit
    atanh: list[Tensor]  # -4 / (2 k + 1)
    sine: list[Tensor]  # (-1)^k (π/2)^(2 k + 1) / (2 k + 1)!


@lru_cache(maxsize=4)
def scalars(dtype: torch.dtype) -> Scalars:
    """The constants of a precision, made once."""
    integer = INTEGER[dtype]
    bits = 8 * dtype.itemsize - 1
    mantissa = {31: 23, 63: 52}[bits]
    real = lambda value: torch.tensor(value, dtype=dtype)  # noqa: E731
    whole = lambda value: torch.tensor(value, dtype=integer)  # noqa: E731
    atanh, sine = TERMS[dtype]
    return Scalars(
        fraction=whole(2**bits - 1),
        sign=whole(-(2**bits)),
        unit=real(2.0**-bits),
        half=real(0.5),
        one=real(1.0),
        root_half=real(math.sqrt(0.5)).view(integer),
        exponent=whole(-(2**mantissa)),
        two_log=real(-2 * math.log(2) * 2.0**-mantissa),
        atanh=[real(-4 / (2 * k + 1)) for k in range(atanh)],
        sine=[
            real((-1) ** k * (math.pi / 2) ** (2 * k + 1) / math.factorial(2 * k + 1))
            for k in range(sine)
        ],
    )


def _box_muller(pairs: Tensor, out: Tensor) -> None:
    """Normals out (2, ...) of words (2, ...) of the same size, as `Noise` describes them.

    The cosine of an angle is the sine of its complement, exactly 1 - u_1 before rounding, so that
    both are accurate where they are small. Each step is one operation: fused ones would round
    differently on different devices.
    """
    scalar = scalars(out.dtype)
    fractions = torch.empty(3, *pairs.shape[1:], dtype=pairs.dtype, device=pairs.device)
    torch.bitwise_and(pairs, scalar.fraction, out=fractions[:2])
    torch.bitwise_xor(fractions[1], scalar.fraction, out=fractions[2])
    u = fractions.to(out.dtype).add_(scalar.half).mul_(scalar.unit)
    angles = u[1:]
    normals = _series(angles * angles, scalar.sine).mul_(angles).mul_(_radius(u[0], scalar))
    signs = pairs.bitwise_and_(scalar.sign)
    torch.bitwise_xor(normals.view(pairs.dtype), signs, out=out.view(pairs.dtype))


def _radius(u: Tensor, scalar: Scalars) -> Tensor:
    """√(-2 ln u), which overwrites u. With u = 2^e m and m in [√½, √2) it is the root of

    -2 e ln 2 - 4 atanh((m - 1) / (m + 1)); the bits of a float are e and m side by side.
    """
    bits = u.view(INTEGER[u.dtype])
    exponent = (bits - scalar.root_half).bitwise_and_(scalar.exponent)
    bits.sub_(exponent)
    above = u + scalar.one
    ratio = u.sub_(scalar.one).div_(above)
    mantissa = _series(ratio * ratio, scalar.atanh).mul_(ratio)
    return _root(exponent.to(u.dtype).mul_(scalar.two_log).add_(mantissa))


def _root(square: Tensor) -> Tensor:
    """√ in place, the nearest float; that of torch on a CPU is off by one in the last place."""
    if square.is_cpu:
        np.sqrt(square.numpy(), out=square.numpy())
        return square
    return square.sqrt_()


def _series(x: Tensor, coefficients: list[Tensor]) -> Tensor:
    """Σ_k coefficients[k] x^k by Horner's rule."""
    total = x * coefficients[-1]
    for coefficient in coefficients[-2:0:-1]:
        total.add_(coefficient).mul_(x)
    return total.add_(coefficients[0])
