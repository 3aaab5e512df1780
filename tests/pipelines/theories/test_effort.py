"""Equations that are not solved are given up after a bounded effort, and it is told."""

import pytest

from pipelines.theories import averaged_theories
from storage.planning.plan import plan
from storage.reading.document import parse
from theory.single_index import saddle_point

# Grids, secant steps on each (one at T and one for each failure), starts of Newton's method on
# each, and steps with the gradient and the value of F: what a cell that fails can cost at most.
GRIDS, SECANT, STARTS = 3, 9, 7
TEXT = """
version: 1
name: extreme
data: {source: abs_index, dimension: 6, train: 12, test: 8, epsilon: 10}
network: {activation: relu, width: 8, weight_variance: [1, 2], scaling: mean_field, chi: 4}
sampler: {scheme: ula, temperature: 0.5, step_size: 0.1, warmup: 2, draws: 100, segment: 50,
          step_check: false}
ensemble: {datasets: 2, chains: 4, block: 4}
theories: [order_parameter]
"""


@pytest.mark.slow
def test_what_is_not_solved_is_given_up_after_a_bounded_effort(monkeypatch):
    calls: list[int] = []
    derivatives = saddle_point._derivatives

    def counted(neurons, point):
        calls.append(len(neurons.target))
        return derivatives(neurons, point)

    monkeypatch.setattr(saddle_point, "_derivatives", counted)
    planned = plan(parse(TEXT))
    found, reasons = averaged_theories.attempted("order_parameter", planned.cells)
    assert reasons.tolist() == ["its equations are not solved to their tolerance"]
    assert found["learnability"].isnan().all()
    assert len(calls) <= GRIDS * SECANT * STARTS * (saddle_point.STEPS + 1)
