"""The command line: `varphi facts`, `varphi list`, `varphi study`.

Thin: each command checks what it was given, calls the library and prints. Nothing heavy is imported before a command
needs it, so that `varphi --help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from varphi.activation.registry import UnknownActivation
from varphi.numbers import UnsupportedOperation

if TYPE_CHECKING:
    from rich.console import Console

    from varphi.activation.layer import Activation

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
            _complain(_INTERRUPTED)
        raise
    except _REFUSALS as error:
        if len(words) < len(given):
            raise
        _complain(f"error: {' '.join(str(error).split()) or type(error).__name__}")
        sys.exit(2)
    sys.exit(0)


def _abandon_stdout() -> None:
    # The reader is gone: what the buffer still holds must not be written when Python ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str) -> None:
    from rich.console import Console

    Console(stderr=True, soft_wrap=True, highlight=False, markup=False, emoji=False).print(message, style="bold red")


# What commands take ---------------------------------------------------------------------------------------------------


def _known_names(incomplete: str) -> list[str]:
    from varphi.activation.registry import names

    return [name for name in names() if name.startswith(incomplete)]


What = Annotated[
    str,
    typer.Argument(
        metavar="NAME_OR_FORMULA",
        help="A name (`varphi list`) or a formula in x: \"x*tanh(exp(x))\". One that begins with - goes after --.",
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
        raise FileNotFoundError(f"cannot write {str(path)!r}: there is no directory {str(path.parent)!r}; make it first")
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
