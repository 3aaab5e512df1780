"""A campaign in words: what was sampled, on what, how, and what it is compared with."""

from collections.abc import Sequence

from pipelines.analysis.convergence import LARGEST_R_HAT, SMALLEST_ESS
from pipelines.report.sentences.data_prose import data, source_sentence
from pipelines.report.sentences.sampling_prose import PRECISIONS, sampling
from pipelines.report.theory_names import in_words
from pipelines.report.words import (
    counted,
    listed,
    number,
    setting,
    sweep_sentence,
    swept,
    value,
)
from storage.arrays.coordinates import physical_temperature
from storage.arrays.schema import BIN_RANGE, BINS, ORDERS, direction_names
from storage.campaign.network_spec import Kernel
from storage.campaign.regression_spec import CUTOFF_THEORIES
from storage.campaign.resolved import Regressed, Sampled, regressed, sampled
from storage.campaign.spec import PROBES, Campaign, Regression, has_overlaps, is_trajectory
from storage.campaign.theories import record
from storage.planning.sweep import grid, resolve


def abstract(spec: Campaign) -> str:
    """One paragraph for the top of a report; `methods` has what it leaves out."""
    parts = [source_sentence(spec.data, spec)]
    if spec.ensemble is not None:
        parts += [network(sampled(spec)), ensemble(sampled(spec))]
    if spec.regression is not None:
        parts.append(_regression_in_short(regressed(spec)))
    parts.append(sweep_sentence(spec))
    if spec.theories:
        named = listed(map(in_words, spec.theories))
        parts.append(f"The measurements are compared with {named}.")
    return " ".join(filter(None, parts))


def methods(spec: Campaign) -> dict[str, str]:
    """Paragraphs by title, with every constant that the numbers depend on."""
    paragraphs = {"Data": data(spec)}
    if spec.ensemble is not None:
        known = sampled(spec)
        paragraphs["Networks"] = network(known)
        paragraphs["Sampling"] = f"{ensemble(known)} {sampling(known)}"
        paragraphs["Observables"] = observables(known)
    if spec.regression is not None:
        paragraphs["Regression"] = regression(regressed(spec))
    if spec.sweep:
        paragraphs["Sweep"] = sweep_sentence(spec)
    if spec.theories:
        paragraphs["Theories"] = theories(spec)
    paragraphs["Statistics"] = statistics(spec)
    return paragraphs


def physical_temperatures(spec: Sampled) -> str:
    """T of the posterior, for all cells of the sweep: `0.125`, `0.1 and 0.2`, `0.01 to 10`."""
    found = sorted({physical_temperature(resolve(spec, point)) for point in grid(spec)})
    if len(found) > 4:
        return f"{number(found[0])} to {number(found[-1])}"
    return listed(number(temperature) for temperature in found)


# -- networks and sampling ------------------------------------------------------------------


def network(spec: Sampled) -> str:
    """Architecture, prior and scaling, with the physical numbers beside those of the spec."""
    found = spec.network
    depth = value(spec, "network.depth")
    layers = counted(found.depth, "hidden layer") if depth.isdigit() else f"{depth} hidden layers"
    each = " each" if layers != counted(1, "hidden layer") else ""
    unit = "channels or neurons" if found.architecture == "cnn" else "neurons"
    text = (
        f"Networks were {_kind(spec)}, with {layers} of {value(spec, 'network.width')} {unit}"
        f"{each} and "
        f"{value(spec, 'network.activation')} activation. Weights had "
        f"{'Gaussian' if found.prior == 'gaussian' else 'uniform'} priors of variance "
        f"σ²/fan-in, {_variances(spec, found)}."
    )
    if found.scaling == "mean_field":
        text += (
            " In mean-field scaling the readout variance and the temperature are divided by "
            f"{setting(spec, 'network.chi')}"
        )
        if not {"network.chi", "network.weight_variance"} & set(swept(spec)):
            text += (
                f": the physical readout variance was {number(found.physical_weight_variance[-1])}"
            )
        text += "."
    return text


def _kind(spec: Sampled) -> str:
    """The architecture in words."""
    found = spec.network
    if found.architecture == "fcn":
        return "fully connected"
    if found.architecture != "cnn":
        return f"made by {found.architecture}"
    if found.image is None:
        patches = value(spec, "network.patches")
        return f"convolutional, with filters on {patches} patches that do not overlap"
    pools = ""
    if found.pool_after:
        layers = f"layer{'s' * (len(found.pool_after) > 1)} {listed(found.pool_after)}"
        pools = f", averages over 2 × 2 after {layers}"
    channels, height, width = found.image
    return (
        f"convolutional, with 3 × 3 filters on images of {channels} × {height} × {width}{pools} "
        f"and a readout of {'the average' if found.head == 'average' else 'all positions'}"
    )


def _variances(spec: Campaign, kernel: Kernel) -> str:
    if "network.weight_variance" in swept(spec):
        variances = "with σ² as the sweep sets it"
    else:
        variances = _of_weights(spec, kernel)
    bias = "network.bias_variance"
    if bias not in swept(spec) and isinstance(kernel.bias_variance, tuple):
        each = listed(_of_layers(spec, bias, kernel.bias_variance))
        return f"{variances}; biases had variance {each} in the hidden layers"
    if kernel.bias_variance or bias in swept(spec):
        return f"{variances}; biases had variance {value(spec, bias)}"
    return f"{variances}, and there were no biases"


def _of_weights(spec: Campaign, kernel: Kernel) -> str:
    if not isinstance(kernel.weight_variance, tuple):
        return f"σ² = {value(spec, 'network.weight_variance')} in all layers"
    *hidden, readout = _of_layers(spec, "network.weight_variance", kernel.weights)
    layers = f"layer{'s' * (len(hidden) > 1)}"
    return f"σ² = {listed(hidden)} in the hidden {layers} and {readout} in the readout"


def _of_layers(spec: Campaign, path: str, variances: Sequence[float]) -> list[str]:
    """The value of each layer, or its letter where the sweep sets it."""
    return [value(spec, f"{path}.{layer}") for layer in range(len(variances))]


def ensemble(spec: Sampled) -> str:
    """What distribution was sampled, at which physical temperature, by how many chains."""
    chains = (
        f"{counted(spec.ensemble.chains, 'independent chain')} for each of "
        f"{counted(spec.ensemble.datasets, 'independent dataset')}"
    )
    if spec.ensemble.datasets == 1:
        chains = f"{counted(spec.ensemble.chains, 'independent chain')} on one dataset"
    if spec.sampler.record.law == "prior":
        return f"The prior itself was sampled, by {chains}."
    if is_trajectory(spec):
        return f"Networks were followed in time, by {chains}."
    before = ""
    mean_field = spec.network.scaling == "mean_field"
    if mean_field and "sampler.temperature" not in swept(spec):
        before = f" ({value(spec, 'sampler.temperature')} before the division by χ)"
    return (
        f"The prior times exp(−L/T), L = ½ Σ (f(x) − y)² over {value(spec, 'data.train')} training "
        "points, was sampled at the physical temperature "
        f"T = {physical_temperatures(spec)}{before} by {chains}."
    )


def observables(spec: Sampled) -> str:
    """What every draw measured, and in which number formats it is stored."""
    points = min(spec.observe.points, spec.data.test_points, PROBES)
    parts = spec.data.components
    learned = "the target" if parts == ("target",) else listed(parts)
    text = (
        "Every draw measured the loss, the squared norm of the readout, the learnability of "
        f"{learned} (coefficients of the joint regression of the output on the parts of the "
        f"target, over the test points) and the output at {points} probe points, the first of the "
        "test points."
    )
    if spec.observe.histograms:
        centre = " at the centre of each layer's grid" if spec.network.image else ""
        text += (
            f" Pre-activations{centre} along {listed(direction_names(spec))} unit vectors over the "
            f"probe points, in units of their prior standard deviation, were counted in {BINS} "
            f"bins over ±{BIN_RANGE:g}, with raw moments up to order {ORDERS - 1}."
        )
    if spec.observe.correlators:
        text += " The kernel of each layer was stored in every draw at the first two probe points."
    if spec.observe.kernels:
        text += " Kernels σ²·φφ'/N of each layer were averaged over draws and chains of a block."
    if has_overlaps(spec) and spec.observe.overlaps:
        text += " Overlaps w·w* of first-layer neurons were counted jointly with their readouts."
    if spec.observe.lags:
        lags = listed(spec.observe.lags)
        text += f" Kernels between two times were averaged at lags of {lags} draws."
    if spec.observe.measure:
        text += f" Further observables were {listed(spec.observe.measure)}."
    return f"{text} Scalars and moments are stored as float64, outputs and kernels as float32."


# -- regression, theories, statistics -------------------------------------------------------


def regression(spec: Regressed) -> str:
    """Kernel, sizes, ridges and repeats of the Gaussian process."""
    found = spec.regression
    drawn = found.sampling.removesuffix("_replacement") + " replacement"
    where = {"pool": "over the whole pool", "heldout": "at held-out points"}
    return (
        f"Gaussian-process regression used {_kernel(spec)} on nested training sets of "
        f"{listed(found.train)} points drawn {drawn} from a pool of {found.pool}, with "
        f"{_ridges(spec)} and {counted(found.repeats, 'repeat')} (seed {found.seed}), in "
        f"{PRECISIONS[found.precision]}; errors were taken "
        f"{listed(where[place] for place in found.evaluate)}.{_quartic(found)}"
    )


def _quartic(found: Regression) -> str:
    if (asked := found.quartic) is None:
        return ""
    return (
        f" With u h⁴ added to the squares h² of the loss, u = "
        f"{listed(number(u) for u in asked.couplings)}, outputs were sampled by Hamiltonian Monte "
        "Carlo (Duane, Kennedy, Pendleton and Roweth 1987), from draws of the Gaussian posterior "
        f"with the renormalized ridge on: {counted(asked.chains, 'chain')} of "
        f"{counted(asked.draws, 'path')}, after {counted(asked.warmup, 'path')} that find the step."
    )


def _regression_in_short(spec: Regressed) -> str:
    sizes = spec.regression.train
    return (
        f"Gaussian-process regression with {_kernel(spec)} covered {min(sizes)} to {max(sizes)} "
        f"points of a pool of {spec.regression.pool} with {_ridges(spec)}."
    )


def _ridges(spec: Regressed) -> str:
    ridges = spec.regression.ridges
    return f"ridge{'s' if len(ridges) > 1 else ''} T = {listed(number(r) for r in ridges)}"


def _kernel(spec: Regressed) -> str:
    if spec.regression.kernel is None:
        return "the NNGP kernel of the network"
    kernel = spec.kernel
    variances = listed(number(v) for v in kernel.physical_weight_variance)
    return (
        f"the NNGP kernel of {counted(kernel.depth, 'hidden layer')} with {kernel.activation} "
        f"activation, physical weight variances {variances} and bias variance "
        f"{number(kernel.bias_variance)},"
    )


def theories(spec: Campaign) -> str:
    """The theories that are held against the measurement."""
    if not spec.theories:
        return ""
    *rest, last = [f"with {record(theory).meaning or in_words(theory)}" for theory in spec.theories]
    together = f"{'; '.join(rest)}; and {last}" if rest else last
    text = f"The measurements are compared {together}."
    if any(theory in CUTOFF_THEORIES for theory in spec.theories):
        text += f" {_cutoff(spec)}"
    return text


def _cutoff(spec: Campaign) -> str:
    if isinstance(spec.cutoff, int):
        return f"Decimation kept the {spec.cutoff} leading modes of the kernel."
    return (
        "Decimation kept the modes whose learnability, with the effective ridge, is at least "
        f"{number(spec.cutoff)}."
    )


def statistics(spec: Campaign) -> str:
    """Where error bars come from, and when an ensemble is compared at all."""
    sentences = []
    if is_trajectory(spec):
        sentences.append("Error bars are standard errors over independent pairs of networks.")
    elif spec.ensemble is not None:
        sentences.append(
            "Error bars of ensemble averages are standard errors over independent chains of a "
            "dataset. A dataset is compared with theories only if the rank-normalized split R-hat "
            f"(Vehtari et al. 2021) of every monitored quantity is below {LARGEST_R_HAT:g} and its "
            f"bulk and tail effective sample sizes are at least {SMALLEST_ESS} for each chain."
        )
    if spec.regression is not None:
        sentences.append("Error bars of learning curves are standard errors over repeats.")
    return " ".join(sentences)
