"""A bucket that fails for a moment is asked again; one that goes on failing is one line."""

import time
import warnings
from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest

from pipelines.engine import engine
from storage.errors import CampaignError
from storage.files import objects
from storage.files.objects import Objects
from storage.reading.document import parse
from storage.store.hierarchy import Group, root
from storage.store.sound import Sound
from storage.verification import verify
from support.failing_proxy import FAULTS, Proxy
from support.tiny import REGRESSION, SPEC, plain_report

pytestmark = pytest.mark.slow

VALUES = np.arange(64.0)


@pytest.fixture(scope="module")
def proxy():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = pytest.importorskip(
            "moto.server", reason="needs moto[server]", exc_type=ImportError
        )
    moto = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    proxy = Proxy(*moto.get_host_and_port())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", proxy.url)
        patch.setenv("AWS_ALLOW_HTTP", "true")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_TIMEOUT", "1s")
        import boto3

        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="campaigns")
        yield proxy
    proxy.shutdown()
    moto.stop()


@pytest.fixture
def bucket(proxy, request, monkeypatch) -> Objects:
    """A place that is sound, with an object and an array in it."""
    retries = {"max_retries": 3, "retry_timeout": timedelta(seconds=8)}
    monkeypatch.setattr(objects, "RETRIES", retries)
    monkeypatch.setattr(objects, "RETRY_TIMEOUT", timedelta(seconds=2))
    proxy.break_("")
    place = Objects(f"s3://campaigns/{request.node.name.translate(str.maketrans('[]', '--'))}")
    place.put("a", b"1" * 100)
    array = ours(place).create_array("x", VALUES.shape, (16,), VALUES.dtype, ("x",), {})
    array[...] = VALUES
    return place


def ours(place: Objects) -> Group:
    return root(Sound(place.child("z"), None))


ACTS: dict[str, Callable[[Objects], object]] = {
    "put": lambda place: place.put("b", b"2"),
    "create": lambda place: place.create("c", b"3"),
    "get": lambda place: place.get("a") == b"1" * 100,
    "list": lambda place: "a" in place.names(),
    "chunks": lambda place: np.array_equal(ours(place)["x"], VALUES),
    "overwrite": lambda place: ours(place)["x"].__setitem__(..., VALUES),
}


def tried(act: Callable[[Objects], object], place: Objects) -> tuple[str | None, object]:
    """The one line with which an act was refused, or what it gave."""
    try:
        return None, act(place)
    except CampaignError as error:
        return str(error), None


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bucket_that_fails_for_ever_is_one_line_and_no_hang(fault, bucket, proxy):
    proxy.break_(fault)
    for name, act in ACTS.items():
        began = time.monotonic()
        refusal, done = tried(act, bucket)
        if refusal is None:
            assert fault in ("flipped", "half", "slow", "lost"), name
            assert done is not False or fault in ("flipped", "lost"), name
        else:
            assert "s3://campaigns/" in refusal
            assert "\n" not in refusal
        assert time.monotonic() - began < 30, name
    assert proxy.failed


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "flipped"])
def test_a_bucket_that_fails_now_and_then_is_asked_again(fault, bucket, proxy):
    proxy.break_(fault, every=3)
    for name, act in ACTS.items():
        assert act(bucket) is not False or (name, fault) == ("create", "lost"), name
    assert proxy.failed


@pytest.mark.faults
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "flipped"])
def test_a_run_over_a_failing_network_is_sound(fault, proxy, bucket, monkeypatch):
    plain_report(monkeypatch)
    spec = parse(SPEC + REGRESSION, ())
    proxy.break_(fault, every=50)
    engine.run(spec, bucket.url)
    assert proxy.failed > 10
    proxy.break_("")
    store = engine.prepare(spec, bucket.url).store
    assert verify.verify(store) == []
