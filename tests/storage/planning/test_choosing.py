"""`scheme: auto`: settled by what a cell is, and from then on the scheme that it names."""

import math

import pytest

from storage.campaign.activations import RECORDS
from storage.planning.choosing import FEW_INPUTS, MANY_INPUTS, choice, told
from storage.planning.identity import campaign_identity, cell_identity
from storage.planning.plan import plan
from storage.planning.sweep import grid, resolve
from storage.reading.document import validate
from support.example_specs import LINEAR, NETWORK, campaign
from workers.fused.network import KERNELS

AUTO = {"scheme": "auto", "temperature": 0.5, "warmup": 20, "draws": 6, "segment": 3}
FEW, MANY = {**LINEAR, "dimension": 3, "train": 50}, {**LINEAR, "dimension": 100, "train": 50}
STIFF = math.sqrt(50 * 2 / 0.5)  # with NETWORK's readout variance
BROAD, LESS_BROAD = math.ceil(FEW_INPUTS * STIFF), math.ceil(MANY_INPUTS * STIFF)
NARROW = BROAD - 1
DEEP = {"depth": 2, "weight_variance": [1, 1, 2]}
PATCHES = {"architecture": "cnn", "patches": 1}
NOTHING = {"histograms": False, "kernels": False}


def spec_of(data=FEW, sampler=AUTO, sweep=None, observe=None, **network):
    more = {"sweep": sweep} if sweep else {}
    more |= {"observe": observe} if observe else {}
    return validate(
        campaign(data, network={**NETWORK, **network}, sampler={**AUTO, **sampler}, **more)
    )


@pytest.mark.parametrize(
    ("scheme", "given"),
    [
        ("neurons", {"width": BROAD}),
        ("neurons", {"width": BROAD, "scaling": "mean_field", "chi": 9}),
        ("baoab", {"width": NARROW}),
        ("neurons", {"width": LESS_BROAD, "data": MANY}),
        ("baoab", {"width": LESS_BROAD - 1, "data": MANY}),
        ("baoab", {"width": BROAD, "activation": "sin"}),
        ("baoab", {"width": BROAD, "sampler": {"precision": "float64"}}),
        ("baoab", {"width": BROAD, **DEEP}),
        ("baoab", {"width": BROAD, "data": MANY, **PATCHES}),
        ("baoab", {"width": BROAD, "architecture": "my.mod:Net", "observe": NOTHING}),
    ],
)
def test_what_a_cell_is_names_its_scheme(scheme, given):
    spec = spec_of(**given)
    (cell,) = plan(spec).cells
    assert cell.spec.sampler.scheme == choice(spec).scheme == scheme
    assert cell.spec.sampler.step_size == "auto"
    named = spec_of(**{**given, "sampler": {
        **given.get("sampler", {}), "scheme": scheme, "step_size": "auto",
    }})  # fmt: skip
    # The same bits: noise is keyed by the identity of the cell.
    assert cell.identity == cell_identity(resolve(named, {}))
    assert campaign_identity(spec) != campaign_identity(named)


def test_the_activations_with_a_kernel_are_those_of_the_workers():
    assert {record.name for record in RECORDS if record.compiled} == set(KERNELS)


def test_cells_of_a_sweep_have_schemes_of_their_own():
    spec = spec_of(sweep={"width": {"network.width": [NARROW, BROAD, 4 * BROAD]}})
    planned = plan(spec)
    assert [cell.spec.sampler.scheme for cell in planned.cells] == ["baoab", "neurons", "neurons"]
    first, second = told([cell.spec for cell in planned.cells])
    assert first.startswith(f"baoab in 1 of 3 cells: N = {NARROW} is below 5 √(n σ_a²/T)")
    assert second.endswith("; and so on")
    # Of these, one has a bias that is checked.
    checked = {shard.cell.index for shard in planned.shards() if shard.kind == "check"}
    assert checked == {0}
    assert sum(planned.work.values()) == len(list(planned.shards()))
    assert len(list(grid(spec))) == 3
