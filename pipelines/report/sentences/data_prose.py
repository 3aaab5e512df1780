"""The data of a campaign in words."""

from collections.abc import Mapping, Sequence
from functools import singledispatch

from pipelines.report.words import (
    counted,
    listed,
    name_and_symbol,
    number,
    setting,
    swept,
    value,
)
from pipelines.text.rounding import SUPERSCRIPTS
from pipelines.text.settings import SUBSCRIPTS
from storage.campaign.data_spec import ImageClasses, Npz, PluginData
from storage.campaign.source_spec import Data, OwnTest
from storage.campaign.spec import Campaign
from storage.campaign.synthetic_spec import (
    AbsIndex,
    Isotropic,
    Linear,
    MultiIndex,
    Patches,
    PowerLaw,
    SingleIndex,
    TeacherNetwork,
)

INPUTS = {
    "gaussian": "standard normal",
    "sphere": "uniform on the sphere |x|² = d",
}
DRAWN = "unit vector w* drawn for each dataset"


def data(spec: Campaign) -> str:
    """The points, the target, their normalization and their numbers."""
    sentences = [source_sentence(spec.data, spec), _normalization(spec.data), _points(spec)]
    return " ".join(filter(None, sentences))


@singledispatch
def source_sentence(source: Data, spec: Campaign) -> str:
    """What the points and the targets are."""
    return f"Points and targets were made by {source.source}."


@source_sentence.register
def _(source: PluginData, spec: Campaign) -> str:
    settings = [f"{key} = {number(given)}" for key, given in source.settings.items()]
    given = f" with {listed(settings)}" if settings else ""
    return f"Points and targets were made by {source.source}{given}."


@source_sentence.register
def _(source: SingleIndex, spec: Campaign) -> str:
    function = "He{k}(w*·x)" if source.basis == "hermite" else "(w*·x){power}"
    target = _series(spec, source.teacher, "data.teacher", function)
    return f"The target was y = {target} with a {DRAWN}; {_inputs(source, spec)}."


@source_sentence.register
def _(source: MultiIndex, spec: Campaign) -> str:
    parts = [
        _series(spec, orders, f"data.teacher.{i}", f"He{{k}}(w{str(i).translate(SUBSCRIPTS)}*·x)")
        for i, orders in sorted(source.teacher.items())
    ]
    target = _sum(parts)
    vectors = counted(source.directions, "orthonormal direction")
    return (
        f"The target was y = {target} with {vectors} drawn for each dataset; "
        f"{_inputs(source, spec)}."
    )


@source_sentence.register
def _(source: AbsIndex, spec: Campaign) -> str:
    even = _term(spec, "data.epsilon", source.epsilon, "(|w*·x| − √(2/π))")
    target = _sum(["w*·x", even])
    return f"The target was y = {target} with a {DRAWN}; {_inputs(source, spec)}."


@source_sentence.register
def _(source: Linear, spec: Campaign) -> str:
    return f"The target was y = w*·x with a {DRAWN}; {_inputs(source, spec)}."


@source_sentence.register
def _(source: Patches, spec: Campaign) -> str:
    target = _series(spec, source.teacher, "data.teacher", "He{k}(w*·xᵢ)")
    readout = {"equal": "aᵢ = 1/√P", "random": "a unit vector a drawn for each dataset"}
    taken = "a as the sweep sets it" if "data.readout" in swept(spec) else readout[source.readout]
    return (
        f"The target was y = Σᵢ aᵢ ({target}) over patches xᵢ of the input, "
        f"{setting(spec, 'data.patches')} of size {setting(spec, 'data.patch_size')}, with a "
        f"{DRAWN} and {taken}; inputs were {INPUTS['gaussian']}."
    )


@source_sentence.register
def _(source: TeacherNetwork, spec: Campaign) -> str:
    kind = "fully connected network"
    if source.architecture == "cnn":
        kind = f"convolutional network on {setting(spec, 'data.patches')} patches"
    depth = counted(source.depth, "hidden layer")
    if "data.depth" in swept(spec):
        depth = "K hidden layers"
    return (
        f"The target was the output of a {kind} drawn from its prior for each dataset: "
        f"{depth} of width {setting(spec, 'data.width')}, "
        f"activation {value(spec, 'data.activation')}, weight variances "
        f"{value(spec, 'data.weight_variance')} and no biases; {_inputs(source, spec)}."
    )


def _series(spec: Campaign, coefficients: Mapping[int, float], path: str, function: str) -> str:
    """Σ_k c_k times a function, in which {k} and {power} stand for the order."""
    return _sum(
        [
            _term(spec, f"{path}.{k}", coefficients[k], _function(function, k))
            for k in sorted(coefficients)
        ]
    )


def _function(function: str, k: int) -> str:
    if "{power}" in function and k < 2:
        return "w*·x" if k else ""
    order = str(k)
    return function.format(k=order.translate(SUBSCRIPTS), power=order.translate(SUPERSCRIPTS))


def _term(spec: Campaign, path: str, coefficient: float, function: str) -> str:
    symbol = name_and_symbol(path)[1] if path in swept(spec) else ""
    factor = symbol or number(coefficient)
    return f"{'' if factor == '1' and function else factor} {function}".strip()


def _sum(terms: Sequence[str]) -> str:
    return " + ".join(terms).replace("+ −", "− ")


def _inputs(source: Isotropic, spec: Campaign) -> str:
    return f"inputs were {INPUTS[source.inputs]}, {setting(spec, 'data.dimension')}"


@source_sentence.register
def _(source: PowerLaw, spec: Campaign) -> str:
    kinds = {
        "gaussian": "independent Gaussian coordinates",
        "legendre": "coordinates, the Legendre polynomials of one number uniform on [−1, 1]",
    }
    return (
        f"Points had {setting(spec, 'data.modes')} {kinds[source.inputs]}, such that the "
        "eigenvalues of x·x'/M fall as k⁻¹⁻ᵅ; the target was linear in them with squared "
        "coefficients k⁻¹⁻ᵝ and random signs, "
        f"{setting(spec, 'data.eigenvalue_exponent')} and {setting(spec, 'data.target_exponent')}."
    )


@source_sentence.register
def _(source: Npz, spec: Campaign) -> str:
    return "Points and targets were read from a file of arrays, known by its sha256."


@source_sentence.register
def _(source: ImageClasses, spec: Campaign) -> str:
    if source.classes is not None:
        count = len(source.classes)
        return (
            f"The points were {source.words}: classes {listed(source.classes)}, an output for "
            f"each, with target {count - 1}/{count} for its own class and −1/{count} for others."
        )
    positive, negative = source.positive or (), source.negative or ()
    noun = "class" if len(positive) == 1 else "classes"
    return (
        f"The points were {source.words}: {noun} "
        f"{listed(positive)} with target +1 against {listed(negative)} with "
        "target −1."
    )


def _normalization(source: Data) -> str:
    normalize = source.normalize
    if normalize is None:
        return ""
    done = []
    if normalize.center:
        done.append("the mean point of the pool was subtracted")
    if normalize.squared_norm is not None:
        done.append(f"every point was scaled to |x|² = {number(normalize.squared_norm)}")
    return f"{listed(done).capitalize()}." if done else ""


def _points(spec: Campaign) -> str:
    test = spec.data.test
    count = test.points if isinstance(test, OwnTest) else test
    if spec.ensemble is None:
        text = f"Tests used {count} points of their own"
    else:
        train = value(spec, "data.train")
        text = f"Each dataset had {train} training points; tests used {count} others"
    if isinstance(test, OwnTest):
        text += f", {INPUTS[test.inputs]}"
        text += f" and scaled by {number(test.scale)}" if test.scale != 1 else ""
    if spec.data.label_noise or "data.label_noise" in swept(spec):
        noise = setting(spec, "data.label_noise")
        text += f"; training targets carried Gaussian noise of variance {noise}"
    return f"{text}."
