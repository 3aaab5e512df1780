"""A campaign, or a cell of it, of which it is known what it has: none of that is optional."""

# A section that is there is a narrower field than one that may be, and nothing is ever set.
# pyright: reportGeneralTypeIssues=false, reportIncompatibleVariableOverride=false

from storage.campaign.network_spec import Kernel, Network
from storage.campaign.sampler_spec import Ensemble, Sampler
from storage.campaign.spec import Campaign, Regression


class Sampled(Campaign):
    """One with an ensemble."""

    network: Network
    sampler: Sampler
    ensemble: Ensemble


class Regressed(Campaign):
    """One with a regression."""

    regression: Regression

    @property
    def kernel(self) -> Kernel:
        """What fixes the kernel of the regression; the width of a network does not."""
        if self.regression.kernel is not None:
            return self.regression.kernel
        assert self.network is not None  # by the rules of a campaign
        return Kernel.model_validate(self.network.model_dump(include=set(Kernel.model_fields)))


def sampled(spec: Campaign) -> Sampled:
    """The campaign, which has an ensemble and, as its rules want, what samples it."""
    if isinstance(spec, Sampled):
        return spec
    assert spec.network is not None
    assert spec.sampler is not None
    assert spec.ensemble is not None
    return Sampled.model_construct(spec.model_fields_set, **dict(spec))


def regressed(spec: Campaign) -> Regressed:
    """The campaign, which has a regression."""
    if isinstance(spec, Regressed):
        return spec
    assert spec.regression is not None
    return Regressed.model_construct(spec.model_fields_set, **dict(spec))
