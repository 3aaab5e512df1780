"""The layout of three small campaigns, as stores on users' disks have it.

Names, types, chunks, codecs, dimensions and attributes of all groups and arrays, and the specs:
none of it depends on the machine. A change that makes this fail gives stores that exist another
layout: raise `SCHEMA_VERSION`, or keep it as it was.
"""

import hashlib

import pytest

from support.curve import REGRESSION
from support.driving import contents
from support.fake_ensemble import TEXT, WIDTHS, stored

CAMPAIGNS = {
    "an ensemble": (TEXT + WIDTHS, ()),
    "a regression": (REGRESSION, ()),
    "networks in time": (
        TEXT,
        (
            "sampler={scheme: trajectory, dynamics: langevin, temperature: 0.5, step_size: 0.01,"
            " times: {first: 0.1, ratio: 2}, warmup: 0, draws: 4, segment: 2}",
            "observe={points: 4, histograms: false, lags: [1]}",
            "theories=[volterra]",
        ),
    ),
}
DIGESTS = {
    "an ensemble": "04b5d14dbf391e92",
    "a regression": "6cb912668a343840",
    "networks in time": "519efecf7fc876da",
}


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_the_layout_is_what_it_was(name, tmp_path):
    text, settings = CAMPAIGNS[name]
    store, _ = stored(tmp_path / "store", text, settings)
    store.publish()
    found = hashlib.sha256()
    for path, content in contents(store.url).items():
        if path.endswith((".json", ".yaml")) and not path.startswith("provenance"):
            found.update(path.encode() + content)
    assert found.hexdigest()[:16] == DIGESTS[name]
