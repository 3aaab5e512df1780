"""What theories need of a cell: each condition says what is found and what is wanted, or None."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from storage.campaign import activations
from storage.campaign.data_spec import SOURCES
from storage.campaign.messages import short, word
from storage.campaign.network_spec import Network

if TYPE_CHECKING:  # its theories are named by those who ask for these conditions
    from storage.campaign.resolved import Sampled

Condition = Callable[["Sampled"], str | None]  # `depth 2, wanted 1`; None where it holds


def architecture(*wanted: str) -> Condition:
    """The architecture is one of these."""
    return lambda cell: _one_of("architecture", cell.network.architecture, wanted)


def activation(*wanted: str) -> Condition:
    """The activation is one of these."""
    return lambda cell: _one_of("activation", cell.network.activation, wanted)


def depth(wanted: int) -> Condition:
    """The network has so many hidden layers."""

    def condition(cell: "Sampled") -> str | None:
        found = cell.network.depth
        return None if found == wanted else f"depth {found}, wanted {wanted}"

    return condition


def one_output(cell: "Sampled") -> str | None:
    """The network has one output."""
    outputs = cell.data.number_of_outputs
    return None if outputs == 1 else f"{outputs} outputs, wanted 1"


def without_bias(cell: "Sampled") -> str | None:
    """No layer has a bias."""
    network = cell.network
    found = f"bias_variance {short(network.bias_variance)}, wanted 0"
    return found if any(network.biases) else None


def outputs_that_scale(cell: "Sampled") -> str | None:
    """Several outputs share one matrix of scales where a number would multiply the kernel."""
    outputs, network = cell.data.number_of_outputs, cell.network
    if outputs == 1 or _is_multiplied(network):
        return None
    return (
        f"{outputs} outputs with activation {word(network.activation)} at depth {network.depth}, "
        "wanted 1, or an odd activation at depth 1, or linear layers without bias"
    )


def wide_enough_to_scale(cell: "Sampled") -> str | None:
    """The scales of several outputs, and of a mean, take more neurons than the equations have."""
    network = cell.network
    if cell.sampler.record.law == "prior":
        return None
    least = cell.data.number_of_outputs
    if least == 1 and network.depth == 1 and not _is_multiplied(network):
        least = 2
    return None if network.width >= least else f"width {network.width}, wanted at least {least}"


def _is_multiplied(network: Network) -> bool:
    """Whether the kernel of infinite width is rescaled as a whole."""
    linear = network.activation == "linear" and not any(network.biases)
    return linear or (activations.record(network.activation).odd and network.depth == 1)


def learned(cell: "Sampled") -> str | None:
    """The ensemble has learned from data."""
    prior = cell.sampler.record.law == "prior"
    return "scheme prior, wanted one that learns from data" if prior else None


def prior(cell: "Sampled") -> str | None:
    """No data have touched the ensemble."""
    found = cell.sampler.scheme
    return None if cell.sampler.record.law == "prior" else f"scheme {found}, wanted prior"


def without_times(cell: "Sampled") -> str | None:
    """The ensemble has a law."""
    return "scheme trajectory, wanted one that samples a law" if _in_time(cell) else None


def with_times(cell: "Sampled") -> str | None:
    """Networks are followed in time."""
    return None if _in_time(cell) else f"scheme {cell.sampler.scheme}, wanted trajectory"


def that_settles(cell: "Sampled") -> str | None:
    """Networks in time forget where they began."""
    flows = cell.sampler.dynamics == "gradient_flow"
    return "dynamics gradient_flow, wanted langevin" if flows else None


def gaussian_weights(cell: "Sampled") -> str | None:
    """Weights are Gaussian under the prior."""
    return _one_of("network.prior", cell.network.prior, ("gaussian",))


def one_direction(cell: "Sampled") -> str | None:
    """The target has one direction in the inputs."""
    wanted = tuple(name for name, section in SOURCES.items() if section.one_direction)
    return None if cell.data.one_direction else _one_of("data.source", cell.data.source, wanted)


def gaussian_inputs(cell: "Sampled") -> str | None:
    """Inputs are Gaussian."""
    return _one_of("data.inputs", getattr(cell.data, "inputs", "gaussian"), ("gaussian",))


def hermite_polynomials(cell: "Sampled") -> str | None:
    """The target is one of Hermite polynomials."""
    return _one_of("data.basis", getattr(cell.data, "basis", "hermite"), ("hermite",))


def points_as_drawn(cell: "Sampled") -> str | None:
    """Points are not normalized."""
    drawn = cell.data.normalize is None
    return None if drawn else "data.normalize, wanted points as they are drawn"


def architecture_of_the_data(cell: "Sampled") -> str | None:
    """Patches are seen by a convolution, all else is not."""
    wanted = "cnn" if cell.data.in_patches else "fcn"
    return _one_of("architecture", cell.network.architecture, (wanted,))


def odd_on_patches(cell: "Sampled") -> str | None:
    """On patches the activation is odd."""
    found = cell.network.activation
    if cell.data.in_patches and not activations.record(found).odd:
        return f"activation {word(found)} on patches, wanted erf or linear"
    return None


def two_inputs(cell: "Sampled") -> str | None:
    """There is a direction across the teacher."""
    inputs = cell.data.teacher_length
    setting = "patch_size" if cell.data.in_patches else "dimension"
    fits = inputs is None or inputs >= 2
    return None if fits else f"data.{setting} {inputs}, wanted at least 2"


def odd_target(cell: "Sampled") -> str | None:
    """The target has no even part."""
    if cell.data.even_part:
        return f"an even part of the target, data.source {cell.data.source}, wanted none"
    for order in getattr(cell.data, "teacher", {}):
        if order % 2 == 0:
            return f"an even part of the target, data.teacher.{order}, wanted none"
    return None


def _in_time(cell: "Sampled") -> bool:
    return cell.sampler.record.law == "in time"


def _one_of(key: str, found: str, wanted: tuple[str, ...]) -> str | None:
    *others, last = wanted
    names = f"{', '.join(others)} or {last}" if others else last
    return None if found in wanted else f"{key} {word(found)}, wanted {names}"
