"""Names of the theories that a campaign may ask for, by what they are given."""

from storage.regression_spec import REGRESSION_THEORIES

# Of an ensemble: given its data, or averaged over all data that a single-index target can have.
GIVEN_THEORIES = ("nngp", "kernel_scaling", "scale_mixture")
AVERAGED_THEORIES = ("gfl", "order_parameter", "gmfl")
ENSEMBLE_THEORIES = (*GIVEN_THEORIES, *AVERAGED_THEORIES)

THEORIES = (*ENSEMBLE_THEORIES, *REGRESSION_THEORIES)
