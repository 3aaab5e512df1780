"""From a campaign to its work: the sweep, cells, their identities, and the shards of each."""
