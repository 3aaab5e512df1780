"""One shard of a regression, with a quartic loss or with a decimated kernel as well."""
