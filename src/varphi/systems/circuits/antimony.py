"""Antimony, a text that people write models in: read, and written."""

from __future__ import annotations

import importlib
from typing import Any

from .model import Model
from .sbml import from_sbml


def from_antimony(text: str) -> Model:
    """A model from Antimony text.

    Raises:
        ImportError: the package antimony is missing.
        ValueError: text that Antimony cannot read, with its reason; and as `from_sbml`.
    """
    package = _antimony()
    package.clearPreviousLoads()
    if package.loadAntimonyString(text) < 0:
        raise ValueError(f"Antimony cannot read this text: {package.getLastError().strip()}")
    return from_sbml(package.getSBMLString(package.getMainModuleName()))


def antimony_of(sbml: str) -> str:
    """SBML as Antimony text.

    Raises:
        ImportError: the package antimony is missing.
        ValueError: SBML that Antimony cannot read.
    """
    package = _antimony()
    package.clearPreviousLoads()
    if package.loadSBMLString(sbml) < 0:
        raise ValueError(f"Antimony cannot read this SBML: {package.getLastError().strip()}")
    return package.getAntimonyString(package.getMainModuleName())


def _antimony() -> Any:
    try:
        return importlib.import_module("antimony")
    except ImportError:
        raise ImportError("Antimony text needs the package antimony: pip install 'varphi[circuits]'") from None
