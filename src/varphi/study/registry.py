"""Studies by name, loaded when asked for."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from .declaration import Study

# Modules with a table STUDIES: from a study's name to "module:attribute".
PROVIDERS = ["varphi.systems"]


def table() -> dict[str, str]:
    """Every known study's name, and where it is declared."""
    return {name: place for module in PROVIDERS for name, place in importlib.import_module(module).STUDIES.items()}


def names() -> list[str]:
    """The names of all studies, sorted."""
    return sorted(table())


def load(name: str) -> Study:
    """The study called `name`, or declared at "module:attribute" or "file.py:attribute".

    Raises:
        ValueError: where there is none, with the nearest names.
        ImportError: where its package is missing, naming it.
    """
    known = table()
    place = known.get(name, name)
    if ":" not in place:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"there is no study {name!r}.{hint} Studies: {', '.join(sorted(known))}; "
            "your own is given as module:attribute or file.py:attribute"
        )
    module, _, attribute = place.rpartition(":")
    found = getattr(_imported(module), attribute, None)
    if not isinstance(found, Study):
        raise ValueError(f"{place!r} is not a Study: {module} has {attribute} = {found!r}")
    return found


def attribute(place: str) -> Any:
    """What stands at "module:attribute" or "file.py:attribute".

    Raises:
        ValueError: for a place that is not written so, or where nothing stands.
        ImportError: where the module, or a package that it needs, is missing.
    """
    module, colon, name = place.rpartition(":")
    if not (module and colon and name):
        raise ValueError(f"a place is given as module:attribute or file.py:attribute, got {place!r}")
    home = _imported(module)
    if not hasattr(home, name):
        raise ValueError(f"{module!r} has no {name!r}, which {place!r} names")
    return getattr(home, name)


def _imported(module: str) -> ModuleType:
    """A module by name, looked for in the working directory too; or a file."""
    if not module.endswith(".py"):
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        return importlib.import_module(module)
    path = Path(module).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {module!r}")
    # As for a script, its neighbours can be imported; and pickled functions find their module by its name.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    return importlib.import_module(path.stem)
