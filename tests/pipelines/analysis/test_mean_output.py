"""A theory that is right is rejected as often as is said, however near the target it comes.

Chains whose mean outputs scatter in a few directions around what a theory predicts, at a distance
from the target that is given in units of the noise of the mean over chains.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from pipelines.analysis import joint_tests
from pipelines.analysis.chains import Chains
from pipelines.analysis.comparison import Comparison
from pipelines.analysis.fits import _over_datasets
from pipelines.analysis.mean_output import MeanOutput, noise
from pipelines.analysis.measured import measure
from theory.statistics import joint

POINTS, NOISE = 40, 0.1
NAMES = ("learnability target", "mse_mean", "predictive_variance", "weight_norm")
ALPHA = 1e-6  # of a test of a rate: below the share of seeds that fail by chance, one in 10⁴ in all


def drawn(rng, bias, chains, datasets, rank, *, wrong=0.0, silent=False) -> Comparison:
    """One cell: a theory right but for `wrong`, a shift in units of the noise across the target."""
    shape = (datasets, POINTS)
    y, roots = rng.normal(size=shape), NOISE * rng.normal(size=(datasets, rank, POINTS))
    spread = np.sqrt(np.square(roots).sum((1, 2)) / chains)[:, None]
    away = np.einsum("dr,drp->dp", rng.normal(size=(datasets, rank)), roots)
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-300)
    predicted = y + bias * spread * away
    across = rng.normal(size=shape)
    across -= (across * y).sum(1, keepdims=True) / (y * y).sum(1, keepdims=True) * y
    true = predicted + wrong * spread * across / np.linalg.norm(across, axis=1, keepdims=True)
    f = true[:, None] + rng.normal(size=(datasets, chains, rank)) @ roots
    group = {
        "label": y[None],
        "status": np.zeros((1, datasets, chains, 1)),
        "learnability": ((f * y[:, None]).sum(2) / (y * y).sum(1)[:, None])[None, ..., None, None],
        "output_mean": f[None, :, :, None],
        "output_square": np.square(f)[None, :, :, None]
        + 1
        + 0.1 * rng.normal(size=(1, datasets, chains, 1, 1)),
        "weight_norm": 1 + 0.1 * rng.normal(size=(1, datasets, chains, 1)),
    }
    found = [measure(Chains(group, 0, d, np.arange(chains), 1, 0)) for d in range(datasets)]
    output = MeanOutput.unknown(1, 1, datasets, chains)
    for d, one in enumerate(found):
        output.put((0, d), one.errors, (predicted - y)[d, None] * (np.nan if silent else 1))
    variance = 1 + np.square(roots).sum((1, 2)) / POINTS
    said = [(predicted * y).sum(1) / (y * y).sum(1), np.square(predicted - y).mean(1), variance,
            np.ones(datasets)]  # fmt: skip
    return Comparison(
        ("theory",), NAMES, np.array([False]),
        np.array([[one.estimate for one in found]]), np.array([[one.error for one in found]]),
        np.array([[one.units for one in found]]), np.full((1, datasets), chains),
        np.ones((1, datasets), bool), np.stack(said, 1)[None, None], output,
    )  # fmt: skip


def judged(found: Comparison) -> tuple[float, np.ndarray]:
    """The joint p-value, and that of each observable."""
    tested = joint_tests.tested(found, 0, 0)
    assert tested is not None
    return joint(tested.groups).p_value, _over_datasets(found).p_value[0, 0]


def as_often_as_said(p_values, level: float) -> bool:
    """Whether so many of the p-values below the level are what the binomial law allows."""
    p = np.asarray(p_values)
    return bool(stats.binomtest(int((p < level).sum()), len(p), level).pvalue > ALPHA)


@pytest.mark.slow
@pytest.mark.parametrize("bias", [0.0, 0.3, 1.0, 4.0])
@pytest.mark.parametrize("chains", [8, 16, 64])
@pytest.mark.parametrize(("datasets", "rank", "trials"), [(1, 2, 200), (3, 5, 70)])
def test_true_theories_are_rejected_as_often_as_is_said(datasets, rank, trials, chains, bias):
    rng = np.random.default_rng([datasets, chains, round(10 * bias)])
    found = [judged(drawn(rng, bias, chains, datasets, rank)) for _ in range(trials)]
    for level in (0.05, 0.01):
        assert as_often_as_said([p for p, _ in found], level)
        for observable in range(len(NAMES)):
            assert as_often_as_said([alone[observable] for _, alone in found], level)


@pytest.mark.parametrize("bias", [0.0, 0.3, 3.0])
def test_theories_that_are_wrong_by_ten_times_the_noise_are_rejected(bias):
    """Across the target, so that the learnability is right: alone where the error is within noise.

    The mean output is off by 10² times its variance; F(2, 30) above 40 has a p-value of 10⁻⁸.
    """
    rng = np.random.default_rng(round(10 * bias))
    for _ in range(20):
        _, alone = judged(drawn(rng, bias, 16, 1, 2, wrong=10.0))
        assert alone[NAMES.index("mse_mean")] < 1e-6


def test_far_from_the_target_all_of_a_wrong_error_is_seen_jointly():
    """What is wrong across the target and across the theory adds to the error in second order."""
    rng = np.random.default_rng(5)
    for _ in range(20):
        p, _ = judged(drawn(rng, 40.0, 64, 1, 5, wrong=40.0))
        assert p < 1e-6


def test_a_theory_without_a_mean_output_is_not_tested_on_its_error_jointly():
    tested = joint_tests.tested(drawn(np.random.default_rng(6), 0.3, 16, 1, 2, silent=True), 0, 0)
    assert tested is not None
    assert NAMES.index("mse_mean") not in tested.observables


def test_what_repeats_another_observable_is_tested_once():
    """Of the zero function the error is 1 - 2 times the learnability, in units of the target."""
    found = drawn(np.random.default_rng(7), 0.0, 16, 1, 40)
    assert found.output is not None
    errors = np.zeros((16, POINTS))
    y, f = np.ones(POINTS), np.random.default_rng(8).normal(size=(16, POINTS))
    errors[:] = f - y
    found.units[0, 0, :, 0] = f.mean(1)
    found.predicted[0, 0, 0, :2] = [0.0, 1.0]
    found.output.put((0, 0), errors, -y[None])
    tested = joint_tests.tested(found, 0, 0)
    assert tested is not None
    assert tested.observables.tolist() == [0, 2, 3]


@pytest.mark.parametrize("bias", [0.0, 1.0, 30.0])
def test_the_error_of_the_error_is_that_of_repetition(bias):
    """Near the target the jackknife has twice the variance; the root mean square is compared."""
    rng = np.random.default_rng(round(bias))
    found = [drawn(rng, bias, 16, 1, 40) for _ in range(400)]
    off = np.array([one.residual[0, 0, 0, 1] for one in found])
    said = np.array([one.error[0, 0, 1] for one in found])
    # Relative scatter of a mean square of n normal numbers is √(2/n); half of it of its root. The
    # larger of two estimates is on average a little above either.
    assert np.sqrt(np.square(off).mean() / np.square(said).mean()) == pytest.approx(1, abs=0.25)


def test_the_noise_of_the_mean_output_is_known_without_bias():
    rng, chains = np.random.default_rng(9), 8
    root = rng.normal(size=(3, POINTS))
    covariance = root.T @ root
    found = np.array([noise(rng.normal(size=(chains, 3)) @ root) for _ in range(2000)])
    size = chains * POINTS
    wanted = [covariance.trace() / size, np.square(covariance / size).sum()]
    assert (np.abs(found.mean(0) - wanted) < 5 * found.std(0) / np.sqrt(len(found))).all()


def test_the_closer_theory_has_the_lower_criterion_near_the_target():
    rng = np.random.default_rng(10)
    for _ in range(5):
        right = drawn(rng, 3.0, 64, 1, 5)
        assert right.output is not None
        y = rng.normal(size=POINTS)
        f = y + 0.3 * rng.normal(size=POINTS) + 0.1 * rng.normal(size=(64, POINTS))
        output = MeanOutput.unknown(2, 1, 1, 64)
        output.put((0, 0), f - y, np.stack([f.mean(0) - y, 1.5 * (f.mean(0) - y)]))
        both = replace(
            right,
            theories=("right", "wrong"),
            averaged=np.zeros(2, bool),
            predicted=np.repeat(right.predicted, 2, 0),
            output=output,
        )
        criterion = joint_tests.evaluate(both, _over_datasets(both))["criterion"][:, 0]
        assert criterion[0] < criterion[1] - 10


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("datasets", [1, 3])
@pytest.mark.parametrize("chains", [2, 3])
@pytest.mark.parametrize("rank", [1, 0], ids=["noisy", "constant"])
def test_few_chains_and_constant_outputs_raise_no_warning(chains, datasets, rank):
    """Where nothing is known it is nan, in silence; a third of four units is one observable."""
    found = drawn(np.random.default_rng(11), 0.0, chains, datasets, rank)
    over = _over_datasets(found)
    values = joint_tests.evaluate(found, over)
    if chains == 2:
        assert np.isnan(over.error[0, 0, NAMES.index("mse_mean")])
    if (chains, datasets, rank) == (3, 3, 1):
        assert np.isfinite(values["joint_p_value"]).all()
    if chains * datasets < 4:
        assert np.isnan(values["joint_p_value"]).all()
