"""Where in a model an activation is exchanged: its layers, as tables name them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from varphi.activation.uses import Use


@dataclass(frozen=True)
class Place:
    """One place where the activation stands.

    Attributes:
        label: the path of the module, or the module's path with file and line of the call.
        path: of the module itself, or of the one whose forward makes the call.
        line: file and line of the call; "" for a module.
    """

    label: str
    path: str
    line: str = ""


def places(model: nn.Module, uses: Iterable[Use]) -> tuple[Place, ...]:
    """The places of these uses, each once: a module that stands in several places is one, and so is a line of code."""
    found: dict[object, Place] = {}
    paths = dict(model.named_modules(remove_duplicate=False))
    for use in uses:
        if use.place == "module":
            module = paths.get(use.path)
            # Functions that a module holds (nn.TransformerEncoderLayer) are no modules yet, but will be.
            key = use.path if module is None else id(module)
            found.setdefault(key, Place(use.path or "the model", use.path))
        else:
            found.setdefault((use.path, use.line), Place(_told(use), use.path, use.line))
    return tuple(found.values())


def _told(use: Use) -> str:
    file, _, line = use.line.rpartition(":")
    return f"{use.path or 'forward'}, {Path(file).name}:{line}" if file else use.path or "forward"
