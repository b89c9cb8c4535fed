"""What tells one user's code from another's: results of other code are never taken for those of this one."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import io
import pickle
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

# Constants that count where there is no file: data and models are made by code, which is read.
_PLAIN = (int, float, complex, str, bytes, bool, type(None))


def fingerprint(*parts: Any) -> str:
    """A key of functions, models and plain values.

    Of a function, the files of the user's own that it is written in and that those import, without comments and
    layout; its defaults, and what it closes over. Of a model, its structure, not its weights. Installed packages do not
    count.

    Raises:
        ValueError: for a function without source, or one that holds what cannot be written down.
    """
    file = io.BytesIO()
    try:
        _Writer(file).dump(parts)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(
            f"the training or the model holds something that cannot be written down, to tell its results from others' "
            f"({error}); make it inside the function, or at the top of its file"
        ) from None
    return hashlib.sha256(file.getvalue()).hexdigest()[:16]


class _Writer(pickle.Pickler):
    """Writes functions, classes and modules as their source, tensors as their numbers, models as their structure."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, FunctionType):
            # As state, which is written after the function itself is known: it may hold itself.
            held = (obj.__defaults__, obj.__kwdefaults__, [cell.cell_contents for cell in obj.__closure__ or ()])
            return str, (f"{obj.__qualname__}{_code(obj.__code__)}{_text([_module(obj)])}",), held
        if isinstance(obj, nn.Module):
            return str, (f"{_described(obj)}{_text(_homes(obj))}",)
        if isinstance(obj, ModuleType):
            return str, (_text([obj]) if _is_own(obj) else obj.__name__,)
        if isinstance(obj, Tensor):
            return str, (_digest(obj),)
        if isinstance(obj, type) and _is_own(_module(obj)):
            return str, (f"{obj.__qualname__}{_text([_module(obj)])}",)
        return NotImplemented


def _code(code: CodeType) -> str:
    """What tells two lambdas of one file apart."""

    def told(constant: Any) -> str:
        if isinstance(constant, CodeType):
            return _code(constant)
        # The order of a set of words is another in every process.
        return str(sorted(map(repr, constant))) if isinstance(constant, frozenset) else repr(constant)

    return f"{code.co_code.hex()} {code.co_names} {[*map(told, code.co_consts)]}"


def _described(model: nn.Module) -> str:
    """The structure of a model, without its weights: those are made anew."""
    lines = []
    for path, module in model.named_modules():
        plain = {n: v for n, v in sorted(vars(module).items()) if not n.startswith("_") and isinstance(v, _PLAIN)}
        shapes = {n: (tuple(p.shape), str(p.dtype)) for n, p in module.named_parameters(recurse=False)}
        buffers = {n: _digest(b) for n, b in module.named_buffers(recurse=False)}
        lines.append(f"{path}: {type(module).__qualname__} {module.extra_repr()} {plain} {shapes} {buffers}")
    return "\n".join(lines)


def _digest(tensor: Tensor) -> str:
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    content = hashlib.sha256(bytes(plain.reshape(-1).view(torch.uint8).numpy())) if plain.numel() else hashlib.sha256()
    return f"{tuple(plain.shape)} {plain.dtype} {content.hexdigest()}"


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
