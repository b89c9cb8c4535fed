"""The command line: `varphi facts`, `varphi list`, `varphi study`.

Thin: each command checks what it was given, calls the library and prints. Nothing heavy is imported before a command
needs it, so that `varphi --help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from varphi.numbers import UnsupportedOperation

if TYPE_CHECKING:
    from rich.console import Console

    from varphi.activation.layer import Activation

app = typer.Typer(
    name="varphi",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Which activation function should this model use, and why? Proof, measurement and working parts.",
    epilog="--debug anywhere on the line shows the traceback of an error.",
)

# Refusals: errors that say to the person what was wrong. All others are defects and keep their traceback.
_REFUSALS = (ValueError, LookupError, UnsupportedOperation, ImportError, OSError)
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
        _close_stdout()
        sys.exit(1)
    except SystemExit as end:
        if end.code == 130:
            _complain(_INTERRUPTED)
        raise
    except _REFUSALS as error:
        if len(words) < len(given):
            raise
        _complain(f"error: {_sentence(error)}")
        sys.exit(2)
    sys.exit(0)


def _close_stdout() -> None:
    # The reader has gone; what is left in the buffer must not be written when Python ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _sentence(error: BaseException) -> str:
    # str(KeyError) quotes its message.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__


def _complain(message: str) -> None:
    from rich.console import Console

    Console(stderr=True, soft_wrap=True, highlight=False).print(message, style="bold red", markup=False)
