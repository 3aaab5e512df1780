"""Roots of many functions between two ends."""

import torch

from theory.numerics.bracket import root


def test_roots_of_many_functions():
    values = torch.linspace(0.01, 50, 500).double()
    high = torch.full_like(values, 10.0)
    cubes = root(lambda x: x**3 - values, 0 * high, high)
    torch.testing.assert_close(cubes, values ** (1 / 3), rtol=1e-13, atol=1e-14)
    falling = root(lambda x: values - x.exp(), -high, high)
    torch.testing.assert_close(falling, values.log(), rtol=1e-13, atol=1e-13)


def test_no_root_is_nan():
    found = root(lambda x: x - torch.tensor([-1.0, 0.5]), torch.zeros(2), torch.ones(2))
    assert found.isnan().tolist() == [True, False]


def test_functions_may_be_infinite_at_an_end_and_zero_at_another():
    low, high = torch.zeros(2).double(), torch.ones(2).double()
    found = root(lambda x: torch.stack([1 / x[0] - 2, x[1] - 1]), low, high)
    assert found.tolist() == [0.5, 1.0]


def test_each_element_has_its_function_where_others_are_found_before():
    wanted = torch.linspace(-30, 0, 600, dtype=torch.float64).reshape(20, 30)
    found = root(lambda x: x.exp() - wanted.exp(), torch.full_like(wanted, -40), wanted + 9)
    torch.testing.assert_close(found, wanted, rtol=1e-14, atol=1e-14)
    assert root(lambda x: x, wanted[:0], wanted[:0]).shape == (0, 30)
