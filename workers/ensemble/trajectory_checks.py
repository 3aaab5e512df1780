"""The step of a trajectory, held against the fastest mode before anything is computed.

torch is imported where it is used: specs without trajectories are checked without.
"""

import math

from storage.campaign.plugins import Plugins
from storage.campaign.resolved import Sampled
from storage.campaign.spec import is_trajectory
from storage.errors import CampaignError
from workers.data.dataset import Dataset
from workers.ensemble.infinite_width import kernel_at

STABLE_STEP = 1.0  # over the fastest time: twice the step is taken, too, and 2 is the end
MOST_POINTS = 2048  # of which eigenvalues are computed; those of more points grow as their number


def check_step(spec: Sampled, data: Dataset, plugins: Plugins) -> None:
    """Raise CampaignError for a step at which the lazy network is not stable.

    The rates of its modes, in units of the prior's, are λ/T with the eigenvalues λ of the tangent
    kernel of infinite width at the training points, and one more where weights decay.
    """
    if not is_trajectory(spec):
        return
    import torch

    from storage.arrays.coordinates import physical_temperature
    from theory.kernels.fully_connected import ntk

    sampler, points = spec.sampler, data.x_train[:MOST_POINTS]
    assert isinstance(sampler.step_size, float)
    unknown = "the tangent kernel of the networks is not known"
    tangent = kernel_at(ntk, points, spec, plugins, unknown)
    count = len(data.x_train)
    largest = float(torch.linalg.eigvalsh(tangent)[-1]) * count / len(points)
    rate = largest / physical_temperature(spec)
    rate += sampler.dynamics == "langevin"
    if not rate < math.inf:
        raise CampaignError("the tangent kernel is not finite; look at the data")
    if sampler.step_size * rate > STABLE_STEP:
        raise CampaignError(
            f"sampler.step_size is {sampler.step_size:g}, beyond stability: the fastest mode of "
            f"{count} training points relaxes at the rate {rate:.3g}, and twice the step is taken, "
            f"too; give at most {STABLE_STEP / rate:.2g}"
        )
