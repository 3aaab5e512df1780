"""The normals of `workers.philox` in Triton, to the last bit.

Each operation is rounded by itself, as there: compile with `enable_fp_fusion=False`. Divisions and
roots are the nearest float, which on a GPU has to be asked for.
"""

import triton
import triton.language as tl


@triton.jit
def normals(
    out,  # (chain, element)
    chains,  # (chain,), int64
    words,  # (3,), int64: the key's words and the stream
    step,  # (1,), int64: in memory, so that a captured graph serves all steps
    elements,
    ATANH: tl.constexpr,
    SINE: tl.constexpr,
    TWO_LOG: tl.constexpr,
    WIDE: tl.constexpr,  # float64
    BLOCKS: tl.constexpr,
):
    """One program fills the elements of BLOCKS blocks of one chain."""
    row = tl.program_id(0)
    block = tl.program_id(1) * BLOCKS + tl.arange(0, BLOCKS)
    none = tl.zeros_like(block).to(tl.uint32)
    w0, w1, w2, w3 = encrypted(
        block.to(tl.uint32),
        none + tl.load(step).to(tl.uint32),
        none + tl.load(chains + row).to(tl.uint32),
        none + tl.load(words + 2).to(tl.uint32),
        none + tl.load(words).to(tl.uint32),
        none + tl.load(words + 1).to(tl.uint32),
    )
    to = out + row.to(tl.int64) * elements
    if WIDE:
        first = (w0.to(tl.uint64) << 32) | w1.to(tl.uint64)
        second = (w2.to(tl.uint64) << 32) | w3.to(tl.uint64)
        store_pair(to, block, first, second, elements, ATANH, SINE, TWO_LOG, WIDE)
    else:
        store_pair(to, 2 * block, w1, w3, elements, ATANH, SINE, TWO_LOG, WIDE)
        store_pair(to, 2 * block + 1, w0, w2, elements, ATANH, SINE, TWO_LOG, WIDE)


@triton.jit
def encrypted(c0, c1, c2, c3, k0, k1):
    """Philox4x32-10: the four words of each block, uint32."""
    m0, m1 = tl.full(c0.shape, 0xD2511F53, tl.uint32), tl.full(c0.shape, 0xCD9E8D57, tl.uint32)
    a0, a1 = tl.full(c0.shape, 0x9E3779B9, tl.uint32), tl.full(c0.shape, 0xBB67AE85, tl.uint32)
    for _ in tl.static_range(10):
        high0, high1 = tl.umulhi(c0, m0), tl.umulhi(c2, m1)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, c2 * m1, high0 ^ c3 ^ k1, c0 * m0
        k0, k1 = k0 + a0, k1 + a1
    return c0, c1, c2, c3


@triton.jit
def store_pair(
    to,
    pair,
    first,
    second,
    elements,
    ATANH: tl.constexpr,
    SINE: tl.constexpr,
    TWO_LOG: tl.constexpr,
    WIDE: tl.constexpr,
):
    """A Box-Muller pair of two words: number i and number 64 + i of a tile of 128."""
    above = radius(unit(fraction(first, WIDE), WIDE), ATANH, TWO_LOG, WIDE)
    angle = fraction(second, WIDE)
    sine = quarter(unit(angle, WIDE), SINE) * above
    cosine = quarter(unit(complement(angle, WIDE), WIDE), SINE) * above
    at = pair // 64 * 128 + pair % 64
    tl.store(to + at, with_sign(sine, first, WIDE), mask=at < elements)
    tl.store(to + at + 64, with_sign(cosine, second, WIDE), mask=at + 64 < elements)


@triton.jit
def fraction(word, WIDE: tl.constexpr):
    """All bits of a word but its sign, as a signed integer."""
    if WIDE:
        found = word & tl.full(word.shape, 0x7FFFFFFFFFFFFFFF, tl.uint64)
        bits = found.to(tl.int64, bitcast=True)
    else:
        found = word & tl.full(word.shape, 0x7FFFFFFF, tl.uint32)
        bits = found.to(tl.int32, bitcast=True)
    return bits


@triton.jit
def complement(fraction, WIDE: tl.constexpr):
    """1 less the fraction."""
    if WIDE:
        found = fraction ^ tl.full(fraction.shape, 0x7FFFFFFFFFFFFFFF, tl.int64)
    else:
        found = fraction ^ tl.full(fraction.shape, 0x7FFFFFFF, tl.int32)
    return found


@triton.jit
def unit(fraction, WIDE: tl.constexpr):
    """A number in (0, 1]."""
    if WIDE:
        found = (fraction.to(tl.float64) + 0.5) * tl.full(fraction.shape, 2.0**-63, tl.float64)
    else:
        found = (fraction.to(tl.float32) + 0.5) * tl.full(fraction.shape, 2.0**-31, tl.float32)
    return found


@triton.jit
def with_sign(value, word, WIDE: tl.constexpr):
    """The value with the sign bit of a word put to its own."""
    if WIDE:
        sign = word & tl.full(word.shape, 0x8000000000000000, tl.uint64)
        found = (value.to(tl.uint64, bitcast=True) ^ sign).to(tl.float64, bitcast=True)
    else:
        sign = word & tl.full(word.shape, 0x80000000, tl.uint32)
        found = (value.to(tl.uint32, bitcast=True) ^ sign).to(tl.float32, bitcast=True)
    return found


@triton.jit
def radius(u, ATANH: tl.constexpr, TWO_LOG: tl.constexpr, WIDE: tl.constexpr):
    """√(-2 ln u), as `workers.philox` computes it; float64 has no other division and root."""
    if WIDE:
        bits = u.to(tl.int64, bitcast=True)
        root_half = tl.full(u.shape, 0x3FE6A09E667F3BCD, tl.int64)
        exponent = (bits - root_half) & tl.full(u.shape, -(1 << 52), tl.int64)
        mantissa = (bits - exponent).to(tl.float64, bitcast=True)
        ratio = (mantissa - 1.0) / (mantissa + 1.0)
        scaled = exponent.to(tl.float64) * tl.full(u.shape, TWO_LOG, tl.float64)
        root = tl.sqrt(scaled + series(ratio * ratio, ATANH) * ratio)
    else:
        bits = u.to(tl.int32, bitcast=True)
        root_half = tl.full(u.shape, 0x3F3504F3, tl.int32)
        exponent = (bits - root_half) & tl.full(u.shape, -(1 << 23), tl.int32)
        mantissa = (bits - exponent).to(tl.float32, bitcast=True)
        ratio = tl.div_rn(mantissa - 1.0, mantissa + 1.0)
        scaled = exponent.to(tl.float32) * tl.full(u.shape, TWO_LOG, tl.float32)
        root = tl.sqrt_rn(scaled + series(ratio * ratio, ATANH) * ratio)
    return root


@triton.jit
def quarter(u, SINE: tl.constexpr):
    """sin(π u / 2)."""
    return series(u * u, SINE) * u


@triton.jit
def series(x, COEFFICIENTS: tl.constexpr):
    """Σ_k COEFFICIENTS[k] x^k by Horner's rule."""
    total = x * tl.full(x.shape, COEFFICIENTS[len(COEFFICIENTS) - 1], x.dtype)
    for k in tl.static_range(len(COEFFICIENTS) - 2, 0, -1):
        total = (total + tl.full(x.shape, COEFFICIENTS[k], x.dtype)) * x
    return total + tl.full(x.shape, COEFFICIENTS[0], x.dtype)
