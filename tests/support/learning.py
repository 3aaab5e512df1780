"""A network that learns, whose curvature grows while it does."""

import torch

from storage.campaign.plugins import Plugins
from support.blocks import data_of
from workers.ensemble.problem import Problem
from workers.models import network_of
from workers.philox import Noise

# A network in strong mean-field scaling, which learns until it is three times as stiff.
LEARNS = """
version: 1
name: learns
data: {source: single_index, dimension: 10, train: 60, test: 100, teacher: {1: 1.0, 3: 0.3}}
network: {activation: erf, width: 40, weight_variance: [1, 2], scaling: mean_field, chi: 20}
sampler: {scheme: baoab, step_size: auto, friction: 1, temperature: 0.4, warmup: 400, draws: 20,
  thin: 1, segment: 10}
ensemble: {datasets: 1, chains: 6, block: 6}
observe: {points: 5, histograms: false, kernels: false}
"""


def normals(size, stream, chains=6):
    return Noise(3, range(chains), stream)(0, (size,), torch.float64)


def problem_of(spec):
    data = data_of(spec)
    x, y = torch.as_tensor(data.x_train), torch.as_tensor(data.y_train)
    return Problem(spec, network_of(spec, x.shape[1], Plugins()), x, y)
