"""Results that cost time to make, kept on disk: compiled kernels and proved facts.

They live in the user's cache folder ($VARPHI_CACHE_DIR overrides it). A file carries a checksum of its content, so one
that was cut off or altered counts as missing; it is replaced in one step, so processes may share it.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import warnings
from pathlib import Path

_MAGIC = b"varphi1\n"
_HEAD = len(_MAGIC) + hashlib.sha256().digest_size
_warned: set[str] = set()


def directory(kind: str) -> Path:
    """Where results of this kind are kept ("kernels", "facts"); it need not exist yet."""
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


def read(kind: str, name: str) -> bytes | None:
    """The content kept under a name; None if there is none, or, after a warning, if it is damaged or unreadable."""
    path = directory(kind) / name
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        _warn(f"varphi cannot read what it keeps in {path.parent} ({error}); it computes it each time")
        return None
    content = data[_HEAD:]
    if data[:_HEAD] == _MAGIC + hashlib.sha256(content).digest():
        return content
    _warn(f"the kept file {path} is damaged; its content is computed again")
    return None


def write(kind: str, name: str, content: bytes) -> None:
    """Keep content under a name, whole or not at all.

    A folder that cannot be written is no error: it is said once, and results are computed each time. Two processes
    that write the same name leave one of the two contents.
    """
    folder = directory(kind)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(content).digest() + content)
            os.replace(temporary, folder / name)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        _warn(f"varphi cannot keep results in {folder} ({error}); set VARPHI_CACHE_DIR to a folder it may write")


def _warn(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, RuntimeWarning, stacklevel=3)
