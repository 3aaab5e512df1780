"""Random networks whose signals leave what their numbers hold, told before any is drawn.

torch is imported where it is used: specs without such networks are checked without.
"""

from storage.campaign.plugins import Plugins
from storage.campaign.resolved import Sampled
from storage.errors import CampaignError
from workers.data.dataset import Dataset
from workers.ensemble.infinite_width import kernel_at

FEW = 16  # points that are looked at


def check_signal(spec: Sampled, data: Dataset, plugins: Plugins) -> None:
    """Raise CampaignError where outputs of a prior have more variance than their numbers hold.

    It is that of infinite width, at the first test points; kernels are of the same size.
    """
    network = spec.network
    if spec.sampler.record.law != "prior" or network.architecture != "fcn":
        return
    import torch

    from theory.kernels.fully_connected import nngp

    precision = spec.sampler.precision
    limit = torch.finfo(getattr(torch, precision)).max
    points, unknown = data.x_test[:FEW], "random networks are not finite"
    kernel = kernel_at(nngp, points, spec, plugins, unknown)
    variance = float(kernel.diagonal().max())
    if not variance < limit:
        raise CampaignError(
            f"outputs of random networks have variance {variance:.3g}, and {precision} ends at "
            f"{limit:.2g}; take fewer layers or smaller weights"
        )
