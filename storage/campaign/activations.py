"""Activations: one record for each, from which specs, rules and the choice of a scheme derive.

The averages of an activation are in `theory.activations.records`, φ and φ' in
`workers.networks.activations`, under the same name.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Activation:
    """What is known of an activation without evaluating it."""

    name: str
    odd: bool = False
    compiled: bool = False  # has a kernel in workers.fused, and one in workers.triton


RECORDS = (
    Activation("linear", odd=True, compiled=True),
    Activation("erf", odd=True, compiled=True),
    Activation("relu", compiled=True),
    Activation("tanh", odd=True, compiled=True),
    Activation("gelu", compiled=True),
    Activation("sin", odd=True),
    Activation("quadratic", compiled=True),
    Activation("sigmoid"),
    Activation("softplus"),
    Activation("silu"),
)
BY_NAME = {record.name: record for record in RECORDS}


def record(name: str) -> Activation:
    """The record of an activation; of one of the user's own, its name alone."""
    return BY_NAME.get(name) or Activation(name)
