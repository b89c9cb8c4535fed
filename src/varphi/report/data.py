"""Facts as plain data, for JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from varphi.study.data import plain_data

if TYPE_CHECKING:
    from varphi.facts.facts import Facts

# The formats and derivatives whose accuracy is measured on request.
MEASURED = tuple((dtype, k) for dtype in ("float32", "float64", "bfloat16") for k in (0, 1))


def facts_data(facts: Facts, *, gaussian: bool, measure: bool) -> dict[str, Any]:
    """All facts as data: those about every x, under N(0, 1), and, if asked for, the measured ones."""
    from .rows import EPSILON

    definition = facts.activation.definition
    about = {key: getattr(definition, key) for key in ("latex", "doc", "source", "family", "aliases", "torch")}
    found = facts.as_dict() | about | {"saturation": {str(EPSILON): facts.saturation(EPSILON)}}
    if gaussian:
        found |= {"moments": _or_refusal(facts.moments), "gain": _or_refusal(lambda: facts.gain)}
    if measure:
        found |= {"accuracy": [_accuracy(facts, name, k) for name, k in MEASURED], "cost": facts.cost}
    return plain_data(found)


def _or_refusal(find: Callable[[], Any]) -> Any:
    try:
        return find()
    except ValueError as refusal:
        return {"refused": str(refusal)}


def _accuracy(facts: Facts, dtype: str, derivative: int) -> dict[str, Any]:
    import torch

    from varphi.facts.accuracy import accuracy

    found = accuracy(facts.activation, getattr(torch, dtype), derivative)
    return {f.name: getattr(found, f.name) for f in fields(found)} | {"dtype": dtype}
