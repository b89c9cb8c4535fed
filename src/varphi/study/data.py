"""A study's results as plain data, for JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .results import Results


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


def results_data(results: Results) -> dict[str, Any]:
    """A study's results as data: question and answer, every claim with its verdict, every row with all its numbers."""
    rows = [{**plain_data(row), "seconds": row.seconds, **row.point} for row in results.rows]
    return account(results) | {"rows": rows}


def account(results: Results) -> dict[str, Any]:
    """All but the numbers: question and answer, every claim with its verdict, rankings, failures, how it was made."""
    study = results.study
    claims = [
        {"name": claim.name, "quote": claim.quote, "measure": claim.measure, **plain_data(verdict)}
        for claim, verdict in zip(study.claims, results.verdicts, strict=True)
    ]
    told = ("size", "seeds", "storage", "tuned", "missing", "failures", "references", "record")
    return {
        "study": study.name,
        "title": study.title,
        "question": study.question,
        "data": study.data,
        "measures": plain_data(study.measures),
        "answer": results.answer,
        "claims": claims,
        "rankings": [plain_data(contest) | plain_data(found) for contest, found in results.rankings],
        **{name: plain_data(getattr(results, name)) for name in told},
    }
