"""The arrays of a store: variables, dimensions, coordinates, and the chunks of each shard."""
