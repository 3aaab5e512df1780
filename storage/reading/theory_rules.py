"""Which theories hold where: what each needs of a cell, and of the campaign that names it.

A campaign names any theory that fits one of its cells at least. Elsewhere the theory predicts
nothing, for the reason that `misfit` gives.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from storage.campaign.data_spec import number_of_outputs
from storage.campaign.messages import short, word
from storage.campaign.network_spec import Network
from storage.campaign.regression_spec import QUARTIC_THEORY, REGRESSION_THEORIES
from storage.campaign.spec import Campaign, is_trajectory
from storage.campaign.synthetic_spec import AbsIndex, Linear, Patches, SingleIndex
from storage.campaign.theory_spec import PRIOR_THEORIES, TRAJECTORY_THEORIES, group_name
from storage.errors import CampaignError
from storage.planning.plan import Plan

ODD = ("linear", "erf", "sin", "tanh")  # activations
INDEX_ACTIVATIONS = ("erf", "relu", "linear")  # whose overlaps with polynomials are known
OF_TRAJECTORIES = ("nngp", *TRAJECTORY_THEORIES)  # theories that know networks in time
MOST_NAMED = 3  # reasons in one line

Condition = Callable[[Campaign], str | None]  # what a cell has, and what is wanted; None if it fits


def misfit(theory: str, cell: Campaign) -> str | None:
    """Why a theory does not hold for a resolved cell: `depth 2, wanted 1`; None where it does."""
    return next(_misfits(theory, cell), None)


def _misfits(theory: str, cell: Campaign) -> Iterator[str]:
    for condition in _conditions(theory):
        if (found := condition(cell)) is not None:
            yield found


def _conditions(theory: str) -> tuple[Condition, ...]:
    """Of a plug-in: that it is given an ensemble without times."""
    if theory in REGRESSION_THEORIES:
        return ()
    conditions = _CONDITIONS.get(theory, ())
    return conditions if theory in OF_TRAJECTORIES else (*conditions, _without_times)


def check_theories(spec: Campaign, cells: Sequence[Campaign]) -> None:
    """Raise CampaignError for a theory that can be held against none of the resolved cells."""
    for problem in _problems(spec, cells):
        raise CampaignError(f"theories: {problem}")


def _problems(spec: Campaign, cells: Sequence[Campaign]) -> Iterator[str]:
    groups: dict[str, str] = {}
    for theory in spec.theories:
        name = group_name(theory)
        if name not in groups:
            groups[name] = theory
        elif groups[name] == theory:
            yield f"{theory} is named twice; leave one out"
        else:
            yield f"{groups[name]} and {theory} would share the group {name}; rename one of them"
    for theory in spec.theories:
        yield from _missing_sections(theory, spec)
        nearest = min(([*_misfits(theory, cell)] for cell in cells), key=len)
        if nearest:
            where = f"holds in none of the {len(cells)} cells" if spec.sweep else "does not hold"
            yield f"{theory} {where}: found {nearest[0]}; leave it out"


def _missing_sections(theory: str, spec: Campaign) -> Iterator[str]:
    if theory not in REGRESSION_THEORIES:
        if spec.ensemble is None:
            yield f"{theory} predicts an ensemble; add ensemble, or leave {theory} out"
        elif theory in PRIOR_THEORIES and not spec.observe.correlators:
            yield f"{theory} speaks of observe.correlators; set them to true, or leave it out"
    elif spec.regression is None:
        yield f"{theory} predicts a regression; add one, or leave it out"
    elif theory == QUARTIC_THEORY and spec.regression.quartic is None:
        yield "quartic needs a section regression.quartic; add it, or leave it out"


# -- where theories hold ----------------------------------------------------------------------


def coverage(planned: Plan) -> list[str]:
    """A line for each theory that does not hold in all cells: where it does, and why not elsewhere.

    `adaptive holds in 2 of 4 cells; elsewhere: depth 2, wanted 1`.
    """
    reasons = {
        theory: [misfit(theory, cell.spec) or "" for cell in planned.cells]
        for theory in planned.spec.theories
    }
    return [covered(theory, "holds in", found) for theory, found in reasons.items() if any(found)]


def covered(theory: str, verb: str, reasons: Sequence[str], places: str = "cells") -> str:
    """`adaptive holds in 2 of 4 cells; elsewhere: depth 2, wanted 1`.

    There is a reason for each place, empty where nothing stands against the theory.
    """
    against = Counter(filter(None, reasons))
    named = [reason for reason, _ in against.most_common(MOST_NAMED)]
    if len(against) > len(named):
        named.append(f"{len(against) - len(named)} more reasons")
    left = len(reasons) - against.total()
    if left:
        return f"{theory} {verb} {left} of {len(reasons)} {places}; elsewhere: {'; '.join(named)}"
    none = f"none of {len(reasons)} {places}" if len(reasons) > 1 else "nothing"
    return f"{theory} {verb} {none}: {'; '.join(named)}"


# -- conditions -------------------------------------------------------------------------------


def _architecture(*wanted: str) -> Condition:
    return lambda cell: _one_of("architecture", _network(cell).architecture, wanted)


def _activation(*wanted: str) -> Condition:
    return lambda cell: _one_of("activation", _network(cell).activation, wanted)


def _depth(wanted: int) -> Condition:
    def condition(cell: Campaign) -> str | None:
        found = _network(cell).depth
        return None if found == wanted else f"depth {found}, wanted {wanted}"

    return condition


def _one_output(cell: Campaign) -> str | None:
    outputs = number_of_outputs(cell.data)
    return None if outputs == 1 else f"{outputs} outputs, wanted 1"


def _without_bias(cell: Campaign) -> str | None:
    network = _network(cell)
    found = f"bias_variance {short(network.bias_variance)}, wanted 0"
    return found if any(network.biases) else None


def _outputs_that_scale(cell: Campaign) -> str | None:
    """Several outputs share one matrix of scales where a number would multiply the kernel."""
    outputs, network = number_of_outputs(cell.data), _network(cell)
    if outputs == 1 or _is_multiplied(network):
        return None
    return (
        f"{outputs} outputs with activation {word(network.activation)} at depth {network.depth}, "
        "wanted 1, or an odd activation at depth 1, or linear layers without bias"
    )


def _wide_enough_to_scale(cell: Campaign) -> str | None:
    """The scales of several outputs, and of a mean, take more neurons than the equations have."""
    network, sampler = _network(cell), cell.sampler
    if sampler is not None and sampler.scheme == "prior":
        return None
    least = number_of_outputs(cell.data)
    if least == 1 and network.depth == 1 and not _is_multiplied(network):
        least = 2
    return None if network.width >= least else f"width {network.width}, wanted at least {least}"


def _is_multiplied(network: Network) -> bool:
    """Whether the kernel of infinite width is rescaled as a whole."""
    linear = network.activation == "linear" and not any(network.biases)
    return linear or (network.activation in ODD and network.depth == 1)


def _learned(cell: Campaign) -> str | None:
    prior = cell.sampler is not None and cell.sampler.scheme == "prior"
    return "scheme prior, wanted one that learns from data" if prior else None


def _prior(cell: Campaign) -> str | None:
    found = word(cell.sampler.scheme) if cell.sampler is not None else "none"
    return None if found == "prior" else f"scheme {found}, wanted prior"


def _without_times(cell: Campaign) -> str | None:
    return "scheme trajectory, wanted one that samples a law" if is_trajectory(cell) else None


def _with_times(cell: Campaign) -> str | None:
    found = word(cell.sampler.scheme) if cell.sampler is not None else "none"
    return None if is_trajectory(cell) else f"scheme {found}, wanted trajectory"


def _that_settles(cell: Campaign) -> str | None:
    dynamics = cell.sampler.dynamics if cell.sampler is not None else None
    return "dynamics gradient_flow, wanted langevin" if dynamics == "gradient_flow" else None


def _gaussian_weights(cell: Campaign) -> str | None:
    return _one_of("prior", _network(cell).prior, ("gaussian",))


def _one_direction(cell: Campaign) -> str | None:
    if isinstance(cell.data, SingleIndex | AbsIndex | Linear | Patches):
        return None
    found = word(cell.data.source)
    return f"data.source {found}, wanted single_index, abs_index, linear or patches"


def _gaussian_inputs(cell: Campaign) -> str | None:
    return _one_of("inputs", getattr(cell.data, "inputs", "gaussian"), ("gaussian",))


def _hermite_polynomials(cell: Campaign) -> str | None:
    return _one_of("basis", getattr(cell.data, "basis", "hermite"), ("hermite",))


def _points_as_drawn(cell: Campaign) -> str | None:
    return None if cell.data.normalize is None else "points that are normalized, wanted none"


def _architecture_of_the_data(cell: Campaign) -> str | None:
    wanted = "cnn" if isinstance(cell.data, Patches) else "fcn"
    return _one_of("architecture", _network(cell).architecture, (wanted,))


def _odd_on_patches(cell: Campaign) -> str | None:
    if isinstance(cell.data, Patches) and _network(cell).activation == "relu":
        return "activation relu on patches, wanted erf or linear"
    return None


def _two_inputs(cell: Campaign) -> str | None:
    inputs = getattr(cell.data, "dimension", getattr(cell.data, "patch_size", 2))
    return None if inputs >= 2 else f"{inputs} input, wanted at least 2"


def _odd_target(cell: Campaign) -> str | None:
    orders = getattr(cell.data, "teacher", {})
    even = isinstance(cell.data, AbsIndex) or any(order % 2 == 0 for order in orders)
    return "an even part of the target, wanted none" if even else None


def _one_of(key: str, found: str, wanted: tuple[str, ...]) -> str | None:
    *others, last = wanted
    names = f"{', '.join(others)} or {last}" if others else last
    return None if found in wanted else f"{key} {word(found)}, wanted {names}"


def _network(cell: Campaign) -> Network:
    assert cell.network is not None
    return cell.network


_FEATURES = (_architecture("fcn"), _one_output, _gaussian_weights)
_AVERAGED = (
    _one_direction,
    _gaussian_inputs,
    _hermite_polynomials,
    _points_as_drawn,
    _architecture_of_the_data,
    _depth(1),
    _activation(*INDEX_ACTIVATIONS),
    _odd_on_patches,
    _without_bias,
    _two_inputs,
    _learned,
)
_CONDITIONS: dict[str, tuple[Condition, ...]] = {
    "nngp": (_architecture("fcn", "cnn"), _that_settles),
    "gradient_flow": (_with_times,),
    "volterra": (_with_times, _that_settles),
    "mean_field": (_with_times, _depth(1), _one_output),
    "kernel_scaling": (
        _architecture("fcn"),
        _outputs_that_scale,
        _wide_enough_to_scale,
        _gaussian_weights,
    ),
    "scale_mixture": (
        _activation("linear"),
        _architecture("fcn"),
        _depth(1),
        _without_bias,
        _one_output,
        _gaussian_weights,
    ),
    "adaptive": (_depth(1), *_FEATURES),
    "vga": (_depth(1), *_FEATURES),
    "equations_of_state": (_depth(2), *_FEATURES),
    "width_corrections": (_prior, _architecture("fcn"), _gaussian_weights),
    "exact_prior": (
        _prior,
        _activation("linear", "relu"),
        _architecture("fcn"),
        _without_bias,
        _gaussian_weights,
    ),
    "gfl": _AVERAGED,
    "order_parameter": _AVERAGED,
    "gmfl": (*_AVERAGED, _activation("erf"), _odd_target),
}
