"""What a store holds of networks in time: the variables of an ensemble, along `time`.

A chain is a pair of networks that start with opposite readouts and feel opposite noise there, so
that their first outputs cancel. What is stored of it is the mean of the pair, at the step ε and at
2ε with the same noise, extrapolated in the step: 2 m(ε) - m(2ε), which is m(ε) and its change.
"""

from collections.abc import Mapping
from dataclasses import replace

from storage.arrays.variable import Variable

BY_SEGMENT = ("status", "finished")  # of a shard as a whole
VARIABLES_LEFT_OUT = ("overlap", "overlap_histogram", "kernel_square")
LONG_NAMES = {
    "output_mean": "output",
    "output_square": "mean squared output of the pair",
    "kernel": "mean kernel σ²·φφ'/width over chains",
    "kernel_lag": "mean kernel σ²·φφ'/width with the time `lag` times before, whose point is first",
}
CHANGED = ("loss", "learnability", "output_mean")  # of which the error of the step is stored


def in_time(variables: Mapping[str, Variable]) -> dict[str, Variable]:
    """The variables of a trajectory, from those that the ensemble would have."""
    found = {
        name: _timed(name, one) for name, one in variables.items() if name not in VARIABLES_LEFT_OUT
    }
    output = found["output"]
    found["output_odd"] = replace(
        output, long_name="half the difference of the outputs of a pair at the probe points"
    )
    return found | {
        f"{name}_change": replace(
            found[name], long_name=f"what extrapolation in the step changes {name} by"
        )
        for name in CHANGED
    }


def _timed(name: str, variable: Variable) -> Variable:
    if name in BY_SEGMENT:
        return variable
    dims = ("time" if dim in ("draw", "segment") else dim for dim in variable.dims)
    return replace(variable, dims=tuple(dims), long_name=LONG_NAMES.get(name, variable.long_name))
