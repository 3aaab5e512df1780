"""U(z) and ∇U of networks of one hidden layer, which never write the pre-activations to memory.

A program has a tile of neurons of one chain and goes through all points in slices. `forward` leaves
what the tile adds to f; `backward` sums these, computes the pre-activations again, and leaves the
gradient of its own parameters. Sums are taken in one order, so that the bits of a chain depend on
nothing but itself. Products are of tensor cores: three of tf32 in the place of one of float32 for
pre-activations, on which small temperatures depend, and one of tf32 for the gradient, where the
rounding of a residual that is small already does nothing.

Positions z are (chain, parameter), whitened: weights (width, d), biases, readout. Inputs are filled
up with zeros to COLUMNS, a power of two.
"""

import triton
import triton.language as tl

from workers.triton.activations import phi_and_slope


@triton.jit
def forward(
    z, x, parts, size, width, d,
    weight_scale, bias_scale, readout_scale,
    POINTS: tl.constexpr, BIASED: tl.constexpr, PHI: tl.constexpr,
    NEURONS: tl.constexpr, SLICE: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """parts (chain, tile, point): Σ_i a_i φ(h_i) over the neurons of a tile."""
    chain, tile, tiles = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    row = z + chain * size
    neuron = tile * NEURONS + tl.arange(0, NEURONS)
    there = neuron < width
    w = weights(row, neuron, there, d, COLUMNS) * weight_scale
    bias = biases(row, neuron, there, width, d, BIASED) * bias_scale
    readout = tl.load(row + size - width + neuron, mask=there, other=0.0) * readout_scale
    to = parts + (chain * tiles + tile) * POINTS
    for start in range(0, POINTS, SLICE):
        point = start + tl.arange(0, SLICE)
        read = inputs(x, point, d, POINTS, COLUMNS)
        h = tl.dot(w, tl.trans(read), input_precision="tf32x3")
        phi, _ = phi_and_slope(h + bias[:, None], PHI)
        tl.store(to + point, tl.sum(phi * readout[:, None], 0), mask=point < POINTS)


@triton.jit
def backward(
    z, x, y, parts, slope, pieces, size, width, d,
    weight_scale, bias_scale, readout_scale, unit, rate,
    POINTS: tl.constexpr, BIASED: tl.constexpr, PHI: tl.constexpr, TILES: tl.constexpr,
    NEURONS: tl.constexpr, SLICE: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """slope (chain, parameter): ∇U of a tile's own; pieces (chain, tile), whose sum is U.

    `rate` is 1/T; the slopes of `phi_and_slope` are multiplied by `unit`.
    """
    chain, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    row = z + chain * size
    neuron = tile * NEURONS + tl.arange(0, NEURONS)
    there = neuron < width
    w = weights(row, neuron, there, d, COLUMNS) * weight_scale
    bias = biases(row, neuron, there, width, d, BIASED) * bias_scale
    back = tl.load(row + size - width + neuron, mask=there, other=0.0) * (readout_scale * unit)
    for_weights = tl.zeros((NEURONS, COLUMNS), tl.float32)
    for_bias, for_readout = tl.zeros((NEURONS,), tl.float32), tl.zeros((NEURONS,), tl.float32)
    loss = tl.zeros((SLICE,), tl.float32)
    for start in range(0, POINTS, SLICE):
        point = start + tl.arange(0, SLICE)
        seen = point < POINTS
        residual = -tl.load(y + point, mask=seen, other=0.0)
        for part in range(TILES):
            from_tile = parts + (chain * TILES + part) * POINTS + point
            residual += tl.load(from_tile, mask=seen, other=0.0)
        loss += residual * residual
        read = inputs(x, point, d, POINTS, COLUMNS)
        h = tl.dot(w, tl.trans(read), input_precision="tf32x3")
        phi, bent = phi_and_slope(h + bias[:, None], PHI)
        for_readout += tl.sum(phi * residual[None, :], 1)
        delta = bent * back[:, None] * residual[None, :]
        for_bias += tl.sum(delta, 1)
        for_weights = tl.dot(delta, read, for_weights, input_precision="tf32")
    to, column = slope + chain * size, tl.arange(0, COLUMNS)
    own = weights(row, neuron, there, d, COLUMNS)  # again: registers are dear in the loop
    square = tl.sum(tl.sum(own * own, 1), 0)
    at = to + neuron[:, None] * d + column[None, :]
    inside = there[:, None] & (column < d)[None, :]
    tl.store(at, own + for_weights * (weight_scale * rate), mask=inside)
    if BIASED:
        own_bias = biases(row, neuron, there, width, d, BIASED)
        square += tl.sum(own_bias * own_bias, 0)
        tl.store(to + width * d + neuron, own_bias + for_bias * (bias_scale * rate), mask=there)
    readout = tl.load(row + size - width + neuron, mask=there, other=0.0)
    square += tl.sum(readout * readout, 0)
    slope_of_readout = readout + for_readout * (readout_scale * rate)
    tl.store(to + size - width + neuron, slope_of_readout, mask=there)
    losses = tl.where(tile == 0, tl.sum(loss, 0) * rate, 0.0)
    tl.store(pieces + chain * TILES + tile, (square + losses) / 2)


@triton.jit
def total(pieces, energy, TILES: tl.constexpr):
    """energy (chain,): the sum of pieces (chain, tile), the first one first."""
    chain = tl.program_id(0).to(tl.int64)
    found = tl.load(pieces + chain * TILES)
    for tile in range(1, TILES):
        found += tl.load(pieces + chain * TILES + tile)
    tl.store(energy + chain, found)


@triton.jit
def weights(row, neuron, there, d, COLUMNS: tl.constexpr):
    """Those of some neurons, (neuron, column); zeros beyond them."""
    column = tl.arange(0, COLUMNS)
    inside = there[:, None] & (column < d)[None, :]
    return tl.load(row + neuron[:, None] * d + column[None, :], mask=inside, other=0.0)


@triton.jit
def biases(row, neuron, there, width, d, BIASED: tl.constexpr):
    """Those of some neurons; zeros where there are none."""
    if BIASED:
        found = tl.load(row + width * d + neuron, mask=there, other=0.0)
    else:
        found = tl.zeros(neuron.shape, tl.float32)
    return found


@triton.jit
def inputs(x, point, d, POINTS: tl.constexpr, COLUMNS: tl.constexpr):
    """Some points, (point, column); zeros beyond them."""
    column = tl.arange(0, COLUMNS)
    inside = (point < POINTS)[:, None] & (column < d)[None, :]
    return tl.load(x + point[:, None] * d + column[None, :], mask=inside, other=0.0)
