"""Schemes: one record for each, from which settings, rules, schema, analysis and words derive.

The algorithm of a scheme is in `workers.ensemble.schemes`, under the same name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from storage.campaign.messages import word
from storage.campaign.network_spec import Network
from storage.campaign.source_spec import Data

if TYPE_CHECKING:  # whose schemes are named by these records
    from storage.campaign.sampler_spec import Sampler

Law = Literal["posterior", "prior", "in time", "none"]
Condition = Callable[[Network, "Sampler", Data], str | None]  # what is wrong, or None

AUTO = "auto"  # a scheme that `storage.planning.choosing` names for each cell, and a step


@dataclass(frozen=True)
class Scheme:
    """What a scheme reads, what it samples and where it can be taken."""

    name: str
    words: str = ""  # in a sentence: the sampler was ...
    settings: tuple[str, ...] = ()  # beside those that every scheme has
    law: Law = "posterior"  # that is sampled; in time: networks are followed; none that is known
    bias_order: int = 0  # p of a bias of order ε^p; 0 of a scheme without bias, or without a law
    adapts: bool = False  # knows step_size: auto
    anneals: bool = False  # may follow an annealed start
    by_layer: bool = False  # may have a step for each layer
    turns: bool = False  # its step is the angle of a turn, and has no bias
    draws_linear: bool = False  # draws linear layers exactly, without any of its settings
    holds: tuple[Condition, ...] = ()

    @property
    def learns(self) -> bool:
        """Whether its law is one that data have changed."""
        return self.law == "posterior"


def _one_hidden_layer(network: Network, sampler: "Sampler", data: Data) -> str | None:
    known = network.architecture == "fcn" and network.depth == 1
    return None if known else "is for fcn with one hidden layer; take baoab"


def _one_output(network: Network, sampler: "Sampler", data: Data) -> str | None:
    one = data.number_of_outputs == 1
    return None if one else "is for networks of one output; take baoab"


def _fully_connected(network: Network, sampler: "Sampler", data: Data) -> str | None:
    found = word(network.architecture)
    return None if found == "fcn" else f"is for fcn; found architecture {found}: take ula"


def _layer_by_layer(network: Network, sampler: "Sampler", data: Data) -> str | None:
    linear = network.activation == "linear" and network.depth == 1
    if network.architecture == "fcn" or (linear and network.patches is not None):
        return None
    return f"does not know this {word(network.architecture)}; take baoab"


def _settings_unless_linear(network: Network, sampler: "Sampler", data: Data) -> str | None:
    linear = network.activation == "linear"
    if linear == (sampler.step_size is None):
        return None
    verb = "draws linear layers exactly: leave out" if linear else "needs"
    return f"{verb} step_size, friction and moves"


RECORDS = (
    Scheme(AUTO, bias_order=2),  # of those that it may name
    Scheme(
        "baoab",
        "underdamped Langevin dynamics with the BAOAB splitting (Leimkuhler and Matthews 2013)",
        ("step_size", "friction"),
        bias_order=2,
        adapts=True,
        anneals=True,
    ),
    Scheme(
        "ula",
        "the unadjusted Langevin algorithm",
        ("step_size",),
        bias_order=1,
        adapts=True,
        anneals=True,
        by_layer=True,
    ),
    Scheme(
        "mala",
        "the Metropolis-adjusted Langevin algorithm (Roberts and Tweedie 1996)",
        ("step_size",),
        adapts=True,
        anneals=True,
    ),
    Scheme(
        "collapsed",
        "underdamped Langevin dynamics of the hidden weights, the readout integrated out and drawn "
        "exactly for each draw",
        ("step_size", "friction"),
        bias_order=2,
        adapts=True,
        anneals=True,
        holds=(_one_hidden_layer, _one_output),
    ),
    Scheme(
        "neurons",
        "Gibbs sampling of one neuron after another, its readout weights integrated out and then "
        "drawn exactly, its other weights by Hamiltonian turns that keep the prior and by "
        "elliptical slices (Murray, Adams and MacKay 2010),",
        ("step_size",),
        adapts=True,
        turns=True,
        holds=(_one_hidden_layer,),
    ),
    Scheme(
        "gibbs",
        "Gibbs sampling, the readout drawn exactly given the hidden weights",
        ("step_size", "friction", "moves"),
        bias_order=2,
        adapts=True,
        anneals=True,
        draws_linear=True,
        holds=(_layer_by_layer, _settings_unless_linear, _one_output),
    ),
    Scheme(
        "exchange",
        "underdamped Langevin dynamics with replica exchange between temperatures (Hukushima and "
        "Nemoto 1996)",
        ("step_size", "friction", "ladder"),
        bias_order=2,
        adapts=True,
    ),
    Scheme(
        "sgld",
        "stochastic gradient Langevin dynamics (Welling and Teh 2011)",
        ("step_size", "batch"),
        bias_order=1,
    ),
    Scheme("gd", "gradient descent, which targets no known law,", ("step_size",), law="none"),
    Scheme(
        "sgd",
        "stochastic gradient descent, which targets no known law,",
        ("step_size", "batch"),
        law="none",
    ),
    Scheme(
        "adam",
        "Adam (Kingma and Ba 2015), which targets no known law,",
        ("step_size",),
        law="none",
    ),
    Scheme("prior", law="prior"),
    Scheme(
        "trajectory",
        settings=("step_size", "dynamics", "times"),
        law="in time",
        holds=(_fully_connected,),
    ),
)
BY_NAME = {record.name: record for record in RECORDS}


def names(wanted: Callable[[Scheme], bool] = lambda record: True) -> tuple[str, ...]:
    """Names of the schemes that are wanted, in the order of their records."""
    return tuple(record.name for record in RECORDS if wanted(record))
