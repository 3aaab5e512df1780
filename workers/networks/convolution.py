"""Convolutional networks as functions of a flat parameter tensor (chain, parameter).

They are models in the sense of `workers.networks.networks`: chains share the data x (n, d), and the
loss is L = ½ Σ_μ |f(x_μ) - y_μ|². No layer has a bias, and the factors 1/√fan_in are in the prior.
Pre-activations of a convolution are (chain, channel, point · position), the position running
fastest: a direction over them is a vector over all positions of all points.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import conv2d
from torch.nn.grad import conv2d_input, conv2d_weight

from workers.networks.activations import Activation
from workers.networks.networks import Layer, Layered, readout_shape, room, spans

Head = Literal["flatten", "average"]
WINDOW = 9  # positions that a 3 x 3 filter sees
LARGER = 4  # than the cache: what a convolution prepares pays off on so many more elements


@dataclass(frozen=True)
class PatchNetwork(Layered):
    """Filters on patches that do not overlap, and dense layers above; see `patch_network`.

    A point is x = (x_1, ..., x_P), its patches one after another. The channels of all patches are
    read in the order (channel, patch), the patch running fastest.
    """

    patches: int
    patch_size: int

    @property
    def positions(self) -> tuple[int, ...]:
        """The patches, then one for a dense layer."""
        return (self.patches, *[1] * (self.depth - 1))

    def pre_activations(self, parameters: Tensor, x: Tensor) -> list[Tensor]:
        """w_c·x_i (chain, channel, point · patch), then (chain, width, point) of dense layers."""
        first, *dense = self._forward(parameters, self._columns(x))[0]
        by_patch = first.unflatten(1, (self.widths[0], self.patches))
        return [by_patch.transpose(2, 3).flatten(2), *dense]

    def _values(self, parameters: Tensor, x: Tensor) -> Tensor:
        return self._read(parameters, self._forward(parameters, self._columns(x))[1][-1]).mT

    def _add_loss_and_gradient(
        self, parameters: Tensor, x: Tensor, y: Tensor, loss: Tensor, gradient: Tensor
    ) -> None:
        """Add L and ∇L of these chains and points by backpropagation, with δ_l = ∂L/∂h_l."""
        columns = self._columns(x)
        fields, signals = self._forward(parameters, columns)
        residual = self._read(parameters, signals[-1]) - y.T
        loss.add_(residual.square().sum((1, 2)), alpha=0.5)
        filters, *dense, _ = self.layers
        delta = self._read_back(parameters, residual, fields[-1], signals[-1], gradient)
        below = list(zip(dense, fields, signals, strict=False))  # what each dense layer reads
        for weight, field, signal in reversed(below):
            weight.of(gradient).baddbmm_(delta, signal.mT)
            delta = torch.bmm(weight.of(parameters).mT, delta)
            delta.mul_(self.activation.dphi(field))
        filters.of(gradient).add_(delta.view(len(delta), self.widths[0], -1) @ columns.T)

    def _columns(self, x: Tensor) -> Tensor:
        """Patches as columns, (patch_size, patch · point), the point running fastest."""
        return x.unflatten(1, (self.patches, self.patch_size)).permute(2, 1, 0).flatten(1)

    def _forward(self, parameters: Tensor, columns: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """h and φ(h) of each hidden layer, (chain, channel · patch or width, point)."""
        filters, *dense, _ = self.layers
        field = filters.of(parameters) @ columns  # of all chains at once
        rows = self.widths[0] * self.patches
        fields = [field.view(len(parameters), rows, -1)]
        signals = [self.activation.phi(fields[0])]
        for weight in dense:
            fields.append(torch.bmm(weight.of(parameters), signals[-1]))
            signals.append(self.activation.phi(fields[-1]))
        return fields, signals

    def _chunks(self, parameters: Tensor, x: Tensor) -> Iterator[tuple[slice, slice]]:
        widest = max(self.widths[0] * self.patches, *self.widths)
        return _chunks(parameters, len(x), room(parameters) // widest, self.patches)


@dataclass(frozen=True)
class ConvolutionalNetwork(Layered):
    """3 x 3 convolutions of images, with pooling between them; see `myrtle`.

    A point is an image (channels, height, width), given flat. A layer is one grouped convolution,
    the chains being the groups.
    """

    image: tuple[int, int, int]
    pool_after: frozenset[int]
    head: Head

    @property
    def positions(self) -> tuple[int, ...]:
        """Height times width of each layer."""
        sides = _sides(self.image[1:], self.depth, self.pool_after)[:-1]
        return tuple(h * w for h, w in sides)

    @property
    def centres(self) -> list[slice]:
        """Of (point · position) of each layer, the position (height // 2, width // 2) alone."""
        sides = _sides(self.image[1:], self.depth, self.pool_after)[:-1]
        return [slice(h // 2 * w + w // 2, None, h * w) for h, w in sides]

    def pre_activations(self, parameters: Tensor, x: Tensor) -> list[Tensor]:
        """h of each convolution, (chain, channel, point · position), positions row by row."""
        fields, _ = self._forward(parameters, x)
        by_chain = (field.unflatten(1, (len(parameters), -1)) for field in fields)
        return [field.permute(1, 2, 0, 3, 4).flatten(2) for field in by_chain]

    def _values(self, parameters: Tensor, x: Tensor) -> Tensor:
        signal = self._forward(parameters, x)[1][-1]
        return self._read(parameters, self._features(signal, len(parameters))).mT

    def _add_loss_and_gradient(
        self, parameters: Tensor, x: Tensor, y: Tensor, loss: Tensor, gradient: Tensor
    ) -> None:
        """Add L and ∇L of these chains and points by backpropagation, with δ_l = ∂L/∂h_l."""
        fields, signals = self._forward(parameters, x)
        features = self._features(signals[-1], len(parameters))
        residual = self._read(parameters, features) - y.T
        loss.add_(residual.square().sum((1, 2)), alpha=0.5)
        self._readout(gradient).baddbmm_(residual, features.mT)
        back = torch.bmm(self._readout(parameters).mT, residual)
        above = self._unread(back, signals[-1])  # ∂L/∂ of what each layer hands on
        for level in range(self.depth, 0, -1):
            delta = self.activation.dphi(fields[level - 1])
            if level in self.pool_after:
                squares = delta.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
                squares.mul_(above[:, :, :, None, :, None] / 4)
            else:
                delta.mul_(above)
            weight, below = self.layers[level - 1], signals[level - 1]
            filters, groups = weight.of(parameters).flatten(0, 1), self._groups(level, parameters)
            slope = conv2d_weight(below, list(filters.shape), delta, padding=1, groups=groups)
            weight.of(gradient).add_(slope.unflatten(0, (len(parameters), -1)))
            if level > 1:
                above = conv2d_input(list(below.shape), filters, delta, padding=1, groups=groups)

    def _forward(self, parameters: Tensor, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """h of each layer; the images and what each hands on: (point, chain · channel, h, w)."""
        fields, signals = [], [x.unflatten(1, self.image)]
        for level in range(1, self.depth + 1):
            filters = self.layers[level - 1].of(parameters).flatten(0, 1)
            groups = self._groups(level, parameters)
            fields.append(conv2d(signals[-1], filters, padding=1, groups=groups))
            signal = self.activation.phi(fields[-1])
            signals.append(_pooled(signal) if level in self.pool_after else signal)
        return fields, signals

    def _groups(self, level: int, parameters: Tensor) -> int:
        """The chains, but all of them see the same images."""
        return 1 if level == 1 else len(parameters)

    def _features(self, signal: Tensor, chains: int) -> Tensor:
        """What the readout reads, (chain, feature, point)."""
        read = signal.mean((2, 3)) if self.head == "average" else signal
        return read.unflatten(1, (chains, -1)).flatten(2).permute(1, 2, 0)

    def _unread(self, back: Tensor, signal: Tensor) -> Tensor:
        """∂L/∂ signal from that of the features."""
        by_point = back.permute(2, 0, 1)
        if self.head == "flatten":
            return by_point.reshape(signal.shape)
        return (by_point / signal[0, 0].numel()).flatten(1)[:, :, None, None]

    def _chunks(self, parameters: Tensor, x: Tensor) -> Iterator[tuple[slice, slice]]:
        sides = _sides(self.image[1:], self.depth, self.pool_after)
        areas = [channels * h * w for channels, (h, w) in zip(self.widths, sides, strict=False)]
        most = LARGER * room(parameters) // max(areas)
        return _chunks(parameters, len(x), most, math.prod(self.image[1:]))


def patch_network(
    patches: int,
    patch_size: int,
    channels: int,
    activation: Activation,
    *,
    weight_variance: Sequence[float],
    chi: float,
    targets: int = 1,
) -> PatchNetwork:
    """f(x) = Σ_i Σ_c a_ic φ(w_c·x_i) over patches x_i: one convolution whose stride is its size.

    `weight_variance` is (σ_w², σ_a²): w_c ~ N(0, σ_w²/patch_size), a_ic ~ N(0, σ_a²/(P C χ)) for
    P patches and C channels. χ = 1 is standard scaling, χ up to C is mean field.
    """
    widths = (channels,)
    return _patch_network(patches, patch_size, widths, activation, weight_variance, chi, targets)


def three_layer_convolution(
    patches: int,
    patch_size: int,
    channels: int,
    width: int,
    activation: Activation,
    *,
    weight_variance: Sequence[float],
    chi: float,
    targets: int = 1,
) -> PatchNetwork:
    """f(x) = Σ_j a_j φ(h_j), h_j = Σ_i Σ_c W_jci φ(w_c·x_i): a dense layer on all patches.

    `weight_variance` is (σ_w², σ_1², σ_a²): w_c ~ N(0, σ_w²/patch_size), W_jci ~ N(0, σ_1²/(P C)),
    a_j ~ N(0, σ_a²/(width χ)). The dense layer has a weight of its own for each patch.
    """
    widths = (channels, width)
    return _patch_network(patches, patch_size, widths, activation, weight_variance, chi, targets)


def myrtle(
    image: tuple[int, int, int],
    channels: Sequence[int],
    activation: Activation,
    *,
    pool_after: Collection[int],
    head: Head,
    weight_variance: Sequence[float],
    chi: float,
    targets: int = 1,
) -> ConvolutionalNetwork:
    """len(channels) convolutions 3 x 3 of stride 1 with zero padding, φ after each; a readout.

    Layers in `pool_after`, counted from 1, are followed by the average over squares of 2 x 2.
    Above the last one the readout is linear in all its channels at all positions ("flatten"), or
    in the average of each channel over the positions ("average"). Weights of a convolution are
    N(0, σ_l²/(9 channels_{l-1})), of the readout N(0, σ_a²/(F χ)) with F numbers to read. Myrtle-5
    of Shankar et al. (2020, arXiv:2003.02237) has relu, channels [C] * 4, pools after 2 and 3, and
    the average.
    """
    depth, pools = len(channels), frozenset(pool_after)
    _check_variances(weight_variance, depth)
    if not pools <= set(range(1, depth + 1)):
        raise ValueError(
            f"pool_after is {sorted(pools)} for {depth} convolutions; count them from 1 to {depth}"
        )
    if head not in ("flatten", "average"):
        raise ValueError(f"head is {head!r}; take 'flatten' or 'average'")
    height, width = _sides(image[1:], depth, pools)[-1]
    positions = 1 if head == "average" else height * width
    inputs = (image[0], *channels)
    shapes = [(out, fan, 3, 3) for fan, out in zip(inputs, channels, strict=False)]
    fans = [WINDOW * fan for fan in inputs[:-1]]
    read = readout_shape(targets, channels[-1] * positions)
    layers = _layout([*shapes, read], fans, weight_variance, chi)
    return ConvolutionalNetwork(tuple(channels), activation, layers, image, pools, head)


def _patch_network(
    patches: int,
    patch_size: int,
    widths: tuple[int, ...],
    activation: Activation,
    weight_variance: Sequence[float],
    chi: float,
    targets: int,
) -> PatchNetwork:
    _check_variances(weight_variance, len(widths))
    read = (widths[0] * patches, *widths[1:])  # how many numbers each layer hands on
    fans = (patch_size, *read[:-1])
    shapes = [(width, fan) for width, fan in zip(widths, fans, strict=True)]
    readout = readout_shape(targets, read[-1])
    layers = _layout([*shapes, readout], fans, weight_variance, chi)
    return PatchNetwork(widths, activation, layers, patches, patch_size)


def _layout(
    shapes: Sequence[tuple[int, ...]],
    fans: Sequence[int],
    weight_variance: Sequence[float],
    chi: float,
) -> tuple[Layer, ...]:
    """weight_1, ..., readout one after another, with variances σ²/fan_in; χ divides the last."""
    names = [*(f"weight_{level}" for level in range(1, len(shapes))), "readout"]
    layers, start = [], 0
    for name, shape, fan, variance in zip(
        names, shapes, (*fans, shapes[-1][-1] * chi), weight_variance, strict=True
    ):
        stop = start + math.prod(shape)
        layers.append(Layer(name, start, stop, shape, math.sqrt(variance / fan)))
        start = stop
    return tuple(layers)


def _check_variances(weight_variance: Sequence[float], depth: int) -> None:
    if len(weight_variance) != depth + 1:
        raise ValueError(
            f"weight_variance has {len(weight_variance)} entries for {depth} hidden layers; "
            f"give {depth + 1}, one per layer and the readout's last"
        )


def _sides(
    image: tuple[int, int], depth: int, pool_after: Collection[int]
) -> list[tuple[int, int]]:
    """Height and width at the convolutions, and above the last one."""
    height, width = image
    sides = [(height, width)]
    for level in range(1, depth + 1):
        if level in pool_after:
            if height % 2 or width % 2:
                raise ValueError(
                    f"layer {level} has {height} x {width} positions, which squares of 2 x 2 do "
                    "not tile; pool after fewer layers, or pad the images"
                )
            height, width = height // 2, width // 2
        sides.append((height, width))
    return sides


def _pooled(signal: Tensor) -> Tensor:
    """Averages over squares of 2 x 2."""
    rows = signal[..., 0::2, :] + signal[..., 1::2, :]
    return (rows[..., 0::2] + rows[..., 1::2]).div_(4)


def _chunks(
    parameters: Tensor, points: int, most: int, positions: int
) -> Iterator[tuple[slice, slice]]:
    """Parts of at most so many of (chain, point), of one where that is less.

    A part has at least 32 positions, so that products of matrices stay efficient.
    """
    for chains in spans(len(parameters), most // max(1, points)):
        for part in spans(points, max(-(-32 // positions), most)):
            yield chains, part
