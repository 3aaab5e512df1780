"""The one exception that a user is meant to see."""


class CampaignError(Exception):
    """What a user can put right, in one line: what was found, what was wanted, what to do."""
