"""The space of campaigns: the choices that people combine.

A campaign of the space is a row: one level of each factor. `specification` makes a small campaign
of it. Whether a row can be had is asked of the product's own rules, so that the space knows none of
them.
"""

from typing import Any

from storage.campaign.network_spec import ACTIVATIONS
from storage.campaign.regression_spec import REGRESSION_THEORIES
from storage.campaign.theory_spec import PRIOR_THEORIES, THEORIES
from storage.errors import CampaignError
from storage.reading.document import validate

PLUGIN = "campaign_plugin"

Row = dict[str, str]

# The first level of a factor is its plainest: with all first levels a campaign is valid.
FACTORS: dict[str, tuple[str, ...]] = {
    "source": (
        "single_index", "multi_index", "abs_index", "linear", "patches", "teacher_network",
        "teacher_cnn", "power_law", "digits", "digits_classes",
        "npz", "npz_outputs", "npz_odd", "mnist", "plugin",
    ),
    "inputs": ("gaussian", "sphere", "legendre", "own_test"),
    "teacher": ("cubic", "first", "even", "zero_part", "monomial", "large", "tiny"),
    "noise": ("none", "some"),
    "normalize": ("none", "center", "squared_norm", "both"),
    "sizes": ("few", "one_point", "one_test", "more"),
    "architecture": ("fcn", "patches", "image", "pooled"),
    "depth": ("1", "2", "3"),
    "width": ("12", "1", "2"),
    "activation": ("erf", *sorted({*ACTIVATIONS} - {"erf"}), "plugin"),
    "variance": ("ordinary", "small", "large", "of_all"),
    "law": ("gaussian", "uniform"),
    "bias": ("none", "one", "list"),
    "scaling": ("standard", "mean_field"),
    "scheme": (
        "baoab", "ula", "ula_layers", "mala", "collapsed", "neurons", "gibbs", "gibbs_moves",
        "exchange", "sgld", "gd", "sgd", "adam", "prior", "trajectory", "auto",
    ),
    "step": ("number", "auto"),
    "check": ("off", "on"),
    "precision": ("float32", "float64"),
    "temperature": ("warm", "cold", "hot"),
    "start": ("prior", "teacher", "both", "anneal"),
    "datasets": ("1", "2", "5"),
    "chains": ("4", "2", "5", "8"),
    "block": ("all", "one", "half"),
    "segments": ("one", "two", "each_draw"),
    "draws": ("many", "few", "1"),
    "observe": (
        "all", "nothing", "one_point", "lags", "measure", "no_kernels", "correlators",
    ),
    "theories": ("nngp", "none", "all", "plugin", "averaged", "regression", "priors"),
    "regression": (
        "none", "plain", "replacement", "pool_only", "heldout_only", "quartic", "own_kernel",
        "float32", "one_size", "beyond", "alone", "alone_quartic",
    ),
    "cutoff": ("default", "modes"),
    "grid": (
        "none", "one_value", "width", "crossed", "joined", "depth", "activation", "teacher",
        "temperature", "noise", "three_axes", "source", "holes",
    ),
    "refine": ("none", "gradient", "bimodality", "disagreement"),
    "words": ("plain", "greek", "markup", "long"),
}  # fmt: skip
PLAINEST: Row = {factor: levels[0] for factor, levels in FACTORS.items()}

DIMENSION = 4
_CLASSES = {"positive": [0], "negative": [1]}
_TEACHERS: dict[str, dict[str, float]] = {
    "cubic": {"1": 1.0, "3": -0.3},
    "first": {"1": 1.0},
    "even": {"0": 0.5, "2": 1.0},
    "zero_part": {"1": 1.0, "3": 0.0},
    "monomial": {"1": 1.0, "2": 0.5},
    "large": {"1": 1e3, "3": 1e6},
    "tiny": {"1": 1e-6},
}
_POINTS = {"few": (10, 9), "one_point": (1, 5), "one_test": (6, 1), "more": (24, 40)}
_TEMPERATURES = {"warm": 0.5, "cold": 0.02, "hot": 20.0}
_FIRST = {"ordinary": 1.0, "small": 0.05, "large": 20.0}
_TITLES = {
    "plain": "",
    "greek": "χ_⊥ of erf, ε → 0: „Größe“",
    "markup": "<script>alert(1)</script> & *a* | b",
    "long": "a title " * 30,
}


def specification(row: Row) -> dict[str, Any]:
    """The campaign of a row, as nested mappings; it may be one that the product refuses."""
    regression = _regression(row)
    alone = row["regression"].startswith("alone")
    sections: dict[str, Any] = {
        "version": 1,
        "name": "n" * 63 if row["words"] == "long" else "case",
        "title": _TITLES[row["words"]],
        "data": _data(row),
        "network": _network(row),
        "sampler": None if alone else _sampler(row),
        "ensemble": None if alone else _ensemble(row),
        "regression": regression,
        "observe": _observe(row),
        "sweep": _sweep(row),
        "refine": _refine(row),
        "cutoff": 3 if row["cutoff"] == "modes" else 0.01,
    }
    if row["grid"] == "holes":
        sections["exclude"] = [{"size": 3, "noise": 0.2}]
    spec = {key: value for key, value in sections.items() if value not in (None, "", {})}
    return spec | {"theories": _theories(row, spec)}


def _data(row: Row) -> dict[str, Any]:
    source, (train, test) = row["source"], _POINTS[row["sizes"]]
    data: dict[str, Any] = {"source": source, "train": train, "test": test}
    if source in ("single_index", "multi_index", "abs_index", "linear", "teacher_network"):
        data |= {"dimension": _dimension(row), "inputs": row["inputs"]}
        if row["inputs"] == "own_test":
            data |= {"inputs": "gaussian"}
            data["test"] = {"points": test, "inputs": "sphere", "scale": 2.0}
    elif source == "power_law" and row["inputs"] == "legendre":
        data["inputs"] = "legendre"
    elif row["inputs"] != "gaussian":
        data["inputs"] = row["inputs"]  # refused: these sources have no such setting
    teacher = _TEACHERS[row["teacher"]]
    match source:
        case "single_index":
            basis = "monomial" if row["teacher"] == "monomial" else "hermite"
            data |= {"teacher": teacher, "basis": basis}
        case "multi_index":
            data |= {"directions": 2, "teacher": {"1": teacher, "2": {"1": 0.5}}}
        case "abs_index":
            data["epsilon"] = {"large": 1e6, "tiny": 1e-9, "first": 0.0}.get(row["teacher"], 0.3)
        case "patches":
            data |= {"patches": 2, "patch_size": 2, "teacher": teacher}
            data["readout"] = "random" if row["teacher"] == "first" else "equal"
        case "teacher_network" | "teacher_cnn":
            data |= {"source": "teacher_network", "dimension": _dimension(row), "width": 3}
            data |= {"activation": "tanh", "weight_variance": [1.0, 2.0]}
            if source == "teacher_cnn":
                data |= {"architecture": "cnn", "patches": 2}
        case "power_law":
            data |= {"modes": _dimension(row), "eigenvalue_exponent": 0.5, "target_exponent": 1.0}
        case "digits":
            data |= _CLASSES
        case "digits_classes":
            data |= {"source": "digits", "classes": [0, 1, 2]}
        case "mnist":
            data |= {"folder": "mnist", "subset": "test", **_CLASSES}
        case "npz" | "npz_odd":
            data |= {"source": "npz", "file": f"{source}.npz"}
        case "npz_outputs":
            data |= {"source": "npz", "file": "npz_outputs.npz", "outputs": 2}
        case "plugin":
            data |= {"source": f"{PLUGIN}:make", "settings": {"radius": 1.5}}
    if row["noise"] == "some":
        data["label_noise"] = 0.1
    center = row["normalize"] in ("center", "both")
    norm = 2.0 if row["normalize"] in ("squared_norm", "both") else None
    if row["normalize"] != "none":
        data["normalize"] = {"center": center} | ({} if norm is None else {"squared_norm": norm})
    return data


def _dimension(row: Row) -> int:
    """Of inputs that are drawn: the kernel of uniform weights is known for few."""
    return 2 if row["law"] == "uniform" else DIMENSION


def _network(row: Row) -> dict[str, Any]:
    depth = int(row["depth"])
    network: dict[str, Any] = {
        "depth": depth,
        "width": int(row["width"]),
        "activation": f"{PLUGIN}:phi" if row["activation"] == "plugin" else row["activation"],
        "weight_variance": _variances(row, depth),
    }
    if row["law"] == "uniform":
        network["prior"] = "uniform"
    if row["bias"] != "none":
        network["bias_variance"] = 0.5 if row["bias"] == "one" else [0.5, 0.0, 0.1][:depth]
    if row["scaling"] == "mean_field":
        network |= {"scaling": "mean_field", "chi": 3.0}
    inputs = {"digits": 64, "digits_classes": 64, "mnist": 784}.get(row["source"], _dimension(row))
    match row["architecture"]:
        case "patches":
            network |= {"architecture": "cnn", "patches": 2}
        case "image" | "pooled":
            side = int(inputs**0.5)
            network |= {"architecture": "cnn", "image": [1, side, side], "head": "flatten"}
            if row["architecture"] == "pooled":
                network |= {"pool_after": [1], "head": "average"}
    return network


def _variances(row: Row, depth: int) -> float | list[float]:
    if row["variance"] == "of_all":
        return 1.5
    return [_FIRST[row["variance"]]] * depth + [2.0]


def _sampler(row: Row) -> dict[str, Any]:
    scheme = row["scheme"]
    if scheme == "trajectory":
        return _trajectory(row)
    draws = {"many": 120, "few": 8, "1": 1}[row["draws"]]
    parts = {"one": 1, "two": 2, "each_draw": draws if draws < 20 else 4}[row["segments"]]
    sampler: dict[str, Any] = {
        "scheme": {"ula_layers": "ula", "gibbs_moves": "gibbs"}.get(scheme, scheme),
        "temperature": _TEMPERATURES[row["temperature"]],
        "warmup": 40,
        "draws": draws,
        "segment": draws // parts if draws % parts == 0 else draws,
        "thin": 4 if row["draws"] == "many" else 1,
        "precision": row["precision"],
        "step_check": row["check"] == "on",
    }
    step = "auto" if row["step"] == "auto" else 0.1
    if scheme not in ("gibbs", "prior", "auto"):
        sampler["step_size"] = step
    elif row["step"] == "auto":
        sampler["step_size"] = step  # refused
    if scheme == "ula_layers":
        sampler["step_size"] = [0.05] * (int(row["depth"]) + 1)
    if scheme in ("baoab", "collapsed", "gibbs_moves", "exchange"):
        sampler["friction"] = 1.0
    if scheme == "gibbs_moves":
        sampler["moves"] = 2
    if scheme in ("sgld", "sgd"):
        sampler["batch"] = max(_POINTS[row["sizes"]][0] // 2, 1)
    if scheme == "exchange":
        sampler["ladder"] = [2.5 * sampler["temperature"]]
    if row["start"] == "anneal":
        sampler["anneal"] = {"temperature": 3 * sampler["temperature"], "steps": 20}
    return sampler


def _trajectory(row: Row) -> dict[str, Any]:
    """Steps so short that they are stable whatever the data are."""
    draws = 1 if row["draws"] == "1" else 8
    parts = {"one": 1, "two": 2, "each_draw": draws}[row["segments"]]
    return {
        "scheme": "trajectory",
        "dynamics": "gradient_flow" if row["check"] == "on" else "langevin",
        "temperature": _TEMPERATURES[row["temperature"]],
        "step_size": 1e-8,
        "times": {"first": 1e-7, "ratio": 1.5},
        "warmup": 0,
        "draws": draws,
        "segment": max(draws // parts, 1),
        "precision": row["precision"],
    }


def _ensemble(row: Row) -> dict[str, Any]:
    chains = int(row["chains"])
    block = {"all": chains, "one": 1, "half": chains // 2 if chains % 2 == 0 else chains}
    return {
        "datasets": int(row["datasets"]),
        "chains": chains,
        "block": block[row["block"]],
        "start": row["start"],
        "seed": 2**62 if row["words"] == "markup" else 1,
    }


def _observe(row: Row) -> dict[str, Any]:
    observe: dict[str, dict[str, Any]] = {
        "all": {},
        "nothing": {"histograms": False, "kernels": False, "overlaps": False},
        "one_point": {"points": 1},
        "lags": {"lags": [1, 2], "points": 4},
        "measure": {"measure": [f"{PLUGIN}:measure"]},
        "no_kernels": {"kernels": False},
        "correlators": {"correlators": True, "points": 4},
    }
    of_times = {"histograms": False} if row["scheme"] == "trajectory" else {}
    return observe[row["observe"]] | of_times


def _regression(row: Row) -> dict[str, Any] | None:
    if row["regression"] == "none":
        return None
    regression: dict[str, Any] = {
        "train": [2, 5],
        "ridges": [0.1, 1.0],
        "repeats": 5,
        "pool": 16,
        "sampling": "without",
        "evaluate": ["pool", "heldout"],
    }
    quartic = {"couplings": [0.2], "chains": 4, "warmup": 30, "draws": 60}
    own = {"activation": "relu", "depth": 2, "weight_variance": [2.0, 2.0, 1.0]}
    changes: dict[str, dict[str, Any]] = {
        "plain": {},
        "replacement": {"sampling": "with_replacement", "ridges": [1e-3, 0.1, 10.0]},
        "pool_only": {"evaluate": ["pool"]},
        "heldout_only": {"evaluate": ["heldout"]},
        "quartic": {"quartic": quartic, "ridges": [0.5]},
        "own_kernel": {"kernel": own, "repeats": 1},
        "float32": {"precision": "float32"},
        "one_size": {"train": [3], "ridges": [0.3], "repeats": 1},
        "beyond": {"train": [1, 4, 8, 16], "repeats": 4},
        "alone": {},
        "alone_quartic": {"quartic": quartic, "ridges": [0.5], "train": [4]},
    }
    return regression | changes[row["regression"]]


def _sweep(row: Row) -> dict[str, dict[str, list[Any]]]:
    width, noise = {"network.width": [3, 6]}, {"data.label_noise": [0.0, 0.2]}
    warm = _TEMPERATURES[row["temperature"]]
    deeper = {"network.depth": [1, 2], "network.weight_variance": [[1, 2], [1, 1.5, 2]]}
    own: dict[str, dict[str, list[Any]]] = {
        "single_index": {"data.teacher.1": [0.5, 1.0]},
        "multi_index": {"data.teacher.2.1": [0.2, 0.4]},
        "abs_index": {"data.epsilon": [-0.2, 0.5]},
        "patches": {"data.readout": ["equal", "random"]},
        "teacher_network": {"data.width": [1, 4]},
        "power_law": {"data.target_exponent": [0.5, 2.0]},
        "digits": {"data.negative": [[1], [2, 3]]},
        "plugin": {"data.settings.radius": [1.0, 2.0]},
    }
    grids: dict[str, dict[str, dict[str, Any]]] = {
        "none": {},
        "one_value": {"size": {"network.width": [5]}},
        "width": {"size": {"network.width": {"geometric": [1, 16, 3]}}},
        "crossed": {"size": width, "heat": {"sampler.temperature": [warm, 2 * warm]}},
        "joined": {"size": {"data.train": [4, 8], "network.width": [3, 6]}},
        "depth": {"layers": deeper},
        "activation": {"phi": {"network.activation": ["linear", "erf", "relu"]}},
        "teacher": {"strength": {"data.teacher.1": [0.5, 1.0]}},
        "temperature": {"heat": {"sampler.temperature": [warm, 2 * warm, 4 * warm]}},
        "noise": {"noise": noise},
        "three_axes": {
            "size": width, "noise": noise, "heat": {"sampler.temperature": [warm, 3 * warm]},
        },
        "source": {"strength": own.get(row["source"], {"data.nothing": [1, 2]})},
        "holes": {"size": width, "noise": noise},
    }  # fmt: skip
    return grids[row["grid"]]


def _refine(row: Row) -> dict[str, Any] | None:
    if row["refine"] == "none":
        return None
    axes = {"width": "size", "joined": "size", "temperature": "heat", "crossed": "heat"}
    refine: dict[str, Any] = {
        "axis": axes.get(row["grid"], "noise"),
        "by": row["refine"],
        "rounds": 2,
        "budget": 60,
    }
    return refine | ({} if row["refine"] == "disagreement" else {"observable": "loss"})


def _theories(row: Row, spec: dict[str, Any]) -> list[str]:
    if row["theories"] in ("all", "averaged", "regression", "priors"):
        among = {
            "all": THEORIES,
            "averaged": ("gfl", "order_parameter", "gmfl"),
            "regression": REGRESSION_THEORIES,
            "priors": PRIOR_THEORIES,
        }
        fitting = [
            name for name in among[row["theories"]] if _accepted(spec | {"theories": [name]})
        ]
        return fitting or [among[row["theories"]][0]]
    named = {"nngp": ["nngp"], "none": [], "plugin": [f"{PLUGIN}:predict", "nngp"]}
    chosen = named[row["theories"]]
    if "ensemble" not in spec and row["theories"] == "nngp":
        return ["effective_ridge"]  # the plainest of a regression alone
    return chosen


def _accepted(spec: dict[str, Any]) -> bool:
    try:
        validate(spec)
    except CampaignError:
        return False
    return True


def valid(row: Row) -> bool:
    """Whether the product's rules accept the campaign of a row, before they look at its data."""
    return _accepted(specification(row))
