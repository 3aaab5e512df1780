"""A server of buckets on this machine."""

import logging
import warnings

import pytest


@pytest.fixture(scope="module")
def endpoint():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        server = pytest.importorskip(
            "moto.server", reason="needs moto[server]", exc_type=ImportError
        )
    boto3 = pytest.importorskip("boto3", reason="needs boto3 to make a bucket")
    logging.getLogger("werkzeug").disabled = True
    moto = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ALLOW_HTTP", "true")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")
        patch.setenv("AWS_REGION", "us-east-1")
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="campaigns")
        yield
    moto.stop()
