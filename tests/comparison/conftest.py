"""The toy models, as a module that other processes can import too."""

import importlib
from pathlib import Path

import pytest


@pytest.fixture
def toys(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("toy_model")


@pytest.fixture
def storage(tmp_path):
    return tmp_path / "trials.db"


@pytest.fixture
def log(tmp_path, monkeypatch):
    """What was trained, a line for each training."""
    path = tmp_path / "log"
    monkeypatch.setenv("LOG", str(path))
    return lambda: path.read_text().splitlines() if path.exists() else []
