"""Words as arguments of theories: one that is not known is refused by its name, with the others."""

import importlib
import inspect
import pkgutil
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import torch

import theory
from theory.activations.kernel_map import KernelMap
from theory.activations.records import function_of
from theory.finite_width.adaptive import adaptive_kernel
from theory.kernels.convolution import convolutional_nngp
from theory.kernels.fully_connected import nngp
from theory.regression.learning_curve import learning_curve
from theory.single_index.gaussian_index import gaussian_features, infinite_width
from theory.single_index.hermite_overlap import is_odd, overlaps, slope
from theory.single_index.metastable import branch
from theory.single_index.order_parameter import order_parameter
from theory.single_index.patch_index import linear_filters
from theory.single_index.problems import coupled_orders, hermite_target, problem

X = torch.ones(3, 4, dtype=torch.float64)
IMAGES = {"image": (1, 2, 2), "pool_after": (), "weight_variance": [1.0, 1.0]}
LAYER = {"weight_variance": (1.0, 1.0), "bias_variance": 0.0}


def cells(activation: str = "linear"):
    return problem(
        activation,
        hermite_target({1: 1.0}, coupled_orders(activation, 1)),
        dimension=5,
        width=50,
        weight_variance=1.0,
        readout_variance=1.0,
        train=20,
        temperature=0.1,
    )


WORDS = {
    ("adaptive_kernel", "force"): lambda w: adaptive_kernel(
        X, X[:, 0], 0.1, 9, X, activation="erf", force=w, **LAYER
    ),
    ("convolutional_nngp", "head"): lambda w: convolutional_nngp(
        X, head=w, activation="erf", **IMAGES
    ),
    ("gaussian_features", "branch"): lambda w: gaussian_features(cells(), "bare", w),
    ("gaussian_features", "ridge"): lambda w: gaussian_features(cells(), w),
    ("infinite_width", "ridge"): lambda w: infinite_width(cells(), w),
    ("linear_filters", "ridge"): lambda w: linear_filters(cells(), w),
    ("order_parameter", "ridge"): lambda w: order_parameter(cells("erf"), w),
    ("branch", "start"): lambda w: branch(cells("erf"), w, 2.0),
    ("learning_curve", "methods"): lambda w: learning_curve(
        torch.eye(3).double(), X[:, 0], torch.arange(3), [2], [0.1], methods=[w]
    ),
    ("problem", "activation"): lambda w: cells(w),
    ("coupled_orders", "activation"): lambda w: coupled_orders(w, 3),
    ("overlaps", "activation"): lambda w: overlaps(w, X[0], X[0, :1], [1]),
    ("slope", "activation"): lambda w: slope(w, X),
    ("is_odd", "activation"): is_odd,
    ("function_of", "activation"): function_of,
    ("nngp", "activation"): lambda w: nngp(X, activation=w, depth=1, **LAYER),
    ("mean", "activation"): lambda w: KernelMap(w).mean(X[0]),
}
INSIDE = {"at_ridge"}  # what the functions above call


@pytest.mark.parametrize(("function", "argument"), WORDS)
def test_a_word_that_is_not_known_is_refused(function, argument):
    name = {"methods": "method"}.get(argument, argument)
    with pytest.raises(ValueError, match=f"^{name} is 'average-ish'; take one of .+") as refusal:
        WORDS[function, argument]("average-ish")
    assert "\n" not in str(refusal.value)


def test_no_function_of_a_word_is_left_out():
    known = set()
    for module in pkgutil.walk_packages(theory.__path__, "theory."):
        module = importlib.import_module(module.name)
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ != module.__name__ or name.startswith("_") or name in INSIDE:
                continue
            for argument, hint in get_type_hints(function).items():
                inner = [hint, *get_args(hint)]
                if argument != "return" and any(get_origin(part) is Literal for part in inner):
                    known.add((name, argument))
    assert known
    assert known <= set(WORDS)
