"""What a user opens can be saved as netCDF and as Zarr, and reads back equal."""

import json

import numpy as np
import pytest
import xarray as xr

from storage.arrays.attributes import axes_of, encoded
from storage.backend.reader import open_campaign, open_raw

FORMATS = {
    "netCDF": ("to_netcdf", {"engine": "h5netcdf"}, "h5netcdf"),
    "Zarr": ("to_zarr", {"consolidated": True}, "zarr"),
}
# Readers of CF take the units of bounds from what they bound, and xarray writes them once.
BOUNDS = "bounds"


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("opened", [open_campaign, open_raw])
@pytest.mark.parametrize(("save", "options", "engine"), FORMATS.values(), ids=FORMATS)
@pytest.mark.slow
def test_every_group_reads_back_equal_alone_and_in_the_tree(
    partial, opened, save, options, engine, tmp_path
):
    tree = opened(partial.url).load()
    getattr(tree, save)(tmp_path / "tree", **options)
    with xr.open_datatree(tmp_path / "tree", engine=engine) as again:
        xr.testing.assert_equal(again.load(), tree)
        assert described(again) == described(tree)
    for place, group in enumerate(node.to_dataset() for node in tree.subtree):
        getattr(group, save)(tmp_path / f"{place}", **options)
        with xr.open_dataset(tmp_path / f"{place}", engine=engine) as again:
            xr.testing.assert_equal(again.load(), group)


def described(tree: xr.DataTree) -> dict[str, object]:
    """Attributes as text, since netCDF keeps lists of numbers as arrays."""
    found = {node.path: node.attrs for node in tree.subtree}
    found |= {
        f"{node.path}/{name}": variable.attrs
        for node in tree.subtree
        for name, variable in node.variables.items()
        if not str(name).endswith(BOUNDS)
    }
    return {
        path: {key: np.asarray(value).tolist() for key, value in attrs.items()}
        for path, attrs in found.items()
    }


def test_the_grid_is_text_that_says_the_axes(partial):
    attrs = partial.root.group("ensemble").attrs
    assert isinstance(attrs["axes"], str)
    tree = open_campaign(partial.url)
    assert tree["ensemble"].attrs["axes"] == attrs["axes"]
    for axis, settings in json.loads(attrs["axes"]).items():
        for name, values in settings.items():
            assert tree["ensemble"][name].dims == (axis,)
            assert tree["ensemble"][name].values.tolist() == values


def test_stores_that_hold_it_as_a_mapping_still_open(partial, store):
    for name in ("ensemble", "regression"):
        group = store.root.group(name)
        group.update_attributes({"axes": json.loads(group.attrs["axes"])})
    store.publish()
    xr.testing.assert_identical(open_campaign(store.url), open_campaign(partial.url))


PARTS = {
    "axes": {"size": {"network_width": [4, 8]}, "refined": {}},
    "nothing": {},
    "none": None,
    "truth": True,
    "words": ["a", "b"],
    "empty": [],
    "uneven": [[1], [2, 3]],
    "mixed": [1, "a"],
}
PLAIN = {"text": "σ²", "number": 3, "real": 0.5, "numbers": [1, 2], "array": np.arange(3.0)}


@pytest.mark.parametrize(("save", "options", "engine"), FORMATS.values(), ids=FORMATS)
def test_any_attribute_can_be_saved(save, options, engine, tmp_path):
    attrs = encoded(PARTS | PLAIN)
    assert {name: attrs[name] for name in PLAIN} == PLAIN
    assert {name: json.loads(attrs[name]) for name in PARTS} == PARTS
    getattr(xr.Dataset(attrs=attrs), save)(tmp_path / "saved", **options)
    with xr.open_dataset(tmp_path / "saved", engine=engine) as again:
        assert {name: json.loads(again.attrs[name]) for name in PARTS} == PARTS
        for name, value in PLAIN.items():
            np.testing.assert_array_equal(again.attrs[name], value)


def test_the_axes_of_a_group_are_found_in_both_forms():
    axes = {"size": {"network_width": [4, 8]}}
    assert axes_of({"axes": axes}) == axes_of(encoded({"axes": axes})) == axes
    assert axes_of(encoded({"axes": {}})) == {}
    assert axes_of({}) is None
