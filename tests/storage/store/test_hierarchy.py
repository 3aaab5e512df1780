"""Groups and arrays that are made without Zarr are those that Zarr would make, byte for byte."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import ZstdCodec

from storage.arrays.nodes import PLAIN
from storage.errors import CampaignError
from storage.files.objects import Objects
from storage.store import hierarchy
from storage.store.sound import Sound
from support.driving import contents

TEXT = np.dtypes.StringDType()
DTYPES = [*map(np.dtype, ("f8", "f4", "u1", "i8", "i4", "bool")), TEXT]
SHAPES = [((3, 2), (1, 2)), ((), ()), ((5,), (2,)), ((0, 3), (1, 3)), ((4, 3, 2), (2, 2, 2))]
ATTRIBUTES = {"long_name": "Größe", "units": "1", "some": [1, 2.5]}
PARTS = [np.s_[1], np.s_[1:3, 1], np.s_[..., 0], np.s_[3, :, 1], np.s_[-1, 0, 0], np.s_[[0, 2]]]

pytestmark = pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")


@pytest.fixture
def ours(tmp_path):
    return hierarchy.root(Sound(Objects(str(tmp_path / "ours")), None))


@pytest.fixture
def zarrs(tmp_path):
    return zarr.open_group(tmp_path / "zarrs", mode="w")


def values(shape, dtype, seed=1):
    """Some of them fill values, so that some chunks hold nothing else."""
    drawn = np.random.default_rng(seed).integers(0, 2, shape)
    if dtype.kind != "T":
        return drawn.astype(dtype)
    return np.asarray(np.array(["", "é"], dtype=object)[drawn], dtype=TEXT)


def made(group, name, shape, chunks, dtype):
    dims = tuple("abcd"[: len(shape)])
    if isinstance(group, hierarchy.Group):
        return group.create_array(name, shape, chunks, dtype, dims, ATTRIBUTES)
    return group.create_array(
        name,
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        fill_value={"f": np.nan, "T": ""}.get(dtype.kind, 0),
        dimension_names=dims,
        compressors=[ZstdCodec(level=1, checksum=True)],
        attributes=ATTRIBUTES,
    )


def all_files(place: Path) -> dict[str, bytes]:
    return contents(str(place))


def test_the_bytes_are_those_of_zarr(ours, zarrs, tmp_path):
    for dtype in DTYPES:
        for shape, chunks in SHAPES:
            for root in (ours, zarrs):
                name = f"{dtype.kind}{dtype.itemsize}_{len(shape)}_{sum(shape)}"
                array = made(root.require_group("theory/own"), name, shape, chunks, dtype)
                array[...] = values(shape, dtype)
    for group in (ours.group("theory"), zarrs["theory"]):
        group.update_attributes({"more": 1})
    ours.publish()
    zarr.consolidate_metadata(zarrs.store)
    found, expected = all_files(tmp_path / "ours"), all_files(tmp_path / "zarrs")
    assert found.keys() == expected.keys()
    roots = [json.loads(files.pop("zarr.json")) for files in (found, expected)]
    assert roots[0] == roots[1]  # where Zarr lists what is below in the order of the folder
    assert [name for name in expected if found[name] != expected[name]] == []


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_parts_are_read_and_written_as_by_zarr(dtype, ours, zarrs, tmp_path):
    arrays = [made(root, "own", (4, 3, 2), (2, 2, 2), dtype) for root in (ours, zarrs)]
    for part in PARTS:
        new = values(np.empty((4, 3, 2))[part].shape, dtype, seed=2)
        for array in arrays:
            if isinstance(part, list) and not isinstance(array, hierarchy.Array):
                array.oindex[part] = new
            else:
                array[part] = new
        found = np.asarray(arrays[0][part])
        assert found.shape == new.shape
        assert np.array_equal(found, new)
    assert all_files(tmp_path / "ours") == all_files(tmp_path / "zarrs") | {
        "zarr.json": all_files(tmp_path / "ours")["zarr.json"]  # that of ours says what is below
    }


def test_a_coordinate_is_that_of_zarr(ours, zarrs, tmp_path):
    grown = np.arange(5.0)
    array = ours.create_array("x", (3,), (4,), grown.dtype, ("x",), {}, PLAIN)
    array[...] = grown[:3]
    array.resize((5,))
    array[3:] = grown[3:]
    other = zarrs.create_array(
        "x", shape=(5,), chunks=(4,), dtype="f8", fill_value=np.nan, dimension_names=("x",)
    )
    other[...] = grown
    assert all_files(tmp_path / "ours/x") == all_files(tmp_path / "zarrs/x")


def test_names_and_kinds(ours):
    ours.require_group("theory/own")
    theory = ours.group("theory")
    made(theory, "mean", (2,), (2,), DTYPES[0])
    assert list(ours) == ["theory"]
    assert list(theory) == ["mean", "own"]
    assert [name for name, _ in theory.groups()] == ["own"]
    assert [name for name, _ in theory.arrays()] == ["mean"]
    assert "theory/own" in ours
    assert "own" not in ours
    assert ours.get("own") is None
    for name in ("theory/none", "theory/own"):
        with pytest.raises(KeyError, match=name):
            ours[name]
    for name in ("theory/none", "theory/mean"):
        with pytest.raises(KeyError, match=name):
            ours.group(name)


def test_what_lies_in_no_group_is_not_shown(ours, tmp_path):
    for name in ("left", "kept"):
        made(ours.require_group(f"{name}/below"), "own", (2,), (2,), DTYPES[0])
    (tmp_path / "ours/left/zarr.json").unlink()
    assert ours.paths() == ["kept", "kept/below", "kept/below/own"]
    ours.publish()
    assert set(zarr.open_group(tmp_path / "ours", mode="r")) == {"kept"}


def test_damage_is_one_line(ours, tmp_path):
    array = made(ours, "own", (2,), (2,), DTYPES[0])
    array[...] = [1, 2]
    (tmp_path / "ours/own/c/0").write_bytes(b"no chunk")
    with pytest.raises(CampaignError, match=r"own/c/0") as said:
        array[...]
    assert "\n" not in str(said.value)
    with pytest.raises(CampaignError, match=r"own/c/0") as said:
        array[0] = 3
    assert "\n" not in str(said.value)
    (tmp_path / "ours/own/zarr.json").write_bytes(b"{")
    with pytest.raises(CampaignError, match=r"own/zarr\.json") as said:
        ours["own"]
    assert "\n" not in str(said.value)
