"""The numbers of each source: one record, under the name of its section in `storage.campaign`.

A record takes the settings of its source, any object that has them as attributes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from storage.campaign.data_spec import Cifar10, Digits, ImageClasses, Mnist, Npz
from storage.campaign.synthetic_spec import (
    AbsIndex,
    Linear,
    MultiIndex,
    Patches,
    PowerLaw,
    SingleIndex,
    TeacherNetwork,
)
from workers.data import npz, synthetic
from workers.data.collection import Collection, Images, binary, one_output_each
from workers.data.files import place, sha256, sha256_of
from workers.data.images import cifar, digits, mnist
from workers.data.synthetic import Law

Generator = np.random.Generator


@dataclass(frozen=True)
class Synthetic:
    """A source of as many points as are asked for."""

    law: Callable[..., Law]  # of the settings, and a generator
    inputs: Callable[..., int] = lambda data: data.dimension  # length of a point
    teacher: Callable[..., int] = lambda data: 2 * data.dimension  # numbers that are the target


@dataclass(frozen=True)
class Finite:
    """A source of the points that there are."""

    load: Callable[..., Collection]
    files: Callable[..., dict[str, str]] = lambda data: {}  # sha256 of each, by its name
    reserved: Callable[..., int] | None = None  # points for testing alone, where a file has such
    bytes: bool = False  # whether coordinates are bytes, none of which can be wrong


# -- synthetic --------------------------------------------------------------------------------


def _single_index(data: SingleIndex, generator: Generator) -> Law:
    return synthetic.single_index(data.dimension, data.teacher, data.basis, generator)


def _multi_index(data: MultiIndex, generator: Generator) -> Law:
    return synthetic.multi_index(data.dimension, data.teacher, generator)


def _abs_index(data: AbsIndex, generator: Generator) -> Law:
    return synthetic.abs_index(data.dimension, data.epsilon, generator)


def _linear(data: Linear, generator: Generator) -> Law:
    return synthetic.linear(data.dimension, generator)


def _patches(data: Patches, generator: Generator) -> Law:
    return synthetic.patches(data.patches, data.patch_size, data.teacher, data.readout, generator)


def _teacher_network(data: TeacherNetwork, generator: Generator) -> Law:
    from workers.data.teacher_network import teacher_network  # needs torch

    widths, variances = [data.width] * data.depth, data.weight_variance
    return teacher_network(
        data.dimension, data.patches, widths, data.activation, variances, generator
    )


def _power_law(data: PowerLaw, generator: Generator) -> Law:
    exponents = data.eigenvalue_exponent, data.target_exponent
    return synthetic.power_law(data.modes, *exponents, generator)


def _weights(data: TeacherNetwork) -> int:
    seen = data.dimension // (data.patches or 1)
    return data.width * seen + (data.depth - 1) * data.width**2


def _in_patches(data: Patches) -> int:
    return data.patches * data.patch_size


# -- files ------------------------------------------------------------------------------------


def _npz(data: Npz) -> Collection:
    return npz.load(data.file, data.outputs)


def _npz_file(data: Npz) -> dict[str, str]:
    return {"npz": sha256_of(place(data.file))}


def _in_classes(images: Images, data: ImageClasses) -> Collection:
    if data.classes is None:
        return binary(images, data.positive or (), data.negative or ())
    return one_output_each(images, data.classes, np.array(data.class_targets))


def _digits(data: Digits) -> Collection:
    return _in_classes(digits.load(), data)


def _mnist(data: Mnist) -> Collection:
    return _in_classes(mnist.load(data.folder, data.subset), data)


def _mnist_files(data: Mnist) -> dict[str, str]:
    """Files count by what is in them, so that packing them changes nothing."""
    paths = mnist.files(data.folder, data.subset)
    return {name: sha256(mnist.content(name, path)) for name, path in paths.items()}


def _cifar(data: Cifar10) -> Collection:
    return _in_classes(cifar.load(data.folder, data.subset), data)


def _cifar_files(data: Cifar10) -> dict[str, str]:
    paths = cifar.files(data.folder, data.subset)
    return {name: sha256(cifar.content(path)) for name, path in paths.items()}


SOURCES: dict[str, Synthetic | Finite] = {
    "single_index": Synthetic(_single_index),
    "multi_index": Synthetic(_multi_index, teacher=lambda data: data.directions * data.dimension),
    "abs_index": Synthetic(_abs_index),
    "linear": Synthetic(_linear),
    "patches": Synthetic(_patches, _in_patches, lambda data: 2 * _in_patches(data)),
    "teacher_network": Synthetic(_teacher_network, teacher=_weights),
    "power_law": Synthetic(_power_law, lambda data: data.modes, lambda data: 2 * data.modes),
    "digits": Finite(_digits, bytes=True),
    "mnist": Finite(_mnist, _mnist_files, bytes=True),
    "cifar10": Finite(_cifar, _cifar_files, bytes=True),
    "npz": Finite(_npz, _npz_file, lambda data: npz.test_points(data.file)),
}
