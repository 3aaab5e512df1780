"""Networks, and code of the user's in them, tried once before anything is computed.

torch is imported where it is used: specs without any of these are checked without.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from storage.campaign.data_spec import PLUGIN
from storage.campaign.network_spec import Network
from storage.campaign.observables import function_of
from storage.campaign.plugins import Plugins
from storage.campaign.resolved import Sampled
from storage.errors import CampaignError, refused
from workers.data.dataset import Dataset

if TYPE_CHECKING:
    from torch import Tensor

    from workers.networks.networks import Model


CHAINS = 2  # of a trial, at draws from the prior


def check_network(spec: Sampled, data: Dataset, plugins: Plugins) -> None:
    """Raise CampaignError for a network that does not fit the data, or code that does not work.

    An activation must be elementwise and differentiable, an architecture a function of parameters
    and points, an observable one number for each chain.
    """
    network = spec.network
    theirs = [network.activation, network.architecture, *spec.observe.measure]
    ours = not any(map(PLUGIN.fullmatch, theirs))
    if network.architecture == "fcn" and network.prior == "gaussian" and ours:
        return  # it fits all data
    from workers.models import network_of

    if PLUGIN.fullmatch(network.activation):
        _try_activation(network.activation, plugins.get(network.activation), spec)
    with failing(_theirs(network), "the network"):
        model = network_of(spec, data.x_train.shape[1], plugins)
    if any(map(PLUGIN.fullmatch, theirs)):
        _try_network(model, spec, data, plugins)


def measured(name: str, value: object, chains: int) -> "Tensor":
    """What an observable of the user's returned: a tensor (chain,) of real numbers, in float64."""
    import torch

    if not isinstance(value, torch.Tensor):
        raise CampaignError(
            f"{name} returned a {type(value).__name__}; wanted a tensor of shape (chain,)"
        )
    if value.shape != (chains,) or value.is_complex() or value.requires_grad:
        raise CampaignError(
            f"{name} returned a tensor of {_described(value)}; wanted one real number for each "
            f"chain, shape ({chains},)"
        )
    return value.double()


@contextmanager
def failing(name: str, what: str) -> Iterator[None]:
    """Put any error of code of the user's into one line that names it."""
    subject = name if PLUGIN.fullmatch(name) else f"{what} {name}"
    with refused(lambda problem: f"{subject} failed: {problem[:300]}"):
        yield


def _try_activation(name: str, phi: "Callable[[Tensor], Tensor]", spec: Sampled) -> None:
    """φ on a few numbers of the precision that the sampler has."""
    import torch

    z = torch.linspace(-2.5, 2.5, 12, dtype=getattr(torch, spec.sampler.precision))
    with failing(name, "activation"):
        given = z.clone().reshape(3, 4)
        value = phi(given)
        _require_like(name, value, given)
        if not torch.equal(given.flatten(), z):
            raise CampaignError(f"{name} changes its argument; return a new tensor")
        alone = torch.stack([phi(point) for point in z]).reshape(3, 4)
        if not torch.allclose(value, alone, rtol=1e-4, atol=1e-4):
            raise CampaignError(
                f"{name} is not elementwise: φ of an array is not that of its numbers"
            )
        slope = torch.func.grad(lambda z: phi(z).sum())(given)
        _require_like(f"the derivative of {name}", slope, given)


def _require_like(name: str, value: object, given: "Tensor") -> None:
    """Raise CampaignError unless a value is a finite tensor like the one that was given."""
    import torch

    if not isinstance(value, torch.Tensor):
        raise CampaignError(
            f"{name} returned a {type(value).__name__}; wanted a tensor of the shape and dtype of "
            "its argument"
        )
    if value.shape != given.shape or value.dtype != given.dtype or value.requires_grad:
        raise CampaignError(
            f"{name} returned a tensor of {_described(value)}; wanted {_described(given)}, as its "
            "argument"
        )
    if not value.isfinite().all():
        raise CampaignError(f"{name} is NaN or infinite between -2.5 and 2.5; wanted numbers")


def _try_network(model: "Model", spec: Sampled, data: Dataset, plugins: Plugins) -> None:
    """Outputs, a gradient and all observables at draws from the prior."""
    import torch

    network, sampler = spec.network, spec.sampler
    dtype = getattr(torch, sampler.precision)
    normals = np.random.Generator(np.random.Philox(key=0)).standard_normal((CHAINS, model.size))
    parameters = (torch.as_tensor(normals) * model.standard_deviations).to(dtype)
    x, y = (torch.as_tensor(each[:2], dtype=dtype) for each in (data.x_train, data.y_train))
    x_test = torch.as_tensor(data.x_test, dtype=dtype)
    with failing(_theirs(network), "the network"):
        outputs = model.outputs(parameters, x_test)
        _require_numbers(_theirs(network), outputs, len(x_test) * model.targets, "output")
        slope = model.loss_and_gradient(parameters, x, y.flatten())[1]
        _require_numbers(_theirs(network), slope, model.size, "gradient")
        fields = model.pre_activations(parameters, x_test[: spec.observe.points])
    for name in spec.observe.measure:
        own = function_of(name, plugins.get(name))
        with failing(name, "observable"):
            value = measured(name, own(outputs.double(), fields, data), CHAINS)
            if not value.isfinite().all():
                raise CampaignError(
                    f"{name} is NaN or infinite at draws from the prior; return finite numbers"
                )


def _theirs(network: Network) -> str:
    """What may be at fault: the architecture, or the activation where that alone is theirs."""
    names = network.architecture, network.activation
    return next(filter(PLUGIN.fullmatch, names), network.architecture)


def _require_numbers(name: str, value: "Tensor", length: int, what: str) -> None:
    if value.shape != (CHAINS, length) or value.is_complex() or not value.isfinite().all():
        raise CampaignError(
            f"{name}: the {what} of {CHAINS} chains at draws from the prior is a tensor of "
            f"{_described(value)}; wanted finite numbers of shape {(CHAINS, length)}"
        )


def _described(value: "Tensor") -> str:
    grad = ", that requires a gradient" if value.requires_grad else ""
    return f"shape {tuple(value.shape)} and dtype {str(value.dtype).removeprefix('torch.')}{grad}"
