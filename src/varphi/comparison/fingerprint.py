"""What tells one user's code from another's: results of other code are never taken for those of this one."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import pickle
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from torch import Tensor, nn

# Constants that a module may hold; data sets and models are made by its code, which is read.
_PLAIN = (int, float, complex, str, bytes, bool, type(None))


def fingerprint(*parts: Any) -> str:
    """A key of functions (with the files of theirs, and what they hold), modules and plain values.

    Of a function, the files of the user's own that it is written in and that those import, without comments and
    layout; its defaults, and what it closes over. Installed packages do not count.

    Raises:
        ValueError: for a function without source, or one that holds what cannot be written down.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(_told(part))
    return digest.hexdigest()[:16]


def _told(part: Any) -> bytes:
    if isinstance(part, nn.Module):
        return f"{_described(part)}{_text(_homes(part))}".encode()
    if isinstance(part, ModuleType):
        return _text([part]).encode()
    if isinstance(part, functools.partial):
        return b"".join(map(_told, (part.func, *part.args, *sorted(part.keywords.items()))))
    if isinstance(part, FunctionType):
        held = [*(part.__defaults__ or ()), *(part.__kwdefaults__ or {}).items()]
        held += [cell.cell_contents for cell in part.__closure__ or ()]
        return f"{part.__qualname__}{_text([_module(part)])}".encode() + b"".join(map(_told, held))
    if inspect.ismethod(part):
        return _told(part.__func__) + _told(part.__self__)
    if isinstance(part, type):
        return f"{part.__qualname__}{_text([_module(part)])}".encode()
    if isinstance(part, tuple | list):
        return b"".join(map(_told, part))
    source = _text([_module(type(part))]) if callable(part) else ""
    return source.encode() + _pickled(part)


def _pickled(value: Any) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception as error:
        raise ValueError(
            f"the training or the model holds {type(value).__name__} {value!r}, which cannot be written down to tell "
            f"its results from others' ({error}); make it inside the function, or at the top of its file"
        ) from None


def _described(model: nn.Module) -> str:
    """The structure of a model, without its weights: those are made anew."""
    lines = []
    for path, module in model.named_modules():
        plain = {n: v for n, v in sorted(vars(module).items()) if not n.startswith("_") and isinstance(v, _PLAIN)}
        shapes = {n: (tuple(p.shape), str(p.dtype)) for n, p in module.named_parameters(recurse=False)}
        buffers = {n: _digest(b) for n, b in module.named_buffers(recurse=False)}
        lines.append(f"{path}: {type(module).__qualname__} {module.extra_repr()} {plain} {shapes} {buffers}")
    return "\n".join(lines)


def _digest(tensor: Tensor | None) -> str:
    if tensor is None:
        return ""
    return hashlib.sha256(repr(tensor.detach().cpu().tolist()).encode()).hexdigest()


def _homes(model: nn.Module) -> list[ModuleType]:
    return [module for module in {_module(type(m)): None for m in model.modules()} if _is_own(module)]


def _module(thing: Any) -> ModuleType:
    found = sys.modules.get(thing.__module__)
    if found is None:
        raise ValueError(f"the module {thing.__module__!r} of {thing!r} is not to be found; import it, then pass it")
    return found


# Source ---------------------------------------------------------------------------------------------------------------


def _text(modules: Iterable[ModuleType]) -> str:
    """The source of these modules, and of the user's own that they import."""
    found: dict[str, ModuleType] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module.__name__ not in found:
            found[module.__name__] = module
            if _is_own(module):
                waiting += [m for m in map(_home, vars(module).values()) if m is not None and _is_own(m)]
    # By content: the same file is `__main__` in one process and imported in another.
    return "\n".join(sorted({_source(module) for module in found.values()}))


def _home(value: Any) -> ModuleType | None:
    """The module that a global is, or comes from."""
    if isinstance(value, ModuleType):
        return value
    name = getattr(value, "__module__", None) if isinstance(value, FunctionType | type) else None
    return sys.modules.get(name) if isinstance(name, str) else None


@functools.cache
def _installed() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple({str(Path(paths[key]).resolve()) for key in ("stdlib", "platstdlib", "purelib", "platlib")})


def _is_own(module: ModuleType) -> bool:
    """Whether a module is the user's: neither installed, nor Python's, nor varphi's."""
    if module.__name__.partition(".")[0] == "varphi":
        return False
    file = getattr(module, "__file__", None)
    if file is None:
        return module.__name__ == "__main__"
    return file.endswith(".py") and not str(Path(file).resolve()).startswith(_installed())


def _source(module: ModuleType) -> str:
    file = getattr(module, "__file__", None)
    if file is not None and file.endswith(".py") and Path(file).is_file():
        return ast.dump(ast.parse(Path(file).read_text("utf-8")))
    return _of_a_session(module)


def _of_a_session(module: ModuleType) -> str:
    """The functions, classes and plain constants of a notebook or a prompt."""
    lines = []
    for name, value in sorted(vars(module).items()):
        if isinstance(value, FunctionType | type) and value.__module__ == module.__name__:
            lines.append(_written(value))
        elif not name.startswith("_") and isinstance(value, _PLAIN):
            lines.append(f"{name} = {value!r}")
    return "\n".join(lines)


def _written(thing: Callable[..., Any] | type) -> str:
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        raise ValueError(
            f"the source of {thing.__name__} is not to be found, so its results could not be told from others'; write "
            "it in a file"
        ) from None
