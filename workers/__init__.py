"""The numerical work of one shard: data, networks, samplers, regression; cluster/ knows Ray."""
