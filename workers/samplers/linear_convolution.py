"""Exact Gibbs sampling of the linear convolutional network."""

from typing import NamedTuple

import torch
from torch import Tensor

from workers.networks.activations import ACTIVATIONS
from workers.networks.convolution import PatchNetwork
from workers.philox import Normals
from workers.sampler import Sampler
from workers.samplers.linear_model import (
    chains_at_a_time,
    check_labels,
    normals_needed,
    regress,
)


class LinearConvolutionState(NamedTuple):
    """z (chain, parameter)."""

    position: Tensor


def linear_convolution(
    network: PatchNetwork, x: Tensor, y: Tensor, temperature: float
) -> Sampler[LinearConvolutionState]:
    """Readout and filters of f = Σ_ic a_ic w_c·x_i in turn, each drawn exactly given the other.

    f = Σ_i v_i·x_i depends on v = Aᵀ W only, with A (channel, patch) and W (channel, patch_size).
    Given W, the part of A in the columns of W, at most patch_size numbers for each patch, meets the
    data, and is drawn from a linear model; what is perpendicular to them is drawn from the prior.
    Given A, likewise for W. The cost is that of a linear model with at most d = P S weights,
    whatever the number of channels. Targets the exp(-U) of `workers.networks.networks.potential`
    without bias; the algebra is in float64. Raises ValueError for another activation or depth.
    """
    check_labels(x, y)
    if network.activation != ACTIVATIONS["linear"]:
        raise ValueError(
            "the activation is not linear, so filters are not Gaussian given the readout; "
            "take baoab"
        )
    if network.depth != 1:
        raise ValueError(
            f"the network has {network.depth} hidden layers; filters and readout are drawn in "
            "turn for one: take baoab"
        )
    filters, readout = network.layers
    readout = readout._replace(shape=(network.widths[0], network.patches))
    by_patch = x.double().unflatten(1, (network.patches, network.patch_size))
    by_pixel = by_patch.mT.contiguous()
    sizes = [
        _normals(len(x), readout.shape, network.patch_size),
        _normals(len(x), filters.shape, network.patches),
    ]

    def init(position: Tensor, noise: Normals) -> LinearConvolutionState:
        return LinearConvolutionState(position)

    def sweep(position: Tensor, normals: Tensor) -> Tensor:
        for_readout, for_filters = normals.double().split(sizes, 1)
        weights = filters.of(position).double() * filters.standard_deviation
        scaled = by_pixel * readout.standard_deviation
        drawn = _redraw(scaled, y, temperature, weights, for_readout)
        weights = drawn * readout.standard_deviation
        scaled = by_patch * filters.standard_deviation
        above = _redraw(scaled, y, temperature, weights, for_filters)
        return torch.cat([above.flatten(1), drawn.flatten(1)], 1).to(position)

    def step(state: LinearConvolutionState, noise: Normals) -> LinearConvolutionState:
        normals = noise((sum(sizes),), state.position.dtype)
        chains = chains_at_a_time(x, x.shape[1])
        parts = zip(state.position.split(chains), normals.split(chains), strict=True)
        return LinearConvolutionState(torch.cat([sweep(*part) for part in parts]))

    return Sampler(init, step)


def _normals(n: int, shape: tuple[int, ...], other: int) -> int:
    """How many normals a draw of a factor (channel, row) takes, given the other's (channel, other).

    One for each element, and others for the labels.
    """
    channels, rows = shape
    columns = min(channels, other) * rows
    return channels * rows + normals_needed(n, columns) - columns


def _redraw(
    points: Tensor, labels: Tensor, temperature: float, other: Tensor, normals: Tensor
) -> Tensor:
    """B (chain, channel, r) of f = Σ_cqr G_cq B_cr x_qr given G (chain, channel, q), the other one.

    Points are (n, q, r). With G = U R, U orthonormal, f = Σ_kqr R_kq (UᵀB)_kr x_qr: UᵀB is drawn
    from its posterior, and the rest of B stays as the prior draws it.
    """
    basis, factor = torch.linalg.qr(other)
    channels, rows = other.shape[1], points.shape[2]
    features = torch.einsum("ckq,nqr->cnkr", factor, points).flatten(2)
    prior, rest = normals.tensor_split([channels * rows], 1)
    prior = prior.unflatten(1, (channels, rows))
    along = basis.mT @ prior
    model = regress(features, labels, temperature)
    drawn = model.draw(torch.cat([along.flatten(1), rest], 1)).view_as(along)
    return prior + basis @ (drawn - along)
