"""What a setting is called: its words, its letter, and its value."""

from collections.abc import Sequence

from pipelines.text.rounding import plain

SUBSCRIPTS = str.maketrans("-0123456789", "₋₀₁₂₃₄₅₆₇₈₉")

# The name and the letter of each setting that formulas and sentences speak of.
NAMES = {
    "data.train": ("number of training points", "n"),
    "data.dimension": ("input dimension", "d"),
    "data.patches": ("number of patches", "P"),
    "data.patch_size": ("patch size", "S"),
    "data.epsilon": ("coefficient c of the even part of the target", "c"),
    "data.width": ("width of the teacher", "M"),
    "data.depth": ("number of hidden layers of the teacher", "K"),
    "data.modes": ("number of modes", "M"),
    "data.inputs": ("kind of features", "features"),
    "data.label_noise": ("variance of the label noise", "s²"),
    "data.eigenvalue_exponent": ("eigenvalue exponent", "α"),
    "data.target_exponent": ("target exponent", "β"),
    "network.width": ("width", "N"),
    "network.depth": ("number of hidden layers", "L"),
    "network.chi": ("mean-field factor", "χ"),
    "network.activation": ("activation", "φ"),
    "network.weight_variance": ("weight variances", "σ²"),
    "network.bias_variance": ("bias variance", "σ_b²"),
    "sampler.temperature": ("temperature χT before the division by χ", "χT"),
    "sampler.step_size": ("step", "ε"),
    "sampler.friction": ("friction", "Γ"),
    "sampler.warmup": ("number of warm-up steps", "n_warm"),
    "sampler.thin": ("number of steps between draws", "n_thin"),
}
LAYERS = {  # of lists with a number for each layer
    "network.weight_variance": ("weight variance", "σ²"),
    "network.bias_variance": ("bias variance", "σ_b²"),
}


def number(value: object) -> str:
    """A number, a list of numbers or a name as it stands in a sentence."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, int | float | Sequence):
        return str(value)
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return f"({', '.join(number(each) for each in value)})"
    return plain(float(value), digits=6)


def name_and_symbol(path: str) -> tuple[str, str]:
    """The words and the letter of a setting, `data.teacher.3` and `.2.3` among them."""
    if path in NAMES:
        return NAMES[path]
    parent, _, last = path.rpartition(".")
    if path.startswith("data.teacher."):
        orders = path.removeprefix("data.teacher.").split(".")
        symbol = f"c{','.join(orders).translate(SUBSCRIPTS)}"
        return f"coefficient {symbol} of the target", symbol
    if parent in LAYERS:
        layer, (name, symbol) = str(int(last) + 1), LAYERS[parent]
        symbol += layer.translate(SUBSCRIPTS)
        return f"{name} {symbol} of layer {layer}", symbol
    return path, path


def named(path: str) -> str:
    """The words of a setting with its letter: `width N`."""
    name, symbol = name_and_symbol(path)
    return name if symbol in name.split() else f"{name} {symbol}"
