"""Facts and results as plain data, for JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from varphi.facts.facts import Facts
    from varphi.study.results import Results

# The formats and derivatives whose accuracy is measured on request.
MEASURED = tuple((dtype, k) for dtype in ("float32", "float64", "bfloat16") for k in (0, 1))


def plain_data(value: Any) -> Any:
    """`value` as JSON can say it: dataclasses as objects, ±inf and NaN as the strings that `float` reads back.

    Raises:
        TypeError: for a value that has no such form.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Enum):
        return plain_data(value.value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, Fraction):
        return float(value)
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain_data(getattr(value, f.name)) for f in fields(value) if not f.name.startswith("_")}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return plain_data(value._asdict())  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(value, Mapping):
        return {str(k): plain_data(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain_data(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain_data(value.tolist())
    raise TypeError(f"{type(value).__name__} has no form in JSON: {value!r}")


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


def results_data(results: Results) -> dict[str, Any]:
    """A study's results as data: question and answer, every claim with its verdict, every row with all its numbers."""
    study = results.study
    claims = [
        {"name": claim.name, "quote": claim.quote, "measure": claim.measure, **plain_data(verdict)}
        for claim, verdict in zip(study.claims, results.verdicts, strict=True)
    ]
    rows = [{**plain_data(row), **row.point} for row in results.rows]
    told = ("size", "seeds", "storage", "tuned", "missing", "failures", "references", "record")
    return {
        "study": study.name,
        "title": study.title,
        "question": study.question,
        "data": study.data,
        "measures": plain_data(study.measures),
        "answer": results.answer,
        "claims": claims,
        "rows": rows,
        "rankings": [plain_data(contest) | plain_data(found) for contest, found in results.rankings],
        **{name: plain_data(getattr(results, name)) for name in told},
    }
