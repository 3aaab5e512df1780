"""What theories and observables are called in sentences."""

import json
from typing import TYPE_CHECKING

from pipelines.text.rounding import plain
from storage.campaign.theories import Theory, introduce, record

if TYPE_CHECKING:
    from xarray import DataTree


def in_words(theory: str) -> str:
    """`the NNGP`; a plug-in without words by its own name."""
    return record(theory).words or theory


def learn(tree: "DataTree") -> None:
    """Know the theories of users that a store has, by what it keeps of their records."""
    theories = tree.children.get("theory")
    for node in theories.children.values() if theories is not None else ():
        if "record" in node.attrs:
            known = json.loads(node.attrs["record"])
            papers = tuple(known.pop("papers", ()))
            introduce(Theory(node.attrs["theory"], papers=papers, **known))


def observable_in_words(observable: str) -> str:
    """The observable in running text."""
    kind, _, rest = observable.partition(" ")
    match kind:
        case "pool_error" | "quartic_error":
            return f"the error over the pool{_coupled(rest)}"
        case "train_error":
            return "the training error"
        case "posterior_variance":
            return "the posterior variance"
        case "quartic_residual":
            return f"the mean square residual{_coupled(rest)}"
        case "learnability":
            return "the learnability" if rest == "target" else f"the learnability of {rest}"
        case "mse_mean":
            return "the error of the mean output"
        case "predictive_variance":
            return "the predictive variance"
        case "accuracy":
            return "the classification accuracy"
        case "weight_norm":
            return "the norm of the readout"
        case "hidden_variance":
            along = "along the teacher" if rest == "teacher" else "across the teacher"
            return f"the variance of first-layer weights {along}"
        case "overlap_kurtosis":
            return "the kurtosis of the overlaps with the teacher"
        case "kernel_mean":
            return f"the mean kernel of layer {rest}"
        case "kernel_variance":
            return f"the fluctuation of the kernel of layer {rest}"
        case "correlation":
            return f"the correlation in the kernel of layer {rest}"
        case "pre_activation_kurtosis":
            return f"the excess kurtosis of pre-activations of layer {rest}"
    layer, _, direction = rest.partition(" ")
    where = "at a point" if direction == "point" else f"along the {direction} direction"
    return f"the pre-activation variance of layer {layer} {where}"


def _coupled(coupling: str) -> str:
    return f" with the quartic coupling u = {plain(float(coupling))}" if coupling else ""
