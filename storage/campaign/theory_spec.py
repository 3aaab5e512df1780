"""Names of the theories that a campaign may ask for, by what they are given."""

from storage.campaign.regression_spec import REGRESSION_THEORIES

# Of an ensemble: given its data, or averaged over all data that a single-index target can have.
ADAPTIVE_THEORIES = ("adaptive", "vga", "equations_of_state")  # of features that are learned
PRIOR_THEORIES = ("width_corrections", "exact_prior")  # of networks that no data have touched
TRAJECTORY_THEORIES = ("gradient_flow", "volterra", "mean_field")  # of networks in time
PARTICLE_THEORIES = ("mean_field",)  # whose numbers have errors of their own
GIVEN_THEORIES = (
    "nngp", "kernel_scaling", "scale_mixture", *ADAPTIVE_THEORIES, *PRIOR_THEORIES,
    *TRAJECTORY_THEORIES,
)  # fmt: skip
AVERAGED_THEORIES = ("gfl", "order_parameter", "gmfl")
ENSEMBLE_THEORIES = (*GIVEN_THEORIES, *AVERAGED_THEORIES)

THEORIES = (*ENSEMBLE_THEORIES, *REGRESSION_THEORIES)


def group_name(theory: str) -> str:
    """The group of a theory; a plug-in's is my_mod_predict for my.mod:predict."""
    return f"theory/{theory.replace('.', '_').replace(':', '_')}"
