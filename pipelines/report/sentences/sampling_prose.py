"""How an ensemble was sampled, in words: scheme, step, start, warm-up, draws, precision, seed."""

from pipelines.report.words import counted, listed, number, value
from storage.arrays.schema import has_step_check
from storage.campaign.resolved import Sampled
from storage.campaign.schemes import AUTO
from storage.campaign.spec import is_trajectory
from storage.planning.sweep import grid, resolve

STARTS = {
    "prior": "Chains started from the prior",
    "teacher": "Chains started with every first-layer neuron at w·w* = ±1 and a fitting readout",
    "both": (
        "Every second chain started with all first-layer neurons at w·w* = ±1 and a fitting "
        "readout, the others from the prior"
    ),
    "anneal": "Chains started from the prior at another temperature",
}
PRECISIONS = {"float32": "single precision (float32)", "float64": "double precision (float64)"}


def sampling(spec: Sampled) -> str:
    """The scheme and its numbers: step, friction, warm-up, draws, precision, blocks, seed."""
    sampler = spec.sampler
    kept = f"{sampler.draws} draws per chain were kept"
    packed = (
        f"Chains ran in blocks of {spec.ensemble.block} with checkpoints every {sampler.segment} "
        f"draws, in {PRECISIONS[sampler.precision]}, from the seed {spec.ensemble.seed}."
    )
    if is_trajectory(spec):
        return f"{_in_time(spec)} {packed}"
    if sampler.record.law == "prior":
        return f"Draws are independent; {kept}. {packed}"
    apart = value(spec, "sampler.thin")
    return (
        f"{_samplers(spec)}. {STARTS[spec.ensemble.start]}{_annealing(spec)}; after "
        f"{value(spec, 'sampler.warmup')} warm-up steps {kept}, {apart} "
        f"step{'' if apart == '1' else 's'} apart.{_step_check(spec)} {packed}"
    )


def _in_time(spec: Sampled) -> str:
    """How networks were followed."""
    sampler = spec.sampler
    times = sampler.moments(sampler.draws)
    law = (
        "overdamped Langevin dynamics with weight decay, by the rule of Euler and Maruyama"
        if sampler.dynamics == "langevin"
        else "gradient flow of the loss, by the rule of Euler"
    )
    return (
        f"Networks followed {law}, all weights with the same mobility in coordinates whitened by "
        f"the prior, with steps {number(sampler.step_size)} and twice that with the same noise, "
        "extrapolated to none. They started from the prior, in pairs with opposite readouts and "
        "opposite noise there, whose first outputs cancel; a chain is a pair. They were looked at "
        f"{len(times)} times, from {number(times[0])} to {number(times[-1])} relaxation times 1/T "
        "of the prior."
    )


def _samplers(spec: Sampled) -> str:
    """The scheme with its constants; where it is auto, those of all cells."""
    if spec.sampler.scheme != AUTO:
        return f"The sampler was {_described(spec)}"
    cells = [resolve(spec, point) for point in grid(spec)]
    named = {cell.sampler.scheme: cell for cell in cells}
    each = "; and ".join(_described(cell) for cell in named.values())
    if len(named) == 1:
        return f"The sampler, named by scheme auto, was {each}"
    return f"The sampler of each cell, named by scheme auto, was one of: {each}"


def _described(spec: Sampled) -> str:
    words = spec.sampler.record.words
    return f"{words} in coordinates whitened by the prior{_constants(spec)}"


def _constants(spec: Sampled) -> str:
    """Step, friction and what else the scheme has."""
    sampler = spec.sampler
    if sampler.step_size is None:
        return ": every layer in turn, without bias"
    if sampler.record.turns:
        return f", with {_angle(spec)} and without bias"
    step = f"step {value(spec, 'sampler.step_size')}"
    if isinstance(sampler.step_size, tuple):
        step = f"steps {listed(number(each) for each in sampler.step_size)} of the layers"
    if sampler.step_size == AUTO:
        step = (
            "a step found from the curvature at the learned state, its largest eigenvalue and its "
            "traces, in the first three quarters of the warm-up and frozen"
        )
    friction = f" and friction {_friction(spec)}" if sampler.damping else ""
    text = f", with {step}{friction}, in units of the prior's relaxation time"
    if sampler.moves:
        text += f", {counted(sampler.moves, 'step')} for each readout"
    if sampler.batch:
        text += f", and batches of {sampler.batch} points"
    if sampler.ladder:
        text += f", with replicas at temperatures {listed(number(t) for t in sampler.ladder)}"
    return text


def _friction(spec: Sampled) -> str:
    given = spec.sampler.friction is not None
    return value(spec, "sampler.friction") if given else number(spec.sampler.damping)


def _angle(spec: Sampled) -> str:
    """Of a turn of a neuron."""
    if spec.sampler.step_size != AUTO:
        return f"turns of {value(spec, 'sampler.step_size')} radians"
    return (
        "turns by an angle found from their acceptance in the first three quarters of the warm-up "
        "and frozen,"
    )


def _annealing(spec: Sampled) -> str:
    sampler = spec.sampler
    if sampler.anneal is None:
        return ""
    return (
        f", {number(sampler.anneal.temperature)}, which went to the target's within "
        f"{sampler.anneal.steps} steps, linearly in its logarithm"
    )


def _step_check(spec: Sampled) -> str:
    cells = (resolve(spec, point) for point in grid(spec))
    if not any(map(has_step_check, cells)):
        return ""
    which = "each cell whose scheme has one" if spec.sampler.scheme == AUTO else "each cell"
    return (
        f" The bias of the step was measured by one more block of {which} at half the step, and "
        "extrapolated; a cell where it exceeds the error bars is not compared with theories."
    )
