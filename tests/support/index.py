"""A campaign on a single-index problem, with the theories that average over data."""

TEXT = """
version: 1
name: index
data: {source: single_index, dimension: 30, train: 60, test: 40, teacher: {1: 1.0, 3: -0.2}}
network: {activation: erf, width: 64, weight_variance: [0.5, 8], scaling: mean_field, chi: 64}
sampler: {scheme: ula, temperature: 6.4, step_size: 0.1, warmup: 2, draws: 100, segment: 50,
          step_check: false}
ensemble: {datasets: 2, chains: 8, block: 4}
observe: {points: 12, kernels: false}
theories: [gfl, order_parameter, gmfl]
sweep: {size: {data.train: [60, 240]}, epsilon: {data.teacher.3: [-0.2, 0.1]}}
"""
