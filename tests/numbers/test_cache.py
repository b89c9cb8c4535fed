"""What is kept on disk: whole or not at all, and never an error."""

import hashlib
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varphi.numbers import cache


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("VARPHI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_warned", set())
    return tmp_path / "cache" / "facts"


def test_what_was_written_is_read(folder):
    assert cache.read("facts", "a") is None
    for content in (b"", b"\0\xff" * 1000, b"varphi1\n"):
        cache.write("facts", "a", content)
        assert cache.read("facts", "a") == content
    assert cache.read("kernels", "a") is None
    assert [p.name for p in folder.iterdir()] == ["a"], "nothing temporary is left"


WHOLE = b"a kept result of some length"


@given(place=st.integers(0, 200), change=st.integers(1, 255))
def test_one_altered_byte_counts_as_missing(tmp_path_factory, place, change):
    folder = tmp_path_factory.mktemp("altered")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VARPHI_CACHE_DIR", str(folder))
        patch.setattr(cache, "_warned", set())
        cache.write("facts", "a", WHOLE)
        path = folder / "facts" / "a"
        data = bytearray(path.read_bytes())
        data[place % len(data)] ^= change
        path.write_bytes(data)
        with pytest.warns(RuntimeWarning, match="is damaged; its content is computed again"):
            assert cache.read("facts", "a") is None
        cache.write("facts", "a", WHOLE)
        assert cache.read("facts", "a") == WHOLE


@pytest.mark.parametrize("length", [0, 1, 7, 8, 20, 39, 40, 41, 60])
def test_a_file_cut_short_or_grown_counts_as_missing(folder, length):
    cache.write("facts", "a", WHOLE)
    data = (folder / "a").read_bytes()
    (folder / "a").write_bytes(data[:length])
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert cache.read("facts", "a") is None
    (folder / "a").write_bytes(data + b"more")
    cache._warned.clear()
    with pytest.warns(RuntimeWarning, match="damaged"):
        assert cache.read("facts", "a") is None


def test_the_file_says_what_it_holds(folder):
    cache.write("facts", "a", WHOLE)
    assert (folder / "a").read_bytes() == b"varphi1\n" + hashlib.sha256(WHOLE).digest() + WHOLE


def test_a_folder_that_cannot_be_made_is_said_once(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("VARPHI_CACHE_DIR", str(tmp_path / "file" / "below"))
    with pytest.warns(RuntimeWarning, match="cannot keep results in .*set VARPHI_CACHE_DIR to a folder it may write"):
        cache.write("facts", "a", WHOLE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cache.write("facts", "b", WHOLE)
    with pytest.warns(RuntimeWarning, match="cannot read what it keeps"):
        assert cache.read("facts", "a") is None


def test_a_folder_in_place_of_the_file(folder):
    (folder / "a").mkdir(parents=True)
    with pytest.warns(RuntimeWarning, match="cannot read"):
        assert cache.read("facts", "a") is None
    with pytest.warns(RuntimeWarning, match="cannot keep"):
        cache.write("facts", "a", WHOLE)
    assert [p.name for p in folder.iterdir()] == ["a"], "the temporary file is taken away"


def test_where_things_are_kept(monkeypatch):
    monkeypatch.setenv("VARPHI_CACHE_DIR", "/somewhere/else")
    assert cache.directory("facts") == Path("/somewhere/else/facts")
    monkeypatch.delenv("VARPHI_CACHE_DIR")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache.directory("facts") == Path("/xdg/varphi/facts")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache.directory("facts") == Path("/home/me/.cache/varphi/facts")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache.directory("facts") == Path("/home/me/Library/Caches/varphi/facts")


WRITER = """
import sys
from varphi.numbers import cache
mark = sys.argv[1].encode()
bad = 0
for _ in range(150):
    cache.write("facts", "shared", mark * 20_000)
    kept = cache.read("facts", "shared")
    bad += kept is None or len(set(kept)) != 1 or len(kept) != 20_000
sys.exit(bad)
"""


def test_two_processes_that_write_the_same_name_leave_one_of_the_two(folder):
    writers = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", WRITER, mark], env=dict(os.environ)) for mark in "ab"
    ]
    assert [w.wait(60) for w in writers] == [0, 0]
    assert cache.read("facts", "shared") in (b"a" * 20_000, b"b" * 20_000)
    assert [p.name for p in folder.iterdir()] == ["shared"]
