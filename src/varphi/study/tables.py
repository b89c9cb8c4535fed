"""A study's results as tidy tables: one line for each setting, point and seed; as CSV, Parquet or JSON.

Numbers keep every digit; NaN and infinities are written as `nan`, `inf` and `-inf`, which `float` reads back.
"""

from __future__ import annotations

import csv
import importlib.util
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from varphi.files import check_writable, whole

from .data import account, plain_data
from .results import Results, Row

if TYPE_CHECKING:
    import pyarrow

ENDINGS = (".csv", ".parquet", ".json")
Kind: TypeAlias = Literal["factor", "tuned", "trial", "measure", "curve"]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: unlike every other column's; where two kinds share a name, the kind stands before it ("measure: loss").
        kind: "factor"; "tuned" (a number that was chosen); "trial" (which run, and what it took); "measure"; "curve".
        about: what it is, in words and units.
        values: one for each line; None where a line has no such thing.
    """

    name: str
    kind: Kind
    about: str
    values: tuple[Any, ...]


Table: TypeAlias = "tuple[Column, ...]"


def export(results: Results, path: str | Path, *, curves: bool = False) -> tuple[Path, ...]:
    """Write every number of a study's results, and what made them.

    The table has a line for each finished setting × point tried × seed: factors, tuned numbers, whether the setting
    chose the point, every measure, the trial's number and its seconds (those of the whole trial, on each of its lines).
    Beside it stands the account: question, answer, verdicts, rankings, failures with their tracebacks, and the record
    of versions, machines and commands. A CSV file has it in a file of its own (`t.csv.json`), a Parquet file in its
    metadata (key `varphi`), a JSON file holds account, table and curves.

    Args:
        results: what `study.run` or `study.results` returned.
        path: ends in .csv, .parquet (needs pyarrow) or .json.
        curves: whether to write the curves too, a line for each checkpoint, into `t.curves.csv` or
            `t.curves.parquet`. Trials keep six significant digits of them. A JSON file always has them.

    Returns:
        The files written: all of them whole, or none.

    Raises:
        ValueError: for another ending, or curves of a study that has none.
        ImportError: where pyarrow is missing, naming what installs it.
        OSError: where a file cannot be written, found out before any work.
    """
    targets = check(path, curves=curves)
    ending = targets[0].suffix.lower()
    if curves and not any(row.curves for row in results.rows):
        raise ValueError(f"the trials of study {results.study.name!r} have no curves")
    with ExitStack() as stack:
        unfinished = [stack.enter_context(whole(target)) for target in targets]
        _WRITERS[ending](results, unfinished, curves)
    return targets


def check(path: str | Path, *, curves: bool = False) -> tuple[Path, ...]:
    """The files that `export` would write, if it can; raises what it would raise for them."""
    path = check_writable(path, ENDINGS)
    ending = path.suffix.lower()
    if ending == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ImportError(f"{str(path)!r} needs pyarrow: pip install 'varphi[parquet]'")
    beside = [path.with_name(f"{path.name}.json")] if ending == ".csv" else []
    if curves and ending != ".json":
        beside.append(path.with_suffix(f".curves{path.suffix}"))
    return (path, *map(check_writable, beside))


# Tables ---------------------------------------------------------------------------------------------------------------


def table(results: Results) -> Table:
    """Every measure: a line for each finished setting × point × seed."""
    lines = list(_lines(results))
    names = dict.fromkeys([*results.study.measures, *(name for row in results.rows for name in row.measures)])
    measures = [
        Column(name, "measure", results.study.measures.get(name, ""), tuple(_measured(line, name) for line in lines))
        for name in names
    ]
    cost = [
        Column("trial", "trial", "number of the trial in the storage", tuple(line.trial for line in lines)),
        Column("seconds", "trial", "what the whole trial took", tuple(line.seconds for line in lines)),
    ]
    return _distinct([*_identity(results, lines), *measures, *cost])


def curve_table(results: Results) -> Table:
    """Every curve: a line for each finished setting × point × seed × curve, its values in a list."""
    lines = [(line, name) for line in _lines(results) for name in line.row.curves]
    own = [
        Column("curve", "curve", "which curve", tuple(name for _, name in lines)),
        Column(
            "values",
            "curve",
            "its value at every checkpoint, six significant digits",
            tuple(line.row.curves[name][line.point, line.place].tolist() for line, name in lines),
        ),
    ]
    return _distinct([*_identity(results, [line for line, _ in lines]), *own])


@dataclass(frozen=True)
class _Line:
    """Where a line's numbers are: a row, the place of a point and of a seed in it."""

    row: Row
    point: int
    place: int
    seed: int

    @property
    def trial(self) -> int:
        return self._of_seed(self.row.trials)

    @property
    def seconds(self) -> float:
        return self._of_seed(self.row.times)

    def _of_seed(self, each: Sequence[Any]) -> Any:
        """A trial has all seeds of its setting, or one."""
        return each[0] if len(each) == 1 else each[self.place]


def _lines(results: Results) -> Iterator[_Line]:
    for row in results.rows:
        for point in range(len(row.points)):
            for place, seed in enumerate(results.seeds):
                yield _Line(row, point, place, seed)


def _measured(line: _Line, name: str) -> float | None:
    return float(line.row.measures[name][line.point, line.place]) if name in line.row.measures else None


def _identity(results: Results, lines: Sequence[_Line]) -> Iterator[Column]:
    """The columns that say which run a line is about."""
    for name in results.study.factors:
        yield Column(name, "factor", "", tuple(line.row.setting[name] for line in lines))
    for name in results.tuned:
        values = tuple(line.row.points[line.point].get(name) for line in lines)
        yield Column(name, "tuned", "a number tried; empty where the setting has none", values)
    yield Column("seed", "trial", "the same seed is the same data and start", tuple(line.seed for line in lines))
    yield Column("point", "trial", "which of the points tried, from 0", tuple(line.point for line in lines))
    chosen = tuple(line.point == line.row.chosen for line in lines)
    yield Column("chosen", "trial", f"whether the setting chose it, by {results.study.decisive}", chosen)


def _distinct(columns: Sequence[Column]) -> Table:
    counted = Counter(column.name for column in columns)
    return tuple(
        c if counted[c.name] == 1 else Column(f"{c.kind}: {c.name}", c.kind, c.about, c.values) for c in columns
    )


def _checkpoints(found: Table) -> Table:
    """A table of curves with a line for each checkpoint."""
    *identity, last = found
    lengths = [len(values) for values in last.values]

    def repeated(values: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(v for v, length in zip(values, lengths, strict=True) for _ in range(length))

    places = tuple(i for length in lengths for i in range(1, length + 1))
    return _distinct(
        [
            *(Column(c.name, c.kind, c.about, repeated(c.values)) for c in identity),
            Column("checkpoint", "curve", "from 1", places),
            Column("value", "curve", "six significant digits", tuple(v for values in last.values for v in values)),
        ]
    )


# Files ----------------------------------------------------------------------------------------------------------------


def _account(results: Results, columns: Table) -> dict[str, Any]:
    return account(results) | {"columns": [{"name": c.name, "kind": c.kind, "about": c.about} for c in columns]}


def _records(columns: Table) -> list[dict[str, Any]]:
    names = [column.name for column in columns]
    lines = zip(*(column.values for column in columns), strict=True)
    return [plain_data(dict(zip(names, line, strict=True))) for line in lines]


def _dump(data: Any, path: Path, indent: int | None = None) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(data, file, ensure_ascii=False, allow_nan=False, indent=indent)
        file.write("\n")


def _as_json(results: Results, targets: Sequence[Path], curves: bool) -> None:
    found = table(results)
    data = _account(results, found) | {"table": _records(found), "curves": _records(curve_table(results))}
    _dump(data, targets[0])


def _as_csv(results: Results, targets: Sequence[Path], curves: bool) -> None:
    found = table(results)
    _csv(found, targets[0])
    _dump(_account(results, found), targets[1], indent=2)
    if curves:
        _csv(_checkpoints(curve_table(results)), targets[2])


def _csv(columns: Table, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(column.name for column in columns)
        writer.writerows(zip(*(map(_cell, column.values) for column in columns), strict=True))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return float.__repr__(value) if isinstance(value, float) else str(value)


def _as_parquet(results: Results, targets: Sequence[Path], curves: bool) -> None:
    found = table(results)
    _parquet(found, targets[0], _account(results, found))
    if curves:
        long = _checkpoints(curve_table(results))
        _parquet(long, targets[1], _account(results, long))


def _parquet(columns: Table, path: Path, about: dict[str, Any]) -> None:
    import pyarrow
    from pyarrow import parquet

    arrays = [_array(column.values) for column in columns]
    fields = [pyarrow.field(c.name, a.type, metadata={"about": c.about}) for c, a in zip(columns, arrays, strict=True)]
    told = json.dumps(about, ensure_ascii=False, allow_nan=False)
    parquet.write_table(pyarrow.Table.from_arrays(arrays, schema=pyarrow.schema(fields, {"varphi": told})), path)


def _array(values: Iterable[Any]) -> pyarrow.Array:
    """A column of one type: of mixed levels each is told in words."""
    import pyarrow

    values = list(values)
    kinds = (bool, int, float, object)
    present = {next(kind for kind in kinds if isinstance(value, kind)) for value in values if value is not None}
    if present == {bool}:
        return pyarrow.array(values, pyarrow.bool_())
    if present == {int}:
        return pyarrow.array(values, pyarrow.int64())
    if present <= {int, float}:
        return pyarrow.array(values, pyarrow.float64())
    return pyarrow.array([None if value is None else str(value) for value in values], pyarrow.string())


_WRITERS: dict[str, Callable[[Results, Sequence[Path], bool], None]] = {
    ".csv": _as_csv,
    ".parquet": _as_parquet,
    ".json": _as_json,
}
