"""Which shard runs next and where: a pool of lanes, and Ray."""
