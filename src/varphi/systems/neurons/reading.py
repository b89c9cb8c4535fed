"""A membrane from a file of any format that is read, told apart by what is in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .model import Model

FORMATS = (".mod", ".nml", ".sbml", ".xml")


def from_file(path: str | Path, given: Mapping[str, str | float] | None = None) -> Model:
    """A membrane from NMODL, NeuroML or SBML.

    Args:
        path: of the file.
        given: what the file does not say: numbers that an NMODL file reads, the `temperature` of a NeuroML cell, the
            `voltage` or `applied` current of an SBML model by their names there.

    Raises:
        FileNotFoundError: no such file.
        ValueError: what is none of these, or what `from_nmodl`, `from_neuroml` or `from_sbml` refuse.
    """
    path, given = Path(path), dict(given or {})
    text = path.read_text("utf-8", "replace")
    if path.suffix == ".mod":
        from .nmodl import from_nmodl

        return from_nmodl(path, numbers={n: _number(n, v) for n, v in given.items()})
    if "<sbml" in text:
        from .sbml import from_sbml

        _check(given, ("voltage", "applied"), "SBML")
        return from_sbml(path, voltage=_text(given, "voltage"), applied=_text(given, "applied"))
    if "<neuroml" in text:
        from .neuroml import from_neuroml

        _check(given, ("temperature", "cell"), "NeuroML")
        return from_neuroml(path, cell=_text(given, "cell"), temperature=_text(given, "temperature"))
    raise ValueError(f"{path} is neither NMODL (.mod), NeuroML (<neuroml>) nor SBML (<sbml>)")


def _check(given: Mapping[str, object], known: tuple[str, ...], told: str) -> None:
    odd = sorted(set(given) - set(known))
    if odd:
        raise ValueError(f"{told} takes {' and '.join(known)}, not {odd[0]!r}")


def _text(given: Mapping[str, object], name: str) -> str | None:
    return None if name not in given else str(given[name])


def _number(name: str, value: str | float) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{name} is a number in the file's own unit, got {value!r}") from None
