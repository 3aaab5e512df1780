"""The numerical work of one shard: data, networks, samplers, regression; remote.py knows Ray."""
