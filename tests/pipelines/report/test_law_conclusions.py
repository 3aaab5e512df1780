"""What is said of the exponents of kernels: of few cells each, of many the ends."""

import numpy as np
import xarray as xr

from pipelines.report.sentences.law_conclusions import MANY_CELLS, law_lines


def tree(spectral: list[float], target: list[float]) -> xr.DataTree:
    """Cells over temperatures 1, 2, ... with these exponents, of which errors are a tenth."""
    temperatures = [1.0 + place for place in range(len(spectral))]
    laws = ("cell", "law")
    made = {}
    for name, values in (("spectral_exponent", spectral), ("target_exponent", target)):
        both = np.repeat(np.array(values)[:, None], 2, axis=1)
        made |= {name: (laws, both), f"{name}_error": (laws, np.abs(both) / 10)}
    nothing = np.zeros((len(spectral), 2))
    made |= dict.fromkeys(("offset", "offset_error"), (laws, nothing))
    made["slope"] = (("cell", "ridge"), np.full((len(spectral), 1), np.nan))
    axis = ("cell", temperatures, {"long_name": "sampler.temperature"})
    coordinates = {"law": ["power", "zipf_mandelbrot"], "sampler_temperature": axis}
    found = xr.Dataset(made, coordinates)
    found.attrs["axes"] = {"temperature": {"sampler_temperature": temperatures}}
    return xr.DataTree.from_dict({"/exponents": found})


def test_of_few_cells_each_is_told():
    lines = list(law_lines(tree([0.5, 1.0], [0.2, 0.4])))
    assert [line.split(",")[0] for line in lines] == ["at χT = 1", "at χT = 2"]


def test_of_many_cells_the_ends_are_told_where_they_are_known():
    count = MANY_CELLS + 2
    spectral = [0.5, -1.0, 2.0, *[1.0] * (count - 3)]  # that of the second cell has no sum
    target = [0.3, 9.0, np.nan, *[0.4] * (count - 4), 0.8]
    assert list(law_lines(tree(spectral, target))) == [
        f"in {count - 1} cells kernel eigenvalues fall as k to minus 1 + α with α between "
        "0.50(5) at χT = 1 and 2.0(2) at χT = 3, squared coefficients of the target with β between "
        f"0.30(3) at χT = 1 and 0.80(8) at χT = {count}."
    ]


def test_exponents_that_nobody_knows_are_said_to_be_so():
    count = MANY_CELLS + 1
    (line,) = law_lines(tree([1.0] * count, [np.nan] * count))
    assert line.endswith("squared coefficients of the target with β unknown.")
