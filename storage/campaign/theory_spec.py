"""Names of the theories that a campaign may ask for, by what their records say."""

from storage.campaign.theories import names

# Of an ensemble: given its data, or averaged over all data that a single-index target can have.
ADAPTIVE_THEORIES = names(lambda theory: theory.learns)  # of features that are learned
PRIOR_THEORIES = names(lambda theory: "observe.correlators" in theory.needs)  # of no data
TRAJECTORY_THEORIES = names(lambda theory: theory.times == "only")  # of networks in time
PARTICLE_THEORIES = names(lambda theory: theory.particles)  # whose numbers have errors
GIVEN_THEORIES = names(lambda theory: theory.given == "data")
AVERAGED_THEORIES = names(lambda theory: theory.given == "average")

THEORIES = names()


def group_name(theory: str) -> str:
    """The group of a theory; a plug-in's is my_mod_predict for my.mod:predict."""
    return f"theory/{theory.replace('.', '_').replace(':', '_')}"
