"""The known definitions by name: where the catalogue puts them and everything else finds them."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable
from typing import Any

from .definition import Definition

# Modules that register definitions when imported; loaded at the first look-up.
PROVIDERS = ["varphi.catalogue"]

_DEFINITIONS: dict[str, Definition] = {}
_ALIASES: dict[str, str] = {}
_loaded: set[str] = set()


class UnknownActivation(LookupError):
    """A name that no definition and no alias has."""


def activation(
    *, latex: str, source: str, aliases: tuple[str, ...] = (), torch: str | None = None, name: str | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function as a definition; the function itself stays callable over any number system.

    Args:
        latex: the formula as printed, in LaTeX.
        source: authors, year, venue or arXiv number.
        aliases: other names of the same function at the same default parameters.
        torch: the name of torch.nn's class for it.
        name: its name; the function's own, without a trailing underscore, if not given.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        add(
            Definition(
                name=name or function.__name__.rstrip("_"),
                function=function,
                latex=latex,
                source=source,
                aliases=aliases,
                torch=torch,
                family=function.__module__.rsplit(".", 1)[-1],
                doc=inspect.getdoc(function) or "",
            )
        )
        return function

    return register


def add(definition: Definition) -> None:
    """Make a definition known by its name and aliases; a name already taken, or that no look-up finds, is refused."""
    names = (definition.name, *definition.aliases)
    for i, name in enumerate(names):
        if name != canonical(name):
            raise ValueError(f"an activation's name is lower case with '_': {canonical(name)!r}, not {name!r}")
        if name in _DEFINITIONS or name in _ALIASES or name in names[:i]:
            raise ValueError(f"the activation name {name!r} is already taken")
    _DEFINITIONS[definition.name] = definition
    _ALIASES.update(dict.fromkeys(definition.aliases, definition.name))


def _load() -> None:
    for module in PROVIDERS:
        if module not in _loaded:
            _loaded.add(module)
            importlib.import_module(module)


def names() -> list[str]:
    """The names of all known definitions, sorted; aliases left out."""
    _load()
    return sorted(_DEFINITIONS)


def canonical(name: str) -> str:
    """`name` as it is looked up: lower case, "-" and " " as "_"."""
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def find(name: str) -> Definition | None:
    """The definition called `name`, by its name or an alias; None if there is none."""
    _load()
    key = canonical(name)
    return _DEFINITIONS.get(_ALIASES.get(key, key))


def definition(name: str) -> Definition:
    """The definition called `name`; an unknown name is an error that suggests the nearest."""
    found = find(name)
    if found is None:
        close = difflib.get_close_matches(canonical(name), [*_DEFINITIONS, *_ALIASES], n=3)
        hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else " `varphi list` shows all names."
        raise UnknownActivation(f"there is no activation {name!r}.{hint}")
    return found


def is_registered(candidate: Definition) -> bool:
    """Whether `candidate` is the very definition known by its name."""
    return _DEFINITIONS.get(candidate.name) is candidate
