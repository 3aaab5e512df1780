import functools
import hashlib
import http.server
import io
import random
import re
import sys
import tarfile
import threading

import pytest

from storage.errors import CampaignError
from workers.data.images import cifar, mnist
from workers.data.images.download import REMOTES, Remote, download, fetch


def refuses(call, line):
    with pytest.raises(CampaignError, match=line) as caught:
        call()
    assert "\n" not in str(caught.value)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *args):
        pass


@pytest.fixture
def served(tmp_path):
    """A folder, and the loopback address that serves it."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def digests(*paths):
    return {path.name: f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}" for path in paths}


def test_download_fetches_what_is_missing_and_checks_it(tmp_path, served):
    folder, address = served
    for name in ("a.gz", "b.gz"):
        (folder / name).write_bytes(name.encode())
    remote = Remote(address, digests(*folder.iterdir()))
    place = fetch(remote, tmp_path / "cache")
    assert place == tmp_path / "cache"
    assert (place / "a.gz").read_bytes() == b"a.gz"
    (folder / "a.gz").unlink()
    assert fetch(remote, place) == place  # kept, not fetched again
    refuses(lambda: fetch(remote, tmp_path / "other"), "could not be fetched .*404")
    (place / "a.gz").write_bytes(b"damaged")
    refuses(lambda: fetch(remote, place), "could not be fetched .*404")


def test_a_download_with_the_wrong_digest_is_refused_and_not_kept(tmp_path, served):
    folder, address = served
    (folder / "a.bin").write_bytes(b"tampered")
    remote = Remote(address, {"a.bin": f"md5:{'0' * 32}"})
    refuses(lambda: fetch(remote, tmp_path / "cache"), "could not be fetched")
    assert not list((tmp_path / "cache").iterdir())


def test_a_download_offline_is_refused(tmp_path):
    remote = Remote("http://127.0.0.1:9", {"a.bin": f"md5:{'0' * 32}"})  # nothing listens there
    refuses(lambda: fetch(remote, tmp_path), "could not be fetched")


def archive(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


def test_an_archive_is_unpacked_into_its_folder(tmp_path, served):
    folder, address = served
    archive(folder / "a.tar.gz", {"inner/one.bin": b"1", "inner/two.bin": b"2"})
    remote = Remote(address, digests(folder / "a.tar.gz"), "inner")
    place = fetch(remote, tmp_path / "cache")
    assert place == tmp_path / "cache" / "inner"
    assert {path.name: path.read_bytes() for path in place.iterdir()} == {
        "one.bin": b"1",
        "two.bin": b"2",
    }


@pytest.mark.parametrize("name", ["../evil", "ok/../../evil"])
def test_an_archive_cannot_write_outside_its_folder(tmp_path, served, name):
    folder, address = served
    archive(folder / "a.tar.gz", {name: b"evil"})
    remote = Remote(address, digests(folder / "a.tar.gz"), "ok")
    refuses(lambda: fetch(remote, tmp_path / "cache"), "could not be unpacked")
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("kept", [0, 20, 3000])
def test_a_broken_archive_is_refused(tmp_path, served, kept):
    folder, address = served
    path = folder / "a.tar.gz"
    archive(path, {"inner/noise.bin": random.Random(1).randbytes(10_000)})
    path.write_bytes(path.read_bytes()[:kept] or b"no archive")
    remote = Remote(address, digests(path), "inner")
    refuses(lambda: fetch(remote, tmp_path / "cache"), "could not be unpacked")


def test_every_official_file_has_a_digest_and_an_address():
    for name, count in (("mnist", 4), ("cifar10", 1)):
        remote = REMOTES[name]
        assert remote.address.startswith("https://")
        assert len(remote.digests) == count
        assert all(re.fullmatch("md5:[0-9a-f]{32}", digest) for digest in remote.digests.values())
    names = [name.removesuffix(".gz") for name in REMOTES["mnist"].digests]
    assert names == [name for part in mnist.PARTS.values() for name in part]
    assert REMOTES["cifar10"].unpacked == cifar.UNPACKED


def test_what_cannot_be_downloaded_is_refused(tmp_path, monkeypatch):
    refuses(lambda: download("svhn", tmp_path), "choose from mnist, cifar10")
    monkeypatch.setitem(sys.modules, "pooch", None)
    refuses(lambda: download("mnist", tmp_path), "pooch, which is missing")
