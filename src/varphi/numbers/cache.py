"""Files that cost time to make, kept on disk: compiled kernels and proved facts.

They live in `~/.cache/varphi` ($XDG_CACHE_HOME and $VARPHI_CACHE_DIR are honoured). A file carries a checksum of its
content, so one that was cut off or altered counts as missing; it is replaced in one step, so processes may share it.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import warnings
from pathlib import Path

_MAGIC = b"varphi1\n"
_warned: set[str] = set()


def directory(kind: str) -> Path:
    """Where files of this kind are kept ("kernels", "facts"); it need not exist yet."""
    own = os.environ.get("VARPHI_CACHE_DIR")
    if own:
        return Path(own) / kind
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "varphi" / kind


def read(kind: str, name: str) -> bytes | None:
    """The content stored under a name; None if there is none or it is damaged."""
    path = directory(kind) / name
    try:
        data = path.read_bytes()
    except OSError:
        return None
    content = data[len(_MAGIC) + 32 :]
    if data[: len(_MAGIC)] == _MAGIC and data[len(_MAGIC) : len(_MAGIC) + 32] == hashlib.sha256(content).digest():
        return content
    _warn(f"the cache file {path} is damaged; it is made anew")
    return None


def write(kind: str, name: str, content: bytes) -> None:
    """Store content under a name. A cache that cannot be written is no error: it is said once, and nothing is kept."""
    folder = directory(kind)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as file:
            file.write(_MAGIC + hashlib.sha256(content).digest() + content)
        os.replace(file.name, folder / name)
    except OSError as error:
        _warn(
            f"cannot write the cache {folder} ({error}); results are not kept. Set VARPHI_CACHE_DIR to a writable folder"
        )


def _warn(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        warnings.warn(message, stacklevel=3)
