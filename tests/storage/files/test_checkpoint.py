"""A checkpoint comes back bit by bit, or not at all."""

import io
import pickle
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from storage.files.checkpoint import CorruptCheckpoint, load, save
from storage.files.objects import Objects

NAME = "checkpoints/ensemble/cell/d0000-b0000-s0001"
STATE = {
    "position": np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4),
    "counts": np.arange(5, dtype=np.uint64) + 2**63,
    "step": np.array(17),
    "file": np.asfortranarray(np.eye(3)),
    "empty": np.zeros((0, 2)),
}
ARRAYS = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.uint64, np.int8, np.bool_, np.complex64]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)


@pytest.fixture
def place(tmp_path) -> Objects:
    return Objects(str(tmp_path))


def same(found: dict[str, np.ndarray] | None, wanted: dict[str, np.ndarray]) -> bool:
    return found is not None and {
        key: (array.dtype, array.shape, array.tobytes()) for key, array in found.items()
    } == {key: (array.dtype, array.shape, array.tobytes()) for key, array in wanted.items()}


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), ARRAYS, max_size=4))
def test_arrays_come_back_bit_by_bit(tmp_path_factory, arrays):
    place = Objects(str(tmp_path_factory.mktemp("checkpoint")))
    digest = save(place, NAME, arrays)
    assert same(load(place, NAME, digest), arrays)
    assert same(load(place, NAME, None), arrays)


def test_equal_arrays_have_equal_digests(place):
    digest = save(place, "a", STATE)
    assert save(place, "b", dict(reversed(STATE.items()))) == digest
    assert save(place, "c", STATE | {"step": np.array(18)}) != digest


def test_a_checkpoint_that_is_not_there_is_none(place):
    assert load(place, NAME, None) is None
    assert load(place, NAME, "0" * 64) is None


@pytest.mark.parametrize(
    "array", [np.array([{}], dtype=object), np.zeros(2, dtype=[("x", object)])], ids=["plain", "in"]
)
def test_objects_are_refused(place, array):
    with pytest.raises(ValueError, match="Python objects in 'bad'"):
        save(place, NAME, {"good": np.zeros(3), "bad": array})
    assert load(place, NAME, None) is None


class Trap:
    """Raises when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("a checkpoint was unpickled",)


def npz_with_a_pickle() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, trap=np.array([Trap()], dtype=object), allow_pickle=True)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data", [b"", b"torn", pickle.dumps(Trap()), npz_with_a_pickle()], ids=range(4)
)
def test_what_holds_no_arrays_is_refused_and_never_unpickled(place, data):
    place.put(NAME, data)
    with pytest.raises(CorruptCheckpoint, match=r"^found .*hold no arrays.*verify --repair[^\n]*$"):
        load(place, NAME, None)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_damage_passes_a_digest(tmp_path_factory, data):
    place = Objects(str(tmp_path_factory.mktemp("checkpoint")))
    digest = save(place, NAME, STATE)
    good = place.get(NAME)
    assert good
    at = data.draw(st.integers(0, len(good) - 1))
    flip = data.draw(st.integers(1, 255))
    torn = data.draw(st.booleans())
    place.put(NAME, good[:at] if torn else good[:at] + bytes([good[at] ^ flip]) + good[at + 1 :])
    with pytest.raises(CorruptCheckpoint, match=f"wanted {digest[:12]}"):
        load(place, NAME, digest)
    with suppress(
        CorruptCheckpoint
    ):  # without a digest damage may go unseen, and is no other error
        load(place, NAME, None)
