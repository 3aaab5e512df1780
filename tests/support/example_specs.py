"""Valid campaigns as nested mappings: every source, every section, every kind of sweep."""

from pathlib import Path

from storage.reading.yaml12 import load_yaml

QUICKSTART = Path(__file__).parents[2] / "pipelines" / "campaigns" / "quickstart.yaml"

NETWORK = {"width": 16, "activation": "erf", "weight_variance": [1, 2]}
SAMPLER = {
    "scheme": "baoab",
    "temperature": 0.5,
    "step_size": 0.05,
    "friction": 1,
    "warmup": 10,
    "draws": 6,
    "segment": 3,
}
ENSEMBLE = {"datasets": 2, "chains": 4, "block": 2}
REGRESSION = {
    "train": [10, 20],
    "ridges": [0.1, 1],
    "repeats": 3,
    "pool": 40,
    "sampling": "without",
    "evaluate": ["pool"],
}
CLASSES = {"positive": [0], "negative": [1, 2], "train": 20, "test": 10}


def campaign(data, **sections):
    """A campaign with an ensemble on some data; a section that is None is left out."""
    raw = {
        "version": 1,
        "name": "example",
        "data": data,
        "network": NETWORK,
        "sampler": SAMPLER,
        "ensemble": ENSEMBLE,
        **sections,
    }
    return {key: section for key, section in raw.items() if section is not None}


LINEAR = {"source": "linear", "inputs": "sphere", "dimension": 5, "train": 20, "test": 10}
SINGLE_INDEX = {
    "source": "single_index",
    "dimension": 5,
    "teacher": {"1": 1, "3": -0.05},
    "label_noise": 0.1,
    "train": 20,
    "test": {"points": 10, "inputs": "sphere", "scale": 2},
}
PRIOR = {"scheme": "prior", "temperature": 1, "warmup": 0, "draws": 4, "segment": 2}

EXAMPLES = {
    "quickstart": load_yaml(QUICKSTART.read_text()),
    "single_index": campaign(SINGLE_INDEX, observe={"points": 8, "kernels": False}),
    "monomial": campaign(
        {**SINGLE_INDEX, "basis": "monomial"},
        sweep={"epsilon": {"data.teacher.3": [-0.05, 0.05]}, "size": {"data.train": [5, 10, 20]}},
    ),
    "linear": campaign(LINEAR, theories=["nngp", "kernel_scaling"], title="Linear: a = 'b', #1"),
    "multi_index": campaign(
        {
            "source": "multi_index",
            "dimension": 5,
            "directions": 2,
            "teacher": {"1": {"1": 1, "3": 0.1}, "2": {"3": 0.2}},
            "train": 20,
            "test": 10,
        },
        sweep={"epsilon": {"data.teacher.2.3": [-0.2, 0.2]}},
    ),
    "abs_index": campaign(
        {"source": "abs_index", "dimension": 5, "epsilon": 0.3, "train": 20, "test": 10},
        sweep={"epsilon": {"data.epsilon": [-0.3, 0.3]}},
    ),
    "patches": campaign(
        {
            "source": "patches",
            "patches": 3,
            "patch_size": 2,
            "teacher": {"1": 1, "3": 0.1},
            "readout": "random",
            "train": 20,
            "test": 10,
        },
        sweep={"shape": {"data.patches": [2, 3], "data.patch_size": [3, 2]}},
    ),
    "teacher_network": campaign(
        {
            "source": "teacher_network",
            "dimension": 6,
            "architecture": "cnn",
            "patches": 3,
            "depth": 2,
            "width": 4,
            "activation": "erf",
            "weight_variance": [1, 1, 2],
            "train": 20,
            "test": {"points": 10, "scale": 2},
        },
        sweep={"teacher": {"data.width": [1, 4]}},
    ),
    "power_law": campaign(
        {
            "source": "power_law",
            "modes": 8,
            "eigenvalue_exponent": 0.5,
            "target_exponent": 1,
            "train": 20,
            "test": 10,
        },
        network=None,
        sampler=None,
        ensemble=None,
        regression={**REGRESSION, "kernel": {"activation": "relu", "weight_variance": [2, 1]}},
        sweep={"alpha": {"data.eigenvalue_exponent": [0.5, 1]}},
        theories=["effective_ridge"],
    ),
    "digits": campaign({"source": "digits", **CLASSES}, regression=REGRESSION),
    "quartic": campaign(
        {"source": "digits", **CLASSES},
        regression={
            **REGRESSION,
            "quartic": {"couplings": [0.125, 0.5], "chains": 12, "warmup": 34, "draws": 56},
        },
    ),
    "classes": campaign(
        {"source": "digits", "classes": [4, 2, 7], "train": 20, "test": 10},
        regression=REGRESSION,
        theories=["nngp", "effective_ridge"],
    ),
    "mnist": campaign(
        {"source": "mnist", "folder": "/data/mnist", "subset": "train", **CLASSES},
        sampler={**SAMPLER, "scheme": "ula", "friction": None, "precision": "float64"},
    ),
    "cifar10": campaign(
        {"source": "cifar10", "folder": "~/cifar", "normalize": {"center": True}, **CLASSES}
    ),
    "npz": campaign({"source": "npz", "file": "arrays.npz", "train": 5, "test": 5}),
    "plug-ins": campaign(
        {
            "source": "my.mod:make",
            "settings": {"a": 1, "b": 0.5, "c": "x", "d": True},
            "train": 20,
            "test": 10,
        },
        network={**NETWORK, "activation": "my.mod:phi", "architecture": "my.mod:Net"},
        observe={"histograms": False, "kernels": False, "measure": ["my.mod:measure"]},
        theories=["my.mod:predict"],
    ),
    "prior": campaign(
        LINEAR,
        sampler=PRIOR,
        sweep={
            "shape": {
                "network.depth": [1, 2],
                "network.weight_variance": [[1, 2], [1, 1, 2]],
            },
            "bias": {"network.bias_variance": [0, 0.5]},
        },
    ),
    "biases": campaign(
        LINEAR,
        network={
            **NETWORK,
            "depth": 2,
            "weight_variance": [1, 1.5, 2],
            "bias_variance": [0.25, 0.75],
        },
        sweep={"bias": {"network.bias_variance.1": [0, 0.35]}},
    ),
    "mean_field": campaign(
        LINEAR,
        network={**NETWORK, "scaling": "mean_field", "chi": 8},
        sweep={
            "strength": {"network.chi": [1, 8], "sampler.temperature": [0.5, 4]},
            "first": {"network.weight_variance.0": [1, 4]},
        },
    ),
    "excluded": campaign(
        LINEAR,
        sweep={
            "width": {"network.width": [4, 16, 64]},
            "strength": {"sampler.temperature": [0.1, 1], "sampler.thin": [4, 2]},
        },
        exclude=[{"width": 64, "strength": 0.1}, {"network.width": 4, "sampler.thin": 2.0}],
    ),
}
