"""What another user of the machine may read and write, and what a stranger's words may do."""

import os
from html import unescape

import pytest

from pipelines.report import markdown
from support.tiny import SPEC, plain_report

SECRETS = {
    "shadow": "root:$6$SECRET$abc:19000:0:99999:7:::\nbin:*:19000:0:99999:7:::\n",
    "netrc": "machine here login me password SECRET\n",
    "key": "-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----\n",
    "environment": "TOKEN=SECRET\nNAME=me\n",
    "list": "- SECRET\n",
    "settings": "token: SECRET\n",
    "broken": "token: [SECRET\nx",
}


@pytest.mark.parametrize("name", SECRETS)
def test_a_file_that_is_no_campaign_is_not_repeated(name, finitewidth, tmp_path):
    (tmp_path / name).write_text(SECRETS[name])
    status, out, err = finitewidth("plan", name)
    assert (status, out) == (2, "")
    assert err.startswith(f"finitewidth: {name}: ")
    assert err.count("\n") == 1
    assert "SECRET" not in err


@pytest.fixture
def wide_open():
    """A user who lets everybody write everything."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.slow
def test_nobody_else_may_write_what_is_stored(wide_open, finitewidth, tmp_path, monkeypatch):
    plain_report(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "tiny.yaml").write_text(SPEC)
    assert finitewidth("run", "tiny.yaml", "--executor", "inline", "--store", "stores")[0] == 0
    files = [*(tmp_path / "stores").rglob("*"), *(tmp_path / "cache").rglob("*")]
    assert len(files) > 100
    assert [file for file in files if file.stat().st_mode & 0o022] == []


HOSTILE = (
    "<script>alert(1)</script>",
    "[here](javascript:alert(1))",
    "![](http://example.org/x.png)",
    "*b* _i_ `c` ~~s~~ $x$ | # \\",
    "two\n\n# lines",
)


@pytest.mark.parametrize("words", HOSTILE)
def test_words_in_markdown_are_words(words):
    """CommonMark shows a character of markup as it is after a backslash."""
    marked = markdown.text(words)
    assert "<" not in marked
    assert "\n" not in marked
    bare = marked.replace("\\\\", "")
    for mark in "*_`[]$|#~":
        assert bare.count(mark) == bare.count(f"\\{mark}")
    shown = unescape(marked).replace("\\\\", "\0").replace("\\", "").replace("\0", "\\")
    assert shown == " ".join(words.split())


def test_a_title_does_not_reach_into_the_terminal(finitewidth, tmp_path):
    (tmp_path / "tiny.yaml").write_text(f'{SPEC}\ntitle: "a \\e[31m b"\n')
    status, out, _ = finitewidth("plan", "tiny.yaml")
    assert status == 0
    assert out.startswith("a  [31m b\n")
