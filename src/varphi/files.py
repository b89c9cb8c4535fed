"""Files that a person asks for: refused in words before any work is done, and written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def check_writable(path: str | Path, endings: Sequence[str] = ()) -> Path:
    """`path`, if a file of one of these endings (any, if none are given) can be written there.

    Raises:
        ValueError: for another ending.
        OSError: where nothing can be written.
    """
    path = Path(path)
    if endings and path.suffix.lower() not in endings:
        raise ValueError(f"the output file must end in {' or '.join(endings)}, got {str(path)!r}")
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {str(path)!r}: it is a directory; name a file in it")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"cannot write {str(path)!r}: there is no directory {str(path.parent)!r}; make it first"
        )
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(f"cannot write {str(path)!r}: the file is write-protected")
    try:
        # Permission bits do not tell everything (read-only file systems, full disks); an attempt does.
        with tempfile.TemporaryFile(dir=path.parent):
            return path
    except OSError as error:
        reason = error.strerror or str(error)
        raise PermissionError(f"cannot write {str(path)!r}: {reason}; choose another directory") from None


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yields the path of a file beside `path` that takes its place once the block has ended.

    A reader never meets half a file, and a block that fails leaves what was there.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
