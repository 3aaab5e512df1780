"""The data of a campaign in words."""

from functools import singledispatch

from pipelines.report.words import (
    SUBSCRIPTS,
    listed,
    name_and_symbol,
    number,
    setting,
    swept,
    value,
)
from pipelines.rounding import SUPERSCRIPTS
from storage.data_spec import (
    Cifar10,
    Data,
    Digits,
    Linear,
    Mnist,
    Npz,
    OwnTest,
    PowerLaw,
    SingleIndex,
    TwoClasses,
)
from storage.spec import Campaign

INPUTS = {
    "gaussian": "standard normal",
    "sphere": "uniform on the sphere |x|² = d",
}


def data(spec: Campaign) -> str:
    """The points, the target, their normalization and their numbers."""
    sentences = [source_sentence(spec.data, spec), _normalization(spec.data), _points(spec)]
    return " ".join(filter(None, sentences))


@singledispatch
def source_sentence(source: Data, spec: Campaign) -> str:
    """What the points and the targets are."""
    settings = getattr(source, "settings", {})
    given = (
        f" with {listed(f'{key} = {number(v)}' for key, v in settings.items())}" if settings else ""
    )
    return f"Points and targets were made by {getattr(source, 'source', 'a plug-in')}{given}."


@source_sentence.register
def _(source: SingleIndex, spec: Campaign) -> str:
    terms = []
    for order in sorted(source.teacher):
        path = f"data.teacher.{order}"
        symbol = name_and_symbol(path)[1] if path in swept(spec) else ""
        factor = symbol or number(source.teacher[order])
        terms.append(f"{'' if factor == '1' else factor} {_function(source, order)}".strip())
    formula = " + ".join(terms).replace("+ −", "− ")
    return (
        f"The target was y = {formula} with a unit vector w* drawn for each dataset; inputs were "
        f"{INPUTS[source.inputs]}, {setting(spec, 'data.dimension')}."
    )


def _function(source: SingleIndex, order: int) -> str:
    if source.basis == "hermite":
        return f"He{str(order).translate(SUBSCRIPTS)}(w*·x)"
    return {0: "", 1: "w*·x"}.get(order, f"(w*·x){str(order).translate(SUPERSCRIPTS)}")


@source_sentence.register
def _(source: Linear, spec: Campaign) -> str:
    return (
        "The target was y = w*·x with a unit vector w* drawn for each dataset; inputs were "
        f"{INPUTS[source.inputs]}, {setting(spec, 'data.dimension')}."
    )


@source_sentence.register
def _(source: PowerLaw, spec: Campaign) -> str:
    return (
        f"Points had {setting(spec, 'data.modes')} independent Gaussian coordinates, such that the "
        "eigenvalues of x·x'/M fall as k⁻¹⁻ᵅ; the target was linear in them with squared "
        "coefficients k⁻¹⁻ᵝ and random signs, "
        f"{setting(spec, 'data.eigenvalue_exponent')} and {setting(spec, 'data.target_exponent')}."
    )


@source_sentence.register
def _(source: Npz, spec: Campaign) -> str:
    return "Points and targets were read from a file of arrays, known by its sha256."


@source_sentence.register
def _(source: TwoClasses, spec: Campaign) -> str:
    kinds = {
        Digits: "the 8 × 8 handwritten digits of scikit-learn",
        Mnist: "images of MNIST",
        Cifar10: "images of CIFAR-10",
    }
    noun = "class" if len(source.positive) == 1 else "classes"
    return (
        f"The points were {kinds.get(type(source), 'images')}: {noun} "
        f"{listed(source.positive)} with target +1 against {listed(source.negative)} with "
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
