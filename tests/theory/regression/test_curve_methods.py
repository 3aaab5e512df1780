"""Which way to a learning curve is taken: the cheapest, as far as digits allow."""

import numpy as np
import pytest

from theory.regression.curve_methods import Choice, choose, eigen_bytes, eigen_seconds

LINEAR = [500 * (place + 1) for place in range(20)]
RIDGES = [1e-1, 1e-2, 1e-3, 1e-5]


def chosen(points=10_000, sizes=LINEAR, ridges=RIDGES, **settings) -> Choice:
    return choose(points, sizes, ridges, **({"scale": 1.0, "replacement": False} | settings))


def test_large_curves_take_single_precision_where_the_ridge_allows_it():
    assert chosen().methods == ("single",) * 4
    mixed = chosen(ridges=[1e-1, 1e-2, 1e-8, 1e-3, 1e-5])
    assert mixed.methods == ("single", "single", "double", "single", "single")
    assert mixed.bytes == pytest.approx(chosen(ridges=[1e-8]).bytes)


def test_what_counts_is_the_ridge_beside_the_kernel():
    assert chosen(ridges=[1e-5] * 3, scale=1e2).methods == ("double",) * 3
    assert chosen(ridges=[1e-8] * 3, scale=1e-3).methods == ("single",) * 3


def test_small_curves_keep_their_digits():
    assert chosen(points=719, sizes=[25, 50, 100, 200], ridges=[0.125]).methods == ("double",)
    assert set(chosen(points=4000, sizes=[1000, 2000]).methods) <= {"double", "spectrum"}


def test_many_ridges_at_one_size_share_a_spectrum():
    many = np.geomspace(1e-6, 1, 40).tolist()
    assert set(chosen(sizes=[10_000], ridges=many).methods) == {"spectrum"}
    # But every size needs a spectrum of its own, and one factor serves them all.
    assert "spectrum" not in chosen(ridges=many).methods


@pytest.mark.parametrize("ridges", [RIDGES[:1], RIDGES, [1e-8], np.geomspace(1e-6, 1, 60).tolist()])
@pytest.mark.parametrize("replacement", [False, True])
def test_more_work_never_costs_less(ridges, replacement):
    settings = {"ridges": ridges, "replacement": replacement}
    less = chosen(sizes=[500, 1000, 2000], **settings)
    assert less.seconds > 0
    assert chosen(sizes=[500, 1000, 4000], **settings).seconds > less.seconds
    assert chosen(sizes=[500, 1000, 2000], points=20_000, **settings).seconds > less.seconds
    assert chosen(sizes=[500, 1000, 2000], **settings | {"ridges": [*ridges, 2.0]}).seconds >= (
        less.seconds
    )


def test_a_float64_path_holds_one_matrix():
    """The kernel of the pool is a file; the factor is all that an order keeps beside it."""
    assert 8 * 10_000**2 < chosen(ridges=[1e-8]).bytes < 8 * 10_000**2 + 2e8
    assert eigen_bytes(10_000) == 3 * 8 * 10_000**2
    assert eigen_seconds(10_000) > 5 * chosen().seconds
