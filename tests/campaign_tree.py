"""A labelled tree in the shape of an opened store, with plausible numbers that no one sampled."""

import numpy as np
import xarray as xr

from storage.coordinates import ensemble_coordinates, regression_coordinates
from storage.plan import plan
from storage.schema import (
    Variable,
    ensemble_sizes,
    ensemble_variables,
    regression_sizes,
    regression_variables,
)
from storage.spec import Campaign


def tree(spec: Campaign, seed: int = 1) -> xr.DataTree:
    """The groups of a finished campaign, its cells along `cell`."""
    rng = np.random.default_rng(seed)
    groups = {}
    if spec.ensemble is not None:
        groups |= _ensemble(spec, rng)
    if spec.regression is not None:
        groups |= _regression(spec, rng)
    attrs = {"title": spec.title or spec.name, "campaign": spec.name, "identity": "0" * 64}
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), **groups})


def _dataset(variables: dict[str, Variable], sizes, coordinates, make, axes) -> xr.Dataset:
    arrays = {
        name: (
            v.dims,
            make(name, tuple(sizes[dim] for dim in v.dims)),
            {"long_name": v.long_name, "units": v.units, **v.attrs},
        )
        for name, v in variables.items()
    }
    coords = {name: (c.dims, c.values, dict(c.attrs)) for name, c in coordinates.items()}
    return xr.Dataset(arrays, coords, attrs={"axes": axes})


def _axes(spec: Campaign) -> dict:
    return {
        axis: {path.replace(".", "_"): values for path, values in settings.items()}
        for axis, settings in spec.sweep.items()
    }


def _ensemble(spec: Campaign, rng: np.random.Generator) -> dict[str, xr.Dataset]:
    planned = plan(spec)
    sizes = ensemble_sizes(planned)
    coordinates = ensemble_coordinates(planned, sizes)
    widths = coordinates["width"].values
    per_cell = 1 / widths

    def make(name: str, shape: tuple[int, ...]) -> np.ndarray:
        inverse = per_cell.reshape(-1, *[1] * (len(shape) - 1))
        noise = rng.standard_normal(shape)
        if name == "loss":
            return 5.0 + noise
        if name == "weight_norm":
            return 0.5 + 4 * inverse + 0.05 * noise
        if name == "learnability":
            return 0.62 + 2 * inverse + 0.02 * noise
        if name == "histogram":
            return _counts(shape, widths, rng)
        if name == "moment":
            return _moments(shape, widths, rng)
        if name == "label":
            return np.sign(noise)
        if name.startswith("kernel"):
            kernel = _kernel(shape[-1])
            return np.broadcast_to(kernel + inverse * 0.5, shape) + 0.01 * inverse * noise
        if name == "finished":
            return np.ones(shape, dtype=np.uint8)
        if name == "status":
            return np.zeros(shape, dtype=np.uint8)
        return noise

    group = _dataset(ensemble_variables(spec), sizes, coordinates, make, _axes(spec))
    points = sizes["probe"]
    kernel = np.broadcast_to(_kernel(points), (len(widths), sizes["dataset"], 1, points, points))
    names = ("cell", "dataset", "layer", "probe", "probe_2")
    nngp = xr.Dataset({"kernel": (names, kernel)}, group.coords, attrs=group.attrs)
    return {"/ensemble": group, "/theory/nngp": nngp}


def _kernel(points: int) -> np.ndarray:
    x = np.sort(np.random.default_rng(0).standard_normal((points, 6)), axis=0)
    return (x @ x.T / 6 + np.eye(points)) / 2


def _deviation(widths: np.ndarray) -> np.ndarray:
    return np.sqrt(1 + 8 / widths)


def _counts(shape: tuple[int, ...], widths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    edges = np.linspace(-6, 6, shape[-1] + 1)
    counts = np.zeros(shape, dtype=np.uint64)
    for cell, (width, deviation) in enumerate(zip(widths, _deviation(widths), strict=True)):
        z = (edges[1:] + edges[:-1]) / 2 / deviation
        density = np.exp(-(z**2) / 2)
        counts[cell] = rng.poisson(35 * width * density / density.sum(), shape[1:])
    return counts


def _moments(shape: tuple[int, ...], widths: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    moments = np.zeros(shape)
    for cell, (width, deviation) in enumerate(zip(widths, _deviation(widths), strict=True)):
        draws = deviation * rng.standard_normal((*shape[1:-1], 35 * min(width, 64)))
        for order in range(shape[-1]):
            moments[cell, ..., order] = (draws**order).sum(-1)
    return moments


def _regression(spec: Campaign, rng: np.random.Generator) -> dict[str, xr.Dataset]:
    planned = plan(spec)
    sizes = regression_sizes(planned)
    train = np.array(spec.regression.train)[:, None] * np.ones(sizes["ridge"])

    def make(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name == "finished":
            return np.ones(shape, dtype=np.uint8)
        if name == "eigenvalue":
            return np.broadcast_to((1.0 + np.arange(shape[-1])) ** -1.5, shape)
        if shape[-1] == sizes["ridge"] and len(shape) == 4:
            return _curve(train, name) * np.exp(0.1 * rng.standard_normal(shape))
        return rng.random(shape)

    group = _dataset(
        regression_variables(spec), sizes, regression_coordinates(planned, sizes), make, {}
    )
    theory = group.mean("repeat").drop_vars("finished")
    for name in theory.data_vars:
        if theory[name].dims == ("cell", "train", "ridge"):
            theory[name].values[:] = _curve(train, str(name))
    beyond = np.array(spec.regression.train) > 0.3 * spec.regression.pool
    theory = theory.assign(beyond_pool=("train", beyond.astype(np.uint8)))
    return {"/regression": group, "/theory/effective_ridge": theory.drop_vars("test_error")}


def _curve(train: np.ndarray, name: str) -> np.ndarray:
    scale = {"train_error": 0.02, "posterior_variance": 0.3}.get(name, 1.0)
    return scale * (train / 20.0) ** -0.5
