"""Clocks that are set while a campaign runs lose nothing and change nothing that is stored."""

import random
import time

import pytest

from support.driving import unlike
from support.tiny import REGRESSION, SPEC, plain_report
from support.what_is_stored import stored

pytestmark = pytest.mark.slow

DAYS = 86400.0


class Set:
    """A clock that somebody sets, back or forward, each time that it is looked at."""

    def __init__(self, seed: int) -> None:
        self._true, self._draw = time.time, random.Random(seed)

    def __call__(self) -> float:
        return self._true() + self._draw.uniform(-3, 3) * DAYS


@pytest.mark.parametrize("seed", [1, 2])
def test_clocks_that_are_set_meanwhile_change_nothing(seed, finitewidth, tmp_path, monkeypatch):
    plain_report(monkeypatch)
    (tmp_path / "tiny.yaml").write_text(SPEC + REGRESSION)
    run = ("run", "tiny.yaml", "--executor", "inline", "--store")
    assert finitewidth(*run, "steady")[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", Set(seed))
        status, _, err = finitewidth(*run, "set")
        assert (status, "Traceback" in err) == (0, False), err
        (store,) = (tmp_path / "set").iterdir()
        for command in ("status", "verify", "predict"):
            assert finitewidth(command, store)[0] == 0
        assert finitewidth(*run, "set")[0] == 0
    assert unlike(stored(tmp_path / "steady"), stored(tmp_path / "set")) == []
