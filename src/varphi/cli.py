"""The command line: `varphi facts`, `varphi list`, `varphi study`.

Thin: each command checks what it was given, calls the library and prints. Nothing heavy is imported before a command
needs it, so that `varphi --help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

from varphi.activation.registry import UnknownActivation
from varphi.numbers import UnsupportedOperation

if TYPE_CHECKING:
    from rich.console import Console

    from varphi.activation.layer import Activation
    from varphi.facts.facts import Facts
    from varphi.report.listing import Entry

T = TypeVar("T")

app = typer.Typer(
    name="varphi",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Which activation function should this model use, and why? Proof, measurement and working parts.",
    epilog="With --debug anywhere on the line, an error shows its traceback.",
)

# Refusals tell the person what was wrong. Anything else is a defect and keeps its traceback.
_REFUSALS = (UnknownActivation, UnsupportedOperation, ValueError, ImportError, OSError)
_INTERRUPTED = "Interrupted. Certified facts and finished trials are kept: the same command goes on from here."


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave the process: 0 done, 2 refused, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    words = [word for word in given if word != "--debug"]
    warnings.showwarning = _warn
    try:
        try:
            app(words, prog_name="varphi")
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        _abandon_stdout()
        sys.exit(1)
    except SystemExit as end:
        if end.code == 130:
            _complain(_farewell(end))
        raise
    except _REFUSALS as error:
        if len(words) < len(given):
            raise
        _complain(f"error: {str(error).rstrip() or type(error).__name__}")
        sys.exit(2)
    sys.exit(0)


def _farewell(end: BaseException) -> str:
    """How to go on: in the words of whoever was interrupted, if they left any."""
    cause: BaseException | None = end
    while cause is not None and not isinstance(cause, KeyboardInterrupt):
        cause = cause.__cause__ or cause.__context__
    return str(cause) if cause is not None and cause.args else _INTERRUPTED


def _abandon_stdout() -> None:
    # The reader is gone: what the buffer still holds must not be written when Python ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str) -> None:
    _say(message, "bold red")


def _warn(message: Warning | str, *_: Any) -> None:
    _say(f"warning: {' '.join(str(message).split())}", "yellow")


def _say(text: str, style: str) -> None:
    """One line on standard error, beside the output proper."""
    from rich.console import Console

    Console(stderr=True, soft_wrap=not sys.stderr.isatty(), highlight=False, markup=False, emoji=False).print(
        text, style=style
    )


# What commands take ---------------------------------------------------------------------------------------------------


def _known_names(incomplete: str) -> list[str]:
    from varphi.activation.registry import names

    return [name for name in names() if name.startswith(incomplete)]


What = Annotated[
    str,
    typer.Argument(
        metavar="NAME_OR_FORMULA",
        help='A name (`varphi list`) or a formula in x: "x*tanh(exp(x))". One that begins with - goes after --.',
        autocompletion=_known_names,
        show_default=False,
    ),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A parameter's value: -p beta=2.0. Repeatable."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]


def parsed_parameters(given: Iterable[str]) -> dict[str, float | int | str]:
    """["beta=2.0"] as {"beta": 2.0}. What is no number is left for the definition to refuse in its own words."""
    values: dict[str, float | int | str] = {}
    for text in given:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise ValueError(f"a parameter is given as NAME=VALUE, as in -p beta=2.0; got {text!r}")
        if name in values:
            raise ValueError(f"the parameter {name!r} is given twice")
        values[name] = _number(value)
    return values


def _number(text: str) -> float | int | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _activation(what: str, parameters: Iterable[str]) -> Activation:
    from varphi.activation.lookup import as_activation

    values = parsed_parameters(parameters)
    try:
        return as_activation(what, **values)
    except UnsupportedOperation:
        raise
    except TypeError as refusal:  # an unknown parameter, or a value that is no number
        raise ValueError(str(refusal)) from None


def check_writable(path: Path, endings: Sequence[str]) -> Path:
    """`path`, if a file of one of these endings can be written there; found out before any work is done.

    Raises:
        ValueError: for another ending.
        OSError: where nothing can be written.
    """
    if path.suffix.lower() not in endings:
        raise ValueError(f"the output file must end in {' or '.join(endings)}, got {str(path)!r}")
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {str(path)!r}: it is a directory; name a file in it")
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"cannot write {str(path)!r}: there is no directory {str(path.parent)!r}; make it first"
        )
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(f"cannot write {str(path)!r}: the file is write-protected")
    try:
        # Permission bits do not tell everything (read-only file systems, full disks); an attempt does.
        with tempfile.TemporaryFile(dir=path.parent):
            return path
    except OSError as error:
        reason = error.strerror or str(error)
        raise PermissionError(f"cannot write {str(path)!r}: {reason}; choose another directory") from None


def _print_json(data: Any) -> None:
    from varphi.report.data import plain_data

    print(json.dumps(plain_data(data), indent=2, ensure_ascii=False, allow_nan=False))


def _console() -> Console:
    """The console of standard output; where that is a pipe or a file, lines are as long as they need to be."""
    from rich.console import Console

    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return Console(highlight=False, emoji=False)
    return Console(highlight=False, emoji=False, width=160)


# Commands -------------------------------------------------------------------------------------------------------------


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def varphi(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Options before a command."""


@app.command()
def version() -> None:
    """Print the version."""
    from varphi import __version__

    print(f"varphi {__version__}")


@app.command()
def facts(
    what: What,
    parameters: Parameters = None,
    on: Annotated[
        tuple[float, float] | None,
        typer.Option("--on", metavar="LO HI", help="Facts on [LO, HI] instead of the whole line."),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw f, f′ and f″ into an .svg, .png or .pdf file.")
    ] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Also measure accuracy (in ulp) and time; takes a minute.")
    ] = False,
    as_json: Json = False,
) -> None:
    """What is proved about an activation: range, slopes, smoothness, shape, limits, and what follows from them."""
    if figure is not None:
        from varphi.report.figure import FORMATS

        check_writable(figure, FORMATS)
    found = _facts(_activation(what, parameters or ()), on)
    if as_json:
        from varphi.report.data import facts_data

        _print_json(facts_data(found, gaussian=on is None, measure=measure))
    else:
        _print_card(found, gaussian=on is None, measure=measure)
    if figure is not None:
        _draw(found, figure)
        _say(f"wrote {figure}", "dim")


def _facts(activation: Activation, on: tuple[float, float] | None) -> Facts:
    from varphi.facts.api import facts as find

    found = find(activation)
    return found if on is None else found.on(*on)


def _print_card(found: Facts, *, gaussian: bool, measure: bool) -> None:
    from varphi.report.portrait import card

    with _waiting(f"certifying {found.name} ..."):
        drawn = card(found, gaussian=gaussian, measure=measure)
    _console().print(drawn)


def _draw(found: Facts, path: Path) -> None:
    from varphi.report import figure
    from varphi.report.portrait import portrait

    figure.save(portrait(found), path)


@app.command("list")
def list_catalogue(
    range_: Annotated[
        str | None,
        typer.Option(
            "--range", metavar="nonnegative|positive|bounded|unit|symmetric|LO,HI", help="Values that f takes."
        ),
    ] = None,
    smooth: Annotated[
        str | None, typer.Option(metavar="K|inf", help="At least K continuous derivatives; inf for all.")
    ] = None,
    lipschitz: Annotated[float | None, typer.Option(metavar="L", help="|f′| at most L everywhere.")] = None,
    monotone: Annotated[
        bool, typer.Option("--monotone", help="Never rising in one place and falling in another.")
    ] = False,
    parity: Annotated[str | None, typer.Option(metavar="odd|even", help="Odd or even.")] = None,
    family: Annotated[str | None, typer.Option(metavar="NAME", help="One family of the catalogue.")] = None,
    as_json: Json = False,
) -> None:
    """The catalogue, sifted by proved facts at default parameters; what is undecided is listed apart."""
    from varphi.report import listing

    criteria = [
        *([] if range_ is None else [listing.by_range(range_)]),
        *([] if smooth is None else [listing.by_smoothness(smooth)]),
        *([] if lipschitz is None else [listing.by_lipschitz(lipschitz)]),
        *([] if parity is None else [listing.by_parity(parity)]),
        *([listing.by_monotony()] if monotone else []),
    ]
    candidates = listing.definitions(family)
    entries = [e for e in _progress(listing.sift(candidates, criteria), len(candidates)) if e is not None]
    certain, undecided = [e for e in entries if not e.undecided], [e for e in entries if e.undecided]
    if as_json:
        return _print_json(
            {"matches": [listing.data(e) for e in certain], "undecided": [listing.data(e) for e in undecided]}
        )
    _print_table(certain)
    for entry in undecided:
        print(f"undecided: {entry.definition.name} ({', '.join(entry.undecided)})")
    _say(
        f"{len(certain)} of {len(candidates)} activations" + (f", {len(undecided)} undecided" if undecided else ""),
        "dim",
    )


def _print_table(entries: Sequence[Entry]) -> None:
    from varphi.report import listing

    console = _console()
    if entries:
        console.print(listing.table(entries, console.width))


def _waiting(words: str) -> AbstractContextManager[Any]:
    from rich.console import Console

    return Console(stderr=True).status(words)


def _progress(items: Iterator[T], total: int) -> Iterator[T]:
    """`items`, with a bar on standard error once two seconds have passed."""
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), transient=True)
    start, task = time.monotonic(), bar.add_task("certifying", total=total)
    with ExitStack() as shown:
        late = False
        for item in items:
            bar.advance(task)
            if not late and time.monotonic() - start > 2:
                late = True
                shown.enter_context(bar)
            yield item


# Studies --------------------------------------------------------------------------------------------------------------

studies = typer.Typer(no_args_is_help=True, help="Studies: what an activation does to a model, over many paired seeds.")
app.add_typer(studies, name="study")


def _known_studies(incomplete: str) -> list[str]:
    from varphi.study import registry

    return [name for name in registry.names() if name.startswith(incomplete)]


StudyName = Annotated[
    str, typer.Argument(metavar="NAME", help="A study (`varphi study list`).", autocompletion=_known_studies)
]
Storage = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Where trials live: a SQLite file (default varphi.db) or an SQLAlchemy URL."),
]
SizeName = Annotated[str | None, typer.Option(metavar="full|demo|smoke", help="How much of it is run.")]
Demo = Annotated[bool, typer.Option("--demo", help="The same as --size demo: minutes.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="The same as --size smoke: seconds, to see that it works.")]
Seeds = Annotated[int | None, typer.Option(metavar="N", help="How many paired seeds; the size's own if not given.")]


def _chosen_size(size: str | None, demo: bool, smoke: bool) -> str | None:
    given = [name for name in (size, "demo" * demo, "smoke" * smoke) if name]
    if len(set(given)) > 1:
        raise ValueError(f"one size at a time, got {' and '.join(given)}")
    return given[0] if given else None


@studies.command("list")
def list_studies(as_json: Json = False) -> None:
    """The studies, their questions and sizes."""
    from rich.table import Table

    from varphi.study import api

    found = [api.load(name) for name in api.names()]
    if as_json:
        keys = ("name", "title", "question", "data", "factors", "measures")
        return _print_json([{key: getattr(study, key) for key in keys} | {"sizes": study.sizes} for study in found])
    table = Table(box=None, pad_edge=False, padding=(0, 2, 1, 0))
    for column in ("study", "question", "size: how long it takes"):
        table.add_column(column, overflow="fold")
    for study in found:
        table.add_row(study.name, study.question, "\n".join(f"{n}: {s.takes}" for n, s in study.sizes.items()))
    _console().print(table)


@studies.command("run")
def run_study(
    name: StudyName,
    storage: Storage = None,
    size: SizeName = None,
    demo: Demo = False,
    smoke: Smoke = False,
    seeds: Seeds = None,
    as_json: Json = False,
) -> None:
    """Run what is still missing of a study, and print its answer; stopped or killed, the same command goes on."""
    from varphi.study import api

    results = api.run(
        api.load(name), storage=storage, size=_chosen_size(size, demo, smoke) or "full", seeds=seeds, progress=True
    )
    _show_results(results, as_json)
    if results.missing:
        raise typer.Exit(1)


@studies.command("show")
def show_study(
    name: StudyName,
    storage: Storage = None,
    size: SizeName = None,
    demo: Demo = False,
    smoke: Smoke = False,
    seeds: Seeds = None,
    as_json: Json = False,
) -> None:
    """Print what the storage holds of a study: answer, verdicts, table. Without a size, the last one run."""
    from varphi.study import api

    found = api.results(api.load(name), storage, size=_chosen_size(size, demo, smoke), seeds=seeds)
    _show_results(found, as_json)


@studies.command("report")
def report_study(
    name: StudyName,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.html", help="The page; NAME.html if not given.")
    ] = None,
    storage: Storage = None,
    size: SizeName = None,
    demo: Demo = False,
    smoke: Smoke = False,
    seeds: Seeds = None,
) -> None:
    """Write a study's self-contained page: answer, figures, table, verdicts, exact versions."""
    from varphi import report
    from varphi.study import api

    study = api.load(name)
    path = check_writable(output or Path(f"{study.name}.html"), (".html", ".htm"))
    report.html(api.results(study, storage, size=_chosen_size(size, demo, smoke), seeds=seeds), path)
    print(f"wrote {path}")


def _show_results(results: Any, as_json: bool) -> None:
    if as_json:
        from varphi.report.data import results_data

        return _print_json(results_data(results))
    from varphi.study import api

    api.show(results, _console())
