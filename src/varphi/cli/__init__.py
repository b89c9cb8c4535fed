"""The command line: `varphi facts`, `varphi list`, `varphi compare`, `varphi study`, `varphi claims`, `varphi neuron`,
`varphi verify`.

Thin: each command checks what it was given, calls the library and prints. Nothing heavy is imported before a command
needs it, so that `varphi --help` answers at once. This file is the entry; a command's file has its name.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from varphi.activation.registry import UnknownActivation
from varphi.numbers import UnsupportedOperation

from .circuit import circuits
from .claims import claims
from .compare import compare
from .console import complain, warn
from .facts import facts, list_catalogue
from .neuron import neurons
from .study import studies
from .verify import verify

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
    warnings.showwarning = warn
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
            complain(_farewell(end))
        raise
    except _REFUSALS as error:
        if len(words) < len(given):
            raise
        complain(f"error: {str(error).rstrip() or type(error).__name__}")
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


app.command()(facts)
app.command("list")(list_catalogue)
app.command()(compare)
app.add_typer(studies, name="study")
app.command()(verify)
app.command()(claims)
app.add_typer(circuits, name="circuit")
app.add_typer(neurons, name="neuron")
