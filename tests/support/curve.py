"""A regression that is stored in no time."""

REGRESSION = """
version: 1
name: curve
data: {source: linear, dimension: 5, train: 10, test: 10, label_noise: 0.2}
network: {activation: erf, width: 4, weight_variance: [1, 2]}
regression:
  train: [8, 20, 40]
  ridges: [0.1, 1.0]
  repeats: 5
  pool: 60
  sampling: with_replacement
  evaluate: [pool]
theories: [effective_ridge]
"""
