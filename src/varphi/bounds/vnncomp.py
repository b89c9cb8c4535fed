"""VNN-COMP's files: results of one instance, and lists of instances with the table of their results."""

from __future__ import annotations

import csv
import gzip
import io
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from varphi.files import whole as whole_file

from .arithmetic import Name
from .deadline import OutOfTime, until
from .nodes import UncertifiedOperation
from .onnx import OnnxModel, read_onnx
from .splitting import Progress
from .verification import Answer, Counterexample, unread, verify
from .vnnlib import Property, read_vnnlib


@dataclass(frozen=True)
class Instance:
    """One row of a list: a model, a property, and the seconds there are for it.

    Attributes:
        model, spec: the network's file and the property's, as the list names them, relative to its folder.
        timeout: seconds.
    """

    model: str
    spec: str
    timeout: float

    @property
    def key(self) -> tuple[str, str]:
        return self.model, self.spec


@dataclass(frozen=True)
class Finished:
    """One row of the results.

    Attributes:
        instance: what was asked.
        prepared, ran: seconds of reading, and of the rest.
        result: VNN-COMP's word, "error" included.
        reason: of an error, or of "unknown".
    """

    instance: Instance
    prepared: float
    result: str
    ran: float
    reason: str = ""


def result_text(answer: Answer, asked: Property) -> str:
    """An answer as VNN-COMP's results file has it: the word, and the counterexample below it."""
    if answer.counterexample is None:
        return f"{answer.result}\n"
    return f"{answer.result}\n{counterexample_text(answer.counterexample, asked)}"


def counterexample_text(found: Counterexample, asked: Property) -> str:
    """Every input and output by name: version 1's ((X_0 0.5) ... (Y_0 1.0)), or tensor by tensor for version 2."""
    values = (found.inputs, found.outputs)
    if asked.tensors is None:
        pairs = [f"({k}_{i} {float(v)!r})" for k, own in zip("XY", values, strict=True) for i, v in enumerate(own)]
        return "(" + "\n".join(pairs) + ")\n"
    lines = []
    for tensor, own in zip(asked.tensors, values, strict=True):
        lines.append(f"{tensor.name} {tensor.element} [{','.join(map(str, tensor.shape))}]")
        lines += [repr(float(v)) for v in own]
    return "\n".join(lines) + "\n"


def read_instances(path: Path) -> list[Instance]:
    """The rows of an instances.csv: model, property, timeout.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a row that is something else, with its line.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {str(path)!r}") from None
    found = []
    reader = csv.reader(io.StringIO(text))
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        cells = [cell.strip() for cell in row]
        seconds = _seconds(cells[2]) if len(cells) == 3 else math.nan
        if not seconds > 0:
            place = f"{path}, line {reader.line_num}"
            raise ValueError(f"{place}: an instance is MODEL.onnx,PROPERTY.vnnlib,SECONDS; got {','.join(row)!r}")
        found.append(Instance(cells[0], cells[1], seconds))
    if not found:
        raise ValueError(f"{path} lists no instances")
    return found


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


class Benchmark:
    """A folder of models and properties with a list of instances, and the file that results are kept in.

    The results have VNN-COMP's columns: benchmark, model, property, seconds of reading, result, seconds of verifying.
    What the file already holds is kept and not run again, except errors; so a run that was stopped goes on.

    Args:
        instances: the list; its folder is the benchmark's.
        results: the file, a .csv.
        timeout: the most seconds for any instance; None for the list's own.
    """

    def __init__(
        self, instances: Path, results: Path, timeout: float | None, arithmetic: Name | None = None, seed: int = 0
    ) -> None:
        self.folder, self.results = instances.parent, results
        self.name = instances.resolve().parent.name
        self.instances = [
            Instance(i.model, i.spec, min(i.timeout, timeout or math.inf)) for i in read_instances(instances)
        ]
        self.arithmetic: Name | None = arithmetic
        self.seed = seed
        self.done = {f.instance.key: f for f in self._kept()}
        self._model: tuple[str, OnnxModel] | None = None

    def _kept(self) -> Iterator[Finished]:
        if not self.results.exists():
            return
        known = {i.key: i for i in self.instances}
        rows = list(csv.reader(io.StringIO(self.results.read_text("utf-8"))))
        for number, row in enumerate(rows, 1):
            if len(row) != 6 or row[0] != self.name or any(not _seconds(row[i]) >= 0 for i in (3, 5)):
                raise ValueError(
                    f"{self.results}, line {number}: not a result of the benchmark {self.name}; name another file"
                )
            instance = known.get((row[1], row[2]))
            if instance is not None and row[4] != "error":
                yield Finished(instance, float(row[3]), row[4], float(row[5]))

    @property
    def open(self) -> list[Instance]:
        """What is still to be run."""
        return [i for i in self.instances if i.key not in self.done]

    def run(self, progress: Callable[[Instance], Progress | None] = lambda _: None) -> Iterator[Finished]:
        """Run what is open, one after the other; each row is kept as soon as it is there."""
        for instance in self.open:
            finished = self._finished(instance, progress(instance))
            self.done[instance.key] = finished
            self._write()
            yield finished

    def _finished(self, instance: Instance, progress: Progress | None) -> Finished:
        begin = ready = time.monotonic()
        try:
            with until(begin + instance.timeout):
                model, asked = self._loaded(instance.model), read_vnnlib(self.folder / instance.spec)
            ready = time.monotonic()
            answer = verify(
                model,
                asked,
                timeout=max(instance.timeout - (ready - begin), 1e-3),
                arithmetic=self.arithmetic,
                seed=self.seed,
                progress=progress,
            )
        except OutOfTime:
            answer = unread(begin, self.arithmetic)
            return Finished(instance, answer.seconds, answer.result, 0.0, answer.reason)
        except ImportError:
            raise
        except Exception as error:  # one instance's trouble is not the others'
            refused = isinstance(error, (UncertifiedOperation, ValueError, OSError))
            reason = str(error) if refused else f"{type(error).__name__}: {error}"
            return Finished(instance, ready - begin, "error", time.monotonic() - ready, reason)
        if answer.counterexample is not None:
            self._keep(instance, counterexample_text(answer.counterexample, asked))
        return Finished(instance, ready - begin, answer.result, time.monotonic() - ready, answer.reason)

    def _loaded(self, name: str) -> OnnxModel:
        if self._model is None or self._model[0] != name:
            self._model = name, read_onnx(self.folder / name)
        return self._model[1]

    def _keep(self, instance: Instance, text: str) -> None:
        """A counterexample beside the results, packed and named as VNN-COMP's are."""
        stems = "_".join(Path(n.removesuffix(".gz")).stem for n in instance.key)
        with whole_file(self.results.with_name(f"{stems}.counterexample.gz")) as path:
            path.write_bytes(gzip.compress(text.encode(), mtime=0))

    def _write(self) -> None:
        with whole_file(self.results) as path, path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            for instance in self.instances:
                done = self.done.get(instance.key)
                if done is not None:
                    rows.writerow([self.name, *instance.key, f"{done.prepared:.3f}", done.result, f"{done.ran:.3f}"])
