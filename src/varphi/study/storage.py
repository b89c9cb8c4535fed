"""Where trials live: Optuna's storage, a SQLite file unless another URL is given."""

from __future__ import annotations

import os
import sqlite3
import time
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from sqlalchemy import Connection, event
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

DEFAULT = "varphi.db"
_SQLITE = "sqlite:///"
# A worker writes a sign of life this often, and is held for dead after the second number, in seconds.
HEARTBEAT, GRACE = 5, 60


class StorageError(OSError):
    """A storage that cannot be used, with the reason and what to do."""


class NothingStoredError(StorageError):
    """A storage that does not exist yet, or holds no run of what was asked for."""


def url(storage: str | Path | None) -> str:
    """A storage as SQLAlchemy's URL: a path (default `varphi.db`) is a SQLite file."""
    text = str(storage or DEFAULT)
    return text if "://" in text else f"{_SQLITE}{text}"


def described(storage: str | Path | None) -> str:
    """A storage as a person would name it: its path, or its URL without the password."""
    from sqlalchemy.engine import make_url

    text = url(storage)
    return (
        text.removeprefix(_SQLITE) if text.startswith(_SQLITE) else make_url(text).render_as_string(hide_password=True)
    )


def connect(storage: str | Path | None, *, create: bool = True) -> RDBStorage:
    """Open (or make) a storage.

    Args:
        storage: a path or a URL.
        create: whether a SQLite file that does not exist is made.

    Raises:
        StorageError: where it cannot be read and written, before any work is done.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    where = url(storage)
    options: dict[str, Any] = {}
    if where.startswith(_SQLITE):
        _prepare(Path(where.removeprefix(_SQLITE)), create)
        # Writers wait for each other instead of failing; transactions begin as `_lock_from_the_start` says.
        options = {"connect_args": {"timeout": 60, "isolation_level": None}}
    for attempt in range(5):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                connection = RDBStorage(where, options, heartbeat_interval=HEARTBEAT, grace_period=GRACE)
            if connection.engine.dialect.name == "sqlite":
                event.listen(connection.engine, "begin", _lock_from_the_start)
            return connection
        except (OperationalError, IntegrityError, ProgrammingError) as error:
            # Two processes may make the tables at the same moment; the slower one finds them, or their rows, made.
            made = isinstance(error, IntegrityError) or "already exists" in str(error)
            if not made or attempt == 4:
                raise StorageError(f"cannot use the storage {described(storage)!r}: {error.orig}") from None
            time.sleep(0.2)
        except Exception as error:
            raise StorageError(f"cannot use the storage {described(storage)!r}: {error}") from error
    raise AssertionError("unreachable")


def _lock_from_the_start(connection: Connection) -> None:
    # By default SQLite lets two processes read that a trial is waiting before either writes that it took it.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _prepare(path: Path, create: bool) -> None:
    if not path.exists():
        if not create:
            raise NothingStoredError(
                f"there is no storage {str(path)!r}; `varphi study run NAME` makes it, --storage names it"
            )
        if not path.parent.is_dir():
            raise StorageError(f"cannot make the storage {str(path)!r}: there is no directory {str(path.parent)!r}")
        if not os.access(path.parent, os.W_OK):
            raise StorageError(f"cannot make the storage {str(path)!r}: the directory is write-protected")
    elif path.is_dir() or not os.access(path, os.R_OK | os.W_OK):
        raise StorageError(f"cannot use the storage {str(path)!r}: not a file that can be read and written")
    try:
        connection = sqlite3.connect(path, timeout=60)
        try:
            # Readers and one writer at once, and a process killed while writing leaves the file whole.
            connection.execute("PRAGMA journal_mode=WAL")
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        raise StorageError(
            f"cannot use the storage {str(path)!r}: {error}. Move the file away, or name another with --storage"
        ) from None
