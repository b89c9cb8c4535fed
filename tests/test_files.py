"""Files: refused in words before any work, written whole or not at all."""

from pathlib import Path

import pytest

from varphi.files import check_writable, whole


def test_an_output_path_is_checked_before_work(tmp_path: Path) -> None:
    endings = (".svg", ".png")
    assert check_writable(tmp_path / "new.SVG", endings) == tmp_path / "new.SVG"
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r"must end in \.svg or \.png"):
        check_writable(tmp_path / "figure.bmp", endings)
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        check_writable(tmp_path / "missing" / "figure.svg", endings)
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(IsADirectoryError, match="is a directory"):
        check_writable(tmp_path / "folder.svg", endings)


def test_a_place_where_nothing_can_be_written_is_found_out() -> None:
    # /proc refuses files even to root, whatever its permission bits say.
    if not Path("/proc/self").is_dir():
        pytest.skip("needs Linux")
    with pytest.raises(OSError, match="cannot write"):
        check_writable(Path("/proc/self/figure.svg"), (".svg",))


def test_what_fails_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    old = tmp_path / "table.csv"
    old.write_text("old")
    with pytest.raises(ZeroDivisionError), whole(old) as unfinished:
        unfinished.write_text("half")
        assert old.read_text() == "old"
        raise ZeroDivisionError
    assert old.read_text() == "old" and list(tmp_path.iterdir()) == [old]
    with whole(old) as unfinished:
        unfinished.write_text("new")
    assert old.read_text() == "new" and list(tmp_path.iterdir()) == [old]
