"""R-hat and effective sample sizes are those of ArviZ."""

import warnings

import numpy as np
import pytest

from pipelines.analysis import mixing


def chains(kind: str, count: int, draws: int) -> np.ndarray:
    """Three quantities of chains that mix well, slowly, not at all, or of few values."""
    rng = np.random.default_rng([count, draws, *kind.encode()])
    noise = rng.standard_normal((count, draws, 3))
    match kind:
        case "slow":
            for draw in range(1, draws):
                noise[:, draw] += 0.95 * noise[:, draw - 1]
        case "apart":
            noise += 5 * np.arange(count)[:, None, None]
        case "alternating":
            noise[:, ::2] = -np.abs(noise[:, ::2])
            noise[:, 1::2] = np.abs(noise[:, 1::2])
        case "words":
            return np.round(noise)
        case "heavy":
            return np.exp(5 * noise)
    return noise


@pytest.mark.parametrize("kind", ["good", "slow", "apart", "alternating", "words", "heavy"])
@pytest.mark.parametrize(("count", "draws"), [(2, 4), (3, 7), (4, 100), (8, 33)])
def test_the_numbers_are_those_of_arviz(kind, count, draws):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "\nArviZ is undergoing", FutureWarning)
        import arviz
    import xarray as xr

    values = chains(kind, count, draws)
    data = xr.Dataset({"x": (("chain", "draw", "quantity"), values)})
    with np.errstate(all="ignore"):
        expected = {
            mixing.rhat: arviz.rhat(data, method="rank"),
            mixing.ess_bulk: arviz.ess(data, method="bulk"),
            mixing.ess_tail: arviz.ess(data, method="tail"),
            mixing.mcse: arviz.mcse(data, method="mean"),
        }
        for found, theirs in expected.items():
            np.testing.assert_allclose(
                found(values), theirs["x"].values, rtol=1e-9, err_msg=found.__name__
            )


def test_what_is_no_number_or_never_varies():
    values = chains("good", 4, 20)
    values[1, 3, 0] = np.nan
    values[..., 1] = 7.0
    for found in (mixing.rhat, mixing.ess_bulk, mixing.ess_tail, mixing.mcse):
        known = np.isfinite(found(values))
        assert not known[0]
        assert known[2]
    assert mixing.ess_bulk(values)[1] == 80
    assert np.isnan(mixing.rhat(values)[1])
    assert np.isnan(mixing.rhat(values[:, :3])).all()
