"""Where varphi keeps what it has computed, and how it is written there."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from pathlib import Path

_warned: set[str] = set()


def directory(kind: str) -> Path:
    """The folder for one kind of result: `$VARPHI_CACHE_DIR/<kind>`, else in the user's cache folder."""
    chosen = os.environ.get("VARPHI_CACHE_DIR")
    if chosen:
        return Path(chosen) / kind
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "varphi" / kind


def write(path: Path, content: bytes) -> bool:
    """Write a file whole or not at all; False, with one warning per folder, where that is impossible.

    Two processes that write the same file leave one of the two contents.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        warn_once(str(path.parent), f"varphi cannot keep results in {path.parent} ({error}); it computes them each time")
        return False
    return True


def warn_once(key: str, message: str) -> None:
    """A warning that is given once per process and key."""
    if key not in _warned:
        _warned.add(key)
        warnings.warn(message, RuntimeWarning, stacklevel=3)
