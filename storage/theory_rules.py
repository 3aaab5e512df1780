"""Which theories hold for which campaigns: what is wrong with a choice, each in one line."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from storage.data_spec import DataSpec, number_of_outputs
from storage.messages import short, word
from storage.network_spec import Network
from storage.regression_spec import DECIMATED_THEORIES, QUARTIC_THEORY, REGRESSION_THEORIES
from storage.synthetic_spec import AbsIndex, Linear, Patches, SingleIndex
from storage.theory_spec import ADAPTIVE_THEORIES, AVERAGED_THEORIES, ENSEMBLE_THEORIES

ODD = ("linear", "erf", "sin", "tanh")  # activations
INDEX_ACTIVATIONS = ("erf", "relu", "linear")  # whose overlaps with polynomials are known


@dataclass(frozen=True)
class Measured:
    """What a campaign measures, of which networks on which data."""

    data: DataSpec
    network: Network | None
    ensemble: bool
    regression: bool
    quartic: bool  # whether the regression has a quartic loss, too


def theory_problems(theories: Sequence[str], measured: Measured) -> Iterator[str]:
    """Theories that the campaign cannot hold against what it measures."""
    data, network = measured.data, measured.network
    for theory in theories:
        if theory in ENSEMBLE_THEORIES and not measured.ensemble:
            yield f"theories: {theory} predicts an ensemble; add ensemble, or leave {theory} out"
        if theory in REGRESSION_THEORIES and not measured.regression:
            yield f"theories: {theory} predicts a regression; add one, or leave it out"
        elif theory == QUARTIC_THEORY and not measured.quartic:
            yield "theories: quartic needs a section regression.quartic; add it, or leave it out"
        if theory in (*DECIMATED_THEORIES, QUARTIC_THEORY) and number_of_outputs(data) > 1:
            yield f"theories: {theory} is built for one output; leave it out"
        if network is not None:
            yield from _network_problems(theory, data, network)
    if len(set(theories)) < len(theories):
        yield "theories names a theory twice"


def _network_problems(theory: str, data: DataSpec, network: Network) -> Iterator[str]:
    if theory in ADAPTIVE_THEORIES:
        yield from _adaptive_problems(theory, data, network)
    elif theory in AVERAGED_THEORIES:
        yield from _averaged_problems(theory, data, network)
    elif theory == "kernel_scaling":
        yield from _kernel_scaling_problems(data, network)
    elif theory == "scale_mixture":
        yield from _scale_mixture_problems(data, network)


def _kernel_scaling_problems(data: DataSpec, network: Network) -> Iterator[str]:
    outputs = number_of_outputs(data)
    linear = network.activation == "linear" and not any(network.biases)
    odd = network.activation in ODD and network.depth == 1
    if outputs > 1 and not (odd or linear):
        yield (
            f"theories: kernel_scaling of {outputs} outputs is known for odd activations in one "
            f"hidden layer, and for linear ones without bias; found {word(network.activation)} at "
            f"depth {network.depth}; leave it out"
        )


def _adaptive_problems(theory: str, data: DataSpec, network: Network) -> Iterator[str]:
    wanted = 2 if theory == "equations_of_state" else 1
    outputs = number_of_outputs(data)
    found = {
        f"architecture {word(network.architecture)}": network.architecture != "fcn",
        f"depth {network.depth}": network.depth != wanted,
        f"{outputs} outputs": outputs > 1,
    }
    for setting, unknown in found.items():
        if unknown:
            yield (
                f"theories: {theory} is of fcn at depth {wanted} with one output; found "
                f"{setting}; leave it out"
            )


def _scale_mixture_problems(data: DataSpec, network: Network) -> Iterator[str]:
    found = {
        f"activation {word(network.activation)}": network.activation != "linear",
        f"architecture {word(network.architecture)}": network.architecture != "fcn",
        f"depth {network.depth}": network.depth > 1,
        f"bias_variance {short(network.bias_variance)}": any(network.biases),
        f"{number_of_outputs(data)} outputs": number_of_outputs(data) > 1,
    }
    for setting, unknown in found.items():
        if unknown:
            yield (
                "theories: scale_mixture is exact for a linear fcn with one hidden layer, no bias "
                f"and one output; found {setting}; leave it out"
            )


def _averaged_problems(theory: str, data: DataSpec, network: Network) -> Iterator[str]:
    """Single-index problems: Gaussian inputs, a target of one direction, one hidden layer."""
    if not isinstance(data, SingleIndex | AbsIndex | Linear | Patches):
        yield (
            f"theories: {theory} averages over data with one direction, of the sources "
            f"single_index, abs_index, linear and patches; found {word(data.source)}; leave it out"
        )
        return
    wanted = "cnn" if isinstance(data, Patches) else "fcn"
    odd = network.activation in ("erf", "linear")
    even = isinstance(data, AbsIndex) or any(k % 2 == 0 for k in getattr(data, "teacher", ()))
    found = {
        "inputs sphere": getattr(data, "inputs", "gaussian") != "gaussian",
        "basis monomial": getattr(data, "basis", "hermite") != "hermite",
        "points that are normalized": data.normalize is not None,
        f"architecture {word(network.architecture)}": network.architecture != wanted,
        f"depth {network.depth}": network.depth > 1,
        f"activation {word(network.activation)}": network.activation not in INDEX_ACTIVATIONS,
        f"bias_variance {short(network.bias_variance)}": any(network.biases),
        "one input": getattr(data, "dimension", getattr(data, "patch_size", 2)) < 2,
    }
    if wanted == "cnn":
        found["activation relu on patches"] = network.activation == "relu"
    if theory == "gmfl":
        found[f"activation {word(network.activation)}, not erf"] = network.activation != "erf"
        found["an even part of the target"] = odd and even
    for setting, unknown in found.items():
        if unknown:
            yield (
                f"theories: {theory} is of Gaussian inputs, Hermite polynomials of one direction "
                f"and {wanted} with one hidden layer, no bias; found {setting}; leave it out"
            )
