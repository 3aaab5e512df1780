"""What a store holds: every variable with its dimensions, units and chunks.

One outer chunk of a variable is the region that one shard writes, so that no two writers ever
touch the same object.
"""

import itertools
from collections.abc import Mapping
from dataclasses import replace

from storage.arrays.trajectory_schema import in_time
from storage.arrays.variable import Variable
from storage.campaign.network_spec import ARCHITECTURES
from storage.campaign.resolved import Regressed, Sampled, regressed, sampled
from storage.campaign.spec import PROBES, Campaign, has_overlaps, is_trajectory
from storage.planning.plan import Plan

SCHEMA_VERSION = 1
CONVENTIONS = "CF-1.11"

BINS = 200
BIN_RANGE = 6.0  # prior standard deviations; the outermost bins are open to infinity
ORDERS = 7  # raw moments 0 to 6
GROWING = ("cell", "dataset", "chain", "draw", "time", "block", "segment", "repeat")
NEURONS = 64  # whose overlaps are stored one by one
OVERLAP_BINS, OVERLAP_RANGE = 240, 24.0  # of q = w·w*, which is ±1 in a specialized neuron
READOUT_BINS, READOUT_RANGE = 40, 10.0
CLASSES = 10  # at most, of targets that are classes
NO_CLASSES = f"NaN where there are none, or more than {CLASSES}"
COORDINATE_CHUNK = 4096  # values along a growing dimension
PARTS = ("teacher", "orthogonal")
PAIRS = ("11", "12", "22")  # of the two points of correlators
FEW_INPUTS = 3  # so many numbers of a probe point are stored beside its correlators
STATUS = {"ok": 0, "diverged": 1}
ORIGINS = {"of_the_grid": 0, "refined": 1, "unused": 2}  # of a cell, or of a place for one to come
REFUSED = {"accepted": 0, "indefinite": 1, "inaccurate": 2}

WITH_TARGETS = (
    "output",
    "output_mean",
    "output_square",
    "label",
    "class_target",
    "coefficient",
)  # where there are several
CHECKED = (
    "loss", "weight_norm", "max_overlap", "learnability", "output_mean", "output_square", "label",
    "step_size", "status", "finished",
)  # fmt: skip

_CHAIN = ("cell", "dataset", "chain")
_DRAW = (*_CHAIN, "draw")
_SEGMENT = (*_CHAIN, "segment")
_BLOCK = ("cell", "dataset", "block", "segment")
_PRE_ACTIVATION = (*_SEGMENT, "layer", "direction")


def ensemble_variables(spec: Campaign) -> dict[str, Variable]:
    """The variables of the group `ensemble`."""
    variables = {
        "loss": Variable(_DRAW, "f8", "training loss, half the sum of squared residuals"),
        "weight_norm": Variable(_DRAW, "f8", "squared norm of the readout weights"),
        "learnability": Variable(
            (*_DRAW, "component"), "f8", "coefficient of the output on each part of the target"
        ),
        "output": Variable((*_DRAW, "probe"), "f4", "network output at the probe points"),
        "output_mean": Variable(
            (*_SEGMENT, "test"), "f8", "mean output over the draws of a segment"
        ),
        "output_square": Variable(
            (*_SEGMENT, "test"), "f8", "mean squared output over the draws of a segment"
        ),
        "label": Variable(
            ("cell", "dataset", "test"), "f8", "noise-free target at the test points"
        ),
        "step_size": Variable(
            ("cell", "dataset", "block"), "f8", "step size, frozen before the first draw"
        ),
        "status": Variable(
            _SEGMENT,
            "u1",
            "whether the chain is sound",
            attrs={"flag_values": [*STATUS.values()], "flag_meanings": " ".join(STATUS)},
        ),
        "finished": Variable(
            _BLOCK,
            "u1",
            "whether the shard is stored",
            attrs={"flag_values": [0, 1], "flag_meanings": "unfinished finished"},
        ),
    }
    if spec.data.may_have_classes:
        variables |= _class_variables(("cell", "dataset"), ("train", "test"))
        variables["accuracy"] = Variable(
            _DRAW, "f8", f"share of the test points whose class is predicted; {NO_CLASSES}"
        )
    if has_overlaps(spec):
        variables["max_overlap"] = Variable(
            _DRAW, "f8", "largest |w·w*| over the first-layer neurons"
        )
        if spec.observe.overlaps:
            variables |= _overlap_variables(spec)
    if spec.observe.correlators:
        variables |= _correlator_variables(spec)
    for name in spec.observe.measure:
        variables[name.partition(":")[2]] = Variable(_DRAW, "f8", f"measured by {name}")
    if spec.observe.histograms:
        variables |= _histogram_variables()
    if spec.observe.kernels:
        variables |= _kernel_variables()
        if spec.observe.lags:
            variables["kernel_lag"] = Variable(
                ("cell", "dataset", "block", "segment", "lag", "layer", "probe", "probe_2"),
                "f4",
                "mean kernel σ²·φ(t)φ'(t + lag)/width between two times of a chain",
            )
    variables = _with_targets(variables, spec)
    return in_time(variables) if is_trajectory(spec) else variables


def _with_targets(variables: dict[str, Variable], spec: Campaign) -> dict[str, Variable]:
    """The same, some of them for each of several outputs."""
    if spec.data.number_of_outputs == 1:
        return variables
    several = {
        name: replace(variable, dims=(*variable.dims, "target"))
        for name, variable in variables.items()
        if name in WITH_TARGETS
    }
    return variables | several


def check_variables(spec: Campaign) -> dict[str, Variable]:
    """The variables of the group `step_check`: a block at half the step size."""
    everything = ensemble_variables(spec)
    return {name: everything[name] for name in CHECKED if name in everything}


def has_step_check(spec: Campaign) -> bool:
    """Whether cells have one more block, at half the step size, where their scheme has a bias."""
    return spec.sampler is not None and spec.sampler.step_check and spec.sampler.bias_order > 0


def _overlap_variables(spec: Campaign) -> dict[str, Variable]:
    variables = {
        "overlap": Variable(
            (*_SEGMENT, "neuron"),
            "f4",
            "w·w* of the first neurons at the end of a segment",
            "prior_deviation",
        ),
        "hidden_variance": Variable(
            (*_SEGMENT, "part"),
            "f8",
            "mean square of a first-layer weight along the teacher, and across it",
            "prior_variance",
        ),
    }
    if 1 in _depths(sampled(spec)):  # of cells that are deeper it stays empty
        variables["overlap_histogram"] = Variable(
            (*_SEGMENT, "overlap_bin", "readout_bin"),
            "u8",
            "neurons and draws with overlap and readout weight in the bin",
        )
    return variables


def _histogram_variables() -> dict[str, Variable]:
    return {
        "histogram": Variable(
            (*_PRE_ACTIVATION, "bin"), "u8", "neurons and draws with a pre-activation in the bin"
        ),
        "moment": Variable(
            (*_PRE_ACTIVATION, "order"), "f8", "sum over neurons and draws of powers of z"
        ),
        "prior_deviation": Variable(
            ("cell", "dataset", "layer", "direction"),
            "f8",
            "prior standard deviation of a pre-activation, the unit of z",
        ),
    }


def _correlator_variables(spec: Campaign) -> dict[str, Variable]:
    variables = {
        "correlator": Variable(
            (*_DRAW, "layer", "pair"),
            "f8",
            "kernel σ²·φφ'/width of a layer at the first two probe points",
        )
    }
    if has_few_inputs(spec):
        variables["probe_input"] = Variable(
            ("cell", "dataset", "probe", "input"), "f8", "coordinate of a probe point"
        )
    return variables


def has_few_inputs(spec: Campaign) -> bool:
    """Whether probe points are so short that they are stored."""
    inputs = spec.data.number_of_inputs
    return inputs is not None and inputs <= FEW_INPUTS


def _class_variables(dims: tuple[str, ...], sets: tuple[str, str]) -> dict[str, Variable]:
    """Class balance of two sets of points."""
    names = {
        "train": "training",
        "test": "test",
        "pool": "pool's",
        "heldout": "held-out",
    }
    place = (*dims, "class_index")
    return {
        "class_target": Variable(place, "f8", f"target of a class; {NO_CLASSES}"),
        **{
            f"{name}_class_count": Variable(place, "u4", f"{names[name]} points of the class")
            for name in sets
        },
    }


def _kernel_variables() -> dict[str, Variable]:
    dims = (*_BLOCK, "layer", "probe", "probe_2")
    name = "of the kernel σ²·φφ'/width over chains and draws"
    return {
        "kernel": Variable(dims, "f4", f"mean {name}"),
        "kernel_square": Variable(dims, "f4", f"mean square {name}"),
    }


def regression_variables(spec: Regressed) -> dict[str, Variable]:
    """The variables of the group `regression`."""
    curve = ("cell", "repeat", "train", "ridge")
    variables = {
        "train_error": Variable(curve, "f8", "mean squared error at the training points"),
        "posterior_variance": Variable(curve, "f8", "mean posterior variance over the pool"),
        "log_evidence": Variable(curve, "f8", "log marginal likelihood of the training targets"),
        "learnability": Variable((*curve, "mode"), "f4", "learnability of each kernel mode"),
        "residual": Variable(curve, "f8", "|y - (K + T)α| / |y| of the weights α of the kernel"),
        "refused": Variable(
            curve,
            "u1",
            "why a regression has no numbers: K + T not positive definite to rounding, or its "
            "residual too large",
            attrs={"flag_values": [*REFUSED.values()], "flag_meanings": " ".join(REFUSED)},
        ),
        "eigenvalue": Variable(("cell", "mode"), "f8", "eigenvalue of the kernel over the pool"),
        "coefficient": Variable(("cell", "mode"), "f8", "target coefficient of the kernel mode"),
        "finished": Variable(
            ("cell", "repeat"),
            "u1",
            "whether the shard is stored",
            attrs={"flag_values": [0, 1], "flag_meanings": "unfinished finished"},
        ),
    }
    if spec.data.may_have_classes:
        variables |= _class_variables(("cell",), ("pool", "heldout"))
    for where, name, points in (
        ("pool", "pool", "over the whole pool"),
        ("heldout", "test", "at held-out points"),
    ):
        if where in spec.regression.evaluate:
            variables[f"{name}_error"] = Variable(curve, "f8", f"mean squared error {points}")
            if spec.data.may_have_classes:
                text = f"share of the classes that are predicted {points}; {NO_CLASSES}"
                variables[f"{name}_accuracy"] = Variable(curve, "f8", text)
    if spec.regression.quartic is not None:
        dims, loss = (*curve, "coupling"), "with the quartic term in the loss"
        variables |= {
            "quartic_error": Variable(dims, "f8", f"mean squared error over the pool {loss}"),
            "quartic_residual": Variable(dims, "f8", f"mean square of h at training points {loss}"),
            "quartic_accepted": Variable(dims, "f8", "share of the proposals accepted"),
            "quartic_rhat": Variable(
                dims,
                "f8",
                "split R-hat of the chains; error and residual are NaN where it is too large or "
                "too few proposals were accepted",
            ),
        }
    return _with_targets(variables, spec)


def ensemble_sizes(plan: Plan, room: int = 0) -> dict[str, int]:
    """Length of every dimension of the group `ensemble`, with room for so many cells to come."""
    spec = sampled(plan.spec)
    chains, draws = plan.most("ensemble", "chains"), plan.most("sampler", "draws")
    test = spec.data.test_points
    return {
        "cell": len(plan.cells) + room,
        "dataset": plan.most("ensemble", "datasets"),
        "chain": chains,
        "draw": draws,
        "time": draws,
        "block": chains // spec.ensemble.block,
        "segment": draws // spec.sampler.segment,
        "layer": layers(spec),
        "direction": len(direction_names(spec)),
        "bin": BINS,
        "order": ORDERS,
        "probe": min(spec.observe.points, test, PROBES),
        "probe_2": min(spec.observe.points, test, PROBES),
        "component": len(spec.data.components),
        "test": test,
        "target": spec.data.number_of_outputs,
        "lag": len(spec.observe.lags),
        "pair": len(PAIRS),
        "input": spec.data.number_of_inputs or 0,
        "neuron": NEURONS,
        "part": len(PARTS),
        "class_index": CLASSES,
        "overlap_bin": OVERLAP_BINS,
        "readout_bin": READOUT_BINS,
    }


def check_sizes(plan: Plan, room: int = 0) -> dict[str, int]:
    """Length of every dimension of the group `step_check`: one block of the first dataset."""
    block = sampled(plan.spec).ensemble.block
    return ensemble_sizes(plan, room) | {"dataset": 1, "block": 1, "chain": block}


def regression_sizes(plan: Plan) -> dict[str, int]:
    """Length of every dimension of the group `regression`."""
    regression = regressed(plan.spec).regression
    return {
        "cell": len(plan.regressions),
        "repeat": plan.most("regression", "repeats"),
        "train": len(regression.train),
        "ridge": len(regression.ridges),
        "mode": regression.pool,
        "target": plan.spec.data.number_of_outputs,
        "class_index": CLASSES,
        "coupling": len(regression.quartic.couplings) if regression.quartic else 0,
    }


def direction_names(spec: Campaign) -> tuple[str, ...]:
    """Unit vectors over the probe points along which pre-activations are observed.

    `point` is the first of them alone.
    """
    return ("random", "top", "target", *(["point"] if spec.observe.correlators else []))


def chunks(variable: Variable, sizes: Mapping[str, int], spec: Campaign) -> tuple[int, ...]:
    """One outer chunk: what one shard writes."""
    lengths = {"cell": 1, "dataset": 1, "block": 1, "segment": 1, "repeat": 1}
    if spec.ensemble is not None and spec.sampler is not None:
        segment = spec.sampler.segment
        lengths |= {"chain": spec.ensemble.block, "draw": segment, "time": segment}
    return tuple(lengths.get(dim, max(sizes[dim], 1)) for dim in variable.dims)


def layers(spec: Sampled) -> int:
    """Hidden layers whose pre-activations are known; none in an architecture of the user's."""
    if spec.network.architecture not in ARCHITECTURES:
        return 0
    return max(_depths(spec))


def _depths(spec: Sampled) -> list[int]:
    """Depths of the networks of a campaign."""
    swept = itertools.chain.from_iterable(
        axis.get("network.depth", []) for axis in spec.sweep.values()
    )
    return [depth for depth in swept if isinstance(depth, int)] or [spec.network.depth]
