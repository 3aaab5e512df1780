"""Where the numbers of a shard are computed: on which device, by what, in which graphs."""
