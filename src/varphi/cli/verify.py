"""`varphi verify`: properties of ONNX models, proved or refuted, as VNN-COMP asks and answers."""

from __future__ import annotations

import math
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from varphi.files import check_writable
from varphi.files import whole as whole_file

from .arguments import Json
from .console import console, print_json, say

if TYPE_CHECKING:
    from varphi.bounds.splitting import Progress
    from varphi.bounds.verification import Answer
    from varphi.progress import Bar

_DECIDED = ("unsat", "sat")


def verify(
    model: Annotated[
        Path | None, typer.Argument(metavar="MODEL.onnx", help="The network, or .onnx.gz.", show_default=False)
    ] = None,
    property: Annotated[
        Path | None,
        typer.Argument(metavar="PROPERTY.vnnlib", help="What must not happen, or .vnnlib.gz.", show_default=False),
    ] = None,
    instances: Annotated[
        Path | None,
        typer.Option(metavar="FILE.csv", help="A list, MODEL,PROPERTY,SECONDS in each row: a benchmark's folder."),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="When to give up: 60 if not given; at most this for each instance."),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the answer there too; with --instances the table, results.csv."),
    ] = None,
    arithmetic: Annotated[
        Literal["sound32", "float64", "fast"] | None,
        typer.Option(metavar="sound32|float64|fast", help="The rounding to pay for; the model's own if not given."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of the search for counterexamples.")] = 0,
    as_json: Json = False,
) -> None:
    """Whether any input of a property's boxes can make a network violate it: unsat (proved), sat, or timeout.

    Exit code: 0 for unsat and sat, 1 for timeout and unknown, 2 for what cannot be read.
    """
    if timeout is not None and not timeout > 0:
        raise ValueError(f"--timeout must be a number of seconds > 0, got {timeout}")
    if instances is not None:
        if model is not None or property is not None:
            raise ValueError("give a model and a property, or --instances FILE.csv, not both")
        return _all(instances, results or instances.with_name("results.csv"), timeout, arithmetic, seed, as_json)
    if model is None or property is None:
        raise ValueError("what to verify is MODEL.onnx PROPERTY.vnnlib, or --instances FILE.csv")
    if results is not None:
        check_writable(results)
    _one(model, property, timeout or 60.0, results, arithmetic, seed, as_json)


def _one(
    model: Path, property: Path, timeout: float, results: Path | None, arithmetic: Any, seed: int, as_json: bool
) -> None:
    begin = time.monotonic()
    try:
        from varphi.bounds.deadline import OutOfTime, until
        from varphi.bounds.onnx import read_onnx
        from varphi.bounds.verification import unread
        from varphi.bounds.verification import verify as verified
        from varphi.bounds.vnncomp import result_text
        from varphi.bounds.vnnlib import read_vnnlib
        from varphi.progress import bar

        try:
            with until(begin + timeout):
                asked, read = read_vnnlib(property), read_onnx(model)
        except OutOfTime:
            answer = unread(begin, arithmetic)
            return _said(model, property, answer, f"{answer.result}\n", results, as_json)
        left = max(timeout - (time.monotonic() - begin), 1e-3)
        with bar(f"verifying, for {timeout:g} s at most") as moved:
            told = _told_of(moved, timeout - left, timeout)
            answer = verified(read, asked, timeout=left, arithmetic=arithmetic, seed=seed, progress=told)
    except (ValueError, ImportError, OSError):
        _kept(results, "error\n")
        raise
    _said(model, property, answer, result_text(answer, asked), results, as_json)


def _said(model: Path, property: Path, answer: Answer, text: str, results: Path | None, as_json: bool) -> None:
    _kept(results, text)
    if as_json:
        print_json(_told(model, property, answer))
    else:
        print(text, end="")
    if answer.reason:
        say(answer.reason, "yellow")
    if answer.result not in _DECIDED:
        raise typer.Exit(1)


def _kept(results: Path | None, text: str) -> None:
    if results is not None:
        with whole_file(results) as path:
            path.write_text(text, "utf-8")


def _told(model: Path, property: Path, answer: Answer) -> dict[str, Any]:
    found = answer.counterexample
    return {
        "model": str(model),
        "property": str(property),
        "result": answer.result,
        "seconds": answer.seconds,
        "regions": answer.regions,
        "arithmetic": answer.arithmetic,
        "reason": answer.reason or None,
        "counterexample": None
        if found is None
        else {"inputs": found.inputs.tolist(), "outputs": found.outputs.tolist(), "checked": found.checked},
    }


def _all(instances: Path, results: Path, timeout: float | None, arithmetic: Any, seed: int, as_json: bool) -> None:
    check_writable(results, (".csv",))
    from varphi.bounds.vnncomp import Benchmark, Instance
    from varphi.progress import bar

    benchmark = Benchmark(instances, results, timeout, arithmetic, seed)
    total, kept = len(benchmark.instances), len(benchmark.done)
    if kept:
        say(f"{kept} of {total} instances are in {results} already and are kept", "dim")
    out = console()
    with bar(f"verifying {total} instances") as moved:

        def told(instance: Instance) -> Progress:
            done = len(benchmark.done)
            name = f"{done + 1}/{total} {Path(instance.model).name} "
            return _told_of(moved, 0.0, instance.timeout, name, (done / total, 1 / total))

        for finished in benchmark.run(told):
            moved.pause()
            if not as_json:
                named = f"{finished.instance.model} {finished.instance.spec}"
                out.print(f"{finished.result:8} {finished.ran:8.2f} s  {named}", soft_wrap=True)
            if finished.reason:
                say(f"{finished.instance.model} {finished.instance.spec}: {finished.reason}", "yellow")
    counts = Counter(benchmark.done[i.key].result for i in benchmark.instances)
    if as_json:
        rows = [(i, benchmark.done[i.key]) for i in benchmark.instances]
        found = [
            {"model": i.model, "property": i.spec, "result": f.result, "seconds": f.ran, "reason": f.reason or None}
            for i, f in rows
        ]
        print_json({"benchmark": benchmark.name, "results": str(results), "counts": counts, "instances": found})
    else:
        out.print(f"{benchmark.name}: " + ", ".join(f"{n} {word}" for word, n in sorted(counts.items())))
    if set(counts) - set(_DECIDED):
        raise typer.Exit(1)


def _told_of(
    moved: Bar, spent: float, timeout: float, name: str = "", part: tuple[float, float] = (0.0, 1.0)
) -> Progress:
    """What a search tells, as a bar shows it.

    Args:
        spent: seconds of the timeout that are over.
        part: where in the bar this search begins, and how much of it is its own.
    """
    begin = time.monotonic() - spent

    def told(regions: int, open_: int, least: float) -> None:
        bound = "" if math.isnan(least) else f", least bound {least:.3g}"
        share = min((time.monotonic() - begin) / timeout, 1.0)
        moved(part[0] + part[1] * share, f"{name}{regions} regions, {open_} open{bound}")

    return told
