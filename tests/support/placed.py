"""A campaign of every scheme, small enough to follow each of its steps."""

TEXT = """
version: 1
name: placed
data: {source: single_index, dimension: 6, teacher: {1: 1.0, 3: 0.3}, train: 20, test: 30}
network: {depth: 1, width: 12, activation: erf, weight_variance: [1.0, 1.0], bias_variance: 0.1}
sampler: {scheme: baoab, temperature: 0.1, step_size: 0.05, friction: 0.2, warmup: 4, draws: 3,
  segment: 3}
ensemble: {datasets: 1, chains: 6, block: 6, seed: 1}
observe: {points: 8, histograms: true, kernels: true, overlaps: true, lags: [1, 2]}
"""
FREELY = "sampler.friction=null"
SCHEMES = {
    "baoab": [],
    "ula": [FREELY],
    "mala": [FREELY],
    "collapsed": [],
    "gibbs": ["sampler.moves=1"],
    "neurons": [FREELY, "network.width=2"],
    "exchange": ["sampler.ladder=[0.3, 1.0]"],
    "sgld": [FREELY, "sampler.batch=5"],
    "sgd": [FREELY, "sampler.batch=5"],
    "gd": [FREELY],
    "adam": [FREELY],
    "prior": [FREELY, "sampler.step_size=null", "sampler.warmup=0"],
}
