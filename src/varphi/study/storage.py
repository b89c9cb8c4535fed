"""Where trials live: Optuna's storage: a SQLite file, a data base, or a proxy of one."""

from __future__ import annotations

import importlib.util
import os
import sqlite3
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import optuna
from optuna.storages import BaseStorage, GrpcStorageProxy, RDBStorage
from sqlalchemy import Connection, event
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from .provenance import without_password

DEFAULT = "varphi.db"
_SQLITE, _PSYCOPG, _GRPC = "sqlite:///", "postgresql+psycopg://", "grpc://"
# A worker writes a sign of life this often, and is held for dead after the second number, in seconds.
HEARTBEAT, GRACE = 5, 60
# How long a proxy may take to answer, in seconds.
_PATIENCE = 15


class StorageError(OSError):
    """A storage that cannot be used, with the reason and what to do."""


class NothingStoredError(StorageError):
    """A storage that does not exist yet, or holds no run of what was asked for."""


def url(storage: str | Path | None) -> str:
    """A storage as a URL: a path (default `varphi.db`) is a SQLite file; PostgreSQL is spoken to by psycopg."""
    text = str(storage or DEFAULT)
    for short in ("postgres://", "postgresql://"):
        if text.startswith(short):
            return f"{_PSYCOPG}{text.removeprefix(short)}"
    return text if "://" in text else f"{_SQLITE}{text}"


def described(storage: str | Path | None) -> str:
    """A storage as a person would name it: its path, or its URL without the password."""
    text = url(storage).removeprefix(_SQLITE)
    return without_password(text.replace(_PSYCOPG, "postgresql://"))


def connect(storage: str | Path | None, *, create: bool = True) -> BaseStorage:
    """Open (or make) a storage.

    Args:
        storage: a path, an SQLAlchemy URL, or grpc://HOST:PORT where `varphi study serve` runs.
        create: whether a SQLite file that does not exist is made.

    Raises:
        StorageError: where it cannot be read and written, before any work is done.
        ImportError: where the package that speaks to it is missing, naming it.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    where = url(storage)
    if where.startswith(_GRPC):
        return _proxy(where)
    if where.startswith(_PSYCOPG):
        _require("psycopg", "postgres", where)
    return _data_base(where, create)


def _data_base(where: str, create: bool) -> RDBStorage:
    options: dict[str, Any] = {"pool_pre_ping": True}
    if where.startswith(_SQLITE):
        _prepare(Path(where.removeprefix(_SQLITE)), create)
        # Writers wait for each other instead of failing; transactions begin as `_lock_from_the_start` says.
        options = {"connect_args": {"timeout": 60, "isolation_level": None}}
    for attempt in range(5):
        try:
            connection = RDBStorage(where, options)
            if connection.engine.dialect.name == "sqlite":
                event.listen(connection.engine, "begin", _lock_from_the_start)
            return connection
        except (OperationalError, IntegrityError, ProgrammingError) as error:
            # Two processes may make the tables at the same moment; the slower one finds them, or their rows, made.
            made = isinstance(error, IntegrityError) or "already exists" in str(error)
            if not made or attempt == 4:
                raise _unusable(where, error.orig) from None
            time.sleep(0.2)
        except Exception as error:
            raise _unusable(where, error) from None
    raise AssertionError("unreachable")


def _unusable(where: str, reason: BaseException | None) -> StorageError:
    return StorageError(f"cannot use the storage {described(where)!r}: {without_password(str(reason)).strip()}")


def _require(package: str, extra: str, where: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise ImportError(f"the storage {described(where)!r} needs {package}: pip install 'varphi[{extra}]'")


def _proxy(where: str) -> GrpcStorageProxy:
    _require("grpc", "grpc", where)
    found = urlsplit(where)
    if found.hostname is None or found.port is None or found.path:
        raise StorageError(f"a proxy is named as grpc://HOST:PORT, got {described(where)!r}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        proxy = GrpcStorageProxy(host=found.hostname, port=found.port)
    try:
        proxy.wait_server_ready(timeout=_PATIENCE)
    except ConnectionError:
        raise StorageError(
            f"no storage answers at {described(where)!r}; on that machine: "
            f"varphi study serve --storage URL --port {found.port}"
        ) from None
    return proxy


def serve(storage: str | Path | None, host: str, port: int) -> Any:
    """Start a proxy: other machines reach the storage at grpc://HOST:PORT, without its password.

    Returns:
        The running server, with `wait_for_termination()` and `stop(seconds)`.

    Raises:
        StorageError: for a storage or a port that cannot be used.
    """
    if url(storage).startswith(_GRPC):
        raise StorageError("a proxy serves a data base, not another proxy")
    _require("grpc", "grpc", url(storage))
    from optuna.storages._grpc.server import make_server

    # With a cache in front, as finished trials are asked for again and again.
    cached = optuna.storages.get_storage(connect(storage))
    try:
        server = make_server(cached, host, port)
    except RuntimeError as error:
        raise StorageError(f"cannot listen on {host}:{port}: {error}") from None
    server.start()
    return server


def insist(store: Callable[[], None]) -> None:
    """Store something even if the storage is away for a moment: a result may have taken hours."""
    for pause in (1, 2, 4, 8, 16):
        try:
            return store()
        except (optuna.exceptions.UpdateFinishedTrialError, TypeError, ValueError):
            raise
        except Exception:
            time.sleep(pause)
    store()


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
