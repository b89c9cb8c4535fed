"""From a torch callable to a definition: run it once on a tensor that stands for x and writes down what is done to it.

Every operation of torch on that tensor, however it is spelled, arrives in `Traced.__torch_function__` and is translated
by the table of `operations`. What is not in the table is refused by name. At the end the formula is checked against the
callable itself on some two thousand points.
"""

from __future__ import annotations

import copy
import linecache
import os
import sys
import textwrap
from collections.abc import Callable, Mapping
from types import CodeType, FrameType
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.overrides import resolve_name

import varphi.numbers
from varphi.numbers import Expression, System, UnsupportedOperation, evaluate, register, variable
from varphi.numbers.expression import EXPRESSIONS, constant

from .definition import Definition, Evaluation
from .layer import Activation
from .operations import POINTWISE, choose, is_in_place, is_truth, name_of


class TracingError(ValueError):
    """A callable that is not made of known pointwise operations; the message names the operation and its place."""


def trace(function: Callable[..., Any], name: str | None = None) -> Activation:
    """The activation that a torch callable or module computes, with all of varphi's number systems.

    Args:
        function: takes a tensor and gives one of the same shape, by pointwise operations: functions of torch and
            `torch.nn.functional`, tensor methods, in-place forms, masks, activation modules, or varphi's own
            elementary functions. Parameters of one element, and everything else it closes over, are taken at their
            present value. A module is copied first; one with dropout must be in eval mode.
        name: the definition's name; by default the callable's own, or the formula if it has none.

    Returns:
        An activation without parameters. It agrees with the callable on about 2000 points of [-1e6, 1e6].

    Raises:
        TracingError: an operation that is unknown, not pointwise, or depends on values (`if x > 0`), with the line of
            code; or a formula that disagrees with the callable, with the point.

    Example:
        >>> vp.trace(lambda x: x * torch.tanh(torch.exp(x))).definition.expression()
        x*tanh(exp(x))
    """
    if isinstance(function, Activation):
        return function
    if isinstance(function, type) and issubclass(function, nn.Module):
        function = function()
    # What torch.compile was given.
    function = getattr(function, "_orig_mod", getattr(function, "_torchdynamo_orig_callable", function))
    if not callable(function):
        raise TypeError(f"vp.trace takes a callable or a module, got {type(function).__name__}: {function!r}")
    called = name or _name(function)
    if isinstance(function, nn.Module):
        # Float32 parameters keep their value in float64; the copy also takes what the run may change.
        function = copy.deepcopy(function).double().cpu()
    expression, precision = _record(function, called or repr(function))
    _verify(function, expression, called or repr(expression), precision)
    definition = Definition(called or repr(expression), Evaluation(expression), doc="Traced from a torch callable.")
    return Activation(definition)


def _name(function: Any) -> str | None:
    if isinstance(function, nn.Module):
        return type(function).__name__
    own = getattr(getattr(function, "func", function), "__name__", "<lambda>")
    return None if own == "<lambda>" else own


# What a tensor may be asked about itself without its values.
_QUESTIONS = """
    shape size dim ndim ndimension numel nelement len dtype device layout is_floating_point is_complex is_cuda is_cpu
    is_sparse is_quantized is_nested is_meta is_mkldnn is_leaf is_contiguous requires_grad grad_fn element_size
    get_device stride storage_offset is_inference is_same_size repr hash
"""
_METADATA = frozenset(_QUESTIONS.split())
# Those that give back the tensor itself, so that an in-place operation on the result changes it too.
_ALIASING = frozenset(("detach", "contiguous", "requires_grad", "cpu", "double"))
_CONVERSIONS = {"float": torch.float32, "half": torch.float16, "bfloat16": torch.bfloat16}
_TRUTH_CONVERSIONS = ("long", "int", "bool", "short", "char", "byte")
_TAKES_VALUES = "it takes values out of the tensor: use torch's functions instead of those of Python, math or NumPy"
_REMEDIES = {
    "__bool__": "the way the code takes depends on the values of x: write torch.where(condition, a, b)",
    **dict.fromkeys(("__float__", "__int__", "__index__", "__complex__", "__array__"), _TAKES_VALUES),
    **dict.fromkeys(("item", "numpy", "tolist"), _TAKES_VALUES),
    **dict.fromkeys(("max", "min"), "over a dimension or all elements it is not pointwise"),
}


class Traced(Tensor):
    """A tensor without values that knows the formula of its elements.

    Attributes:
        expression: what every element is, in x.
        mask: the truth value that chose these elements, `y[mask]`; None for all of them.
        precision: the least precise floating-point type on the way.
    """

    expression: Expression
    mask: Expression | None
    precision: torch.dtype

    @staticmethod
    def of(expression: Any, mask: Expression | None = None, precision: torch.dtype = torch.float64) -> Traced:
        kind = torch.bool if is_truth(expression) and not constant(expression).is_constant else torch.float64
        traced = Tensor._make_subclass(Traced, torch.full((7,), torch.nan).to(kind))
        traced.expression, traced.mask, traced.precision = constant(expression), mask, precision
        return traced

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _apply(func, args, dict(kwargs or {}))

    def __repr__(self, **_: Any) -> str:
        return f"Traced({self.expression!r})"

    def __format__(self, specification: str) -> str:
        return repr(self)


def _apply(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if getattr(function, "__name__", "").startswith("__") and function.__name__ in _REMEDIES:
        _refuse(function)
    name = name_of(function)
    if name in ("get", "set"):  # an attribute
        name = function.__self__.__name__
        if name == "data":
            return args[0]
        if name not in _METADATA:
            _refuse(function)
    if name in _METADATA:
        with torch._C.DisableTorchFunctionSubclass():
            return function(*args, **kwargs)
    if name == "getitem":
        return _masked(function, *args)
    if name == "setitem":
        return _set_masked(function, *args)
    if name in _CONVERSIONS or name in ("to", "type"):
        return _convert(function, name, args, kwargs)
    if name in _TRUTH_CONVERSIONS and is_truth(args[0].expression):
        return args[0]
    if name in _ALIASING:
        return args[0]
    return _translate(function, name, args, kwargs)


def _translate(function: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    operation = POINTWISE.get(name)
    # x.max(0) is over a dimension, torch.max(x, y) of two numbers.
    reduces = name in ("max", "min") and not any(isinstance(a, Tensor) for a in [*args[1:], *kwargs.values()])
    if operation is None or reduces or kwargs.get("out") is not None:
        _refuse(function, "with out=" if "out" in kwargs else "")
    in_place = is_in_place(function, kwargs)
    plain = {k: _value(function, v) for k, v in kwargs.items() if k not in ("inplace", "out")}
    try:
        expression = constant(operation(*[_value(function, a) for a in args], **plain))
    except NotImplementedError as reason:
        _refuse(function, str(reason))
    except TypeError as error:
        _refuse(function, f"with these arguments ({error})")
    operands = [a for a in (*args, *kwargs.values()) if isinstance(a, Traced)]
    result = Traced.of(expression, _common_mask(function, operands), _least_precise(operands))
    if not in_place:
        return result
    target = args[0] if args else kwargs["input"]
    if not isinstance(target, Traced) or target.mask is not result.mask:
        _refuse(function, "into a tensor that does not come from x")
    target.expression, target.precision = result.expression, result.precision
    return target


def _value(function: Any, argument: Any) -> Any:
    """An argument as the table of operations takes it: an expression, a number, or what else it is."""
    if isinstance(argument, Traced):
        return argument.expression
    if not isinstance(argument, Tensor):
        return _exact(argument)
    elements = argument.detach().flatten()
    uniform = elements.numel() > 0 and bool((elements == elements[0]).all())
    if not uniform or (elements.numel() > 1 and argument.requires_grad):
        _refuse(function, f"with a tensor of {elements.numel()} elements: one formula for all x takes one number")
    return _exact(elements[0].item())


def _exact(value: Any) -> Any:
    """A whole number as an integer, which expressions keep exact; anything else as it is."""
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return int(value) if whole else value


def _common_mask(function: Any, operands: list[Traced]) -> Expression | None:
    masks = {id(o.mask): o.mask for o in operands}
    if len(masks) > 1:
        _refuse(function, "on elements chosen by different masks")
    return next(iter(masks.values()), None)


def _least_precise(operands: list[Traced]) -> torch.dtype:
    return max((o.precision for o in operands), key=lambda d: torch.finfo(d).eps, default=torch.float64)


def _convert(function: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    source = args[0]
    wanted = [_CONVERSIONS[name]] if name in _CONVERSIONS else [*args[1:], *kwargs.values()]
    kinds = [w.dtype if isinstance(w, Tensor) else w for w in wanted]
    kind = next((k for k in kinds if isinstance(k, torch.dtype)), None)
    if name == "type" and kind is None:
        _refuse(function, "with the type as text: write .to(torch.float32)")
    if kind is None or is_truth(source.expression):
        return source if kind is None else Traced.of(choose(source.expression, 1, 0), source.mask, source.precision)
    if not kind.is_floating_point:
        _refuse(function, f"to {kind}")
    narrower = torch.finfo(kind).eps > torch.finfo(source.precision).eps
    return Traced.of(source.expression, source.mask, kind if narrower else source.precision)


def _masked(function: Any, source: Any, index: Any) -> Any:
    if index is Ellipsis or index == slice(None) if not isinstance(index, Tensor) else False:
        return source
    if not isinstance(source, Traced) or not isinstance(index, Traced) or not is_truth(index.expression):
        _refuse(function, "by position: every element must be treated alike")
    return Traced.of(source.expression, index.expression, source.precision)


def _set_masked(function: Any, target: Any, index: Any, value: Any) -> None:
    if isinstance(index, Tensor):
        truth = index.expression if isinstance(index, Traced) else None
    else:
        truth = constant(1) if index is Ellipsis or index == slice(None) else None
    if not isinstance(target, Traced) or truth is None or not is_truth(truth):
        _refuse(function, "by position: every element must be treated alike")
    if isinstance(value, Traced) and value.mask is not (None if truth.is_constant else truth):
        _refuse(function, "with values chosen by another mask")
    target.expression = choose(truth, _value(function, value), target.expression)


def _refuse(function: Any, detail: str = "") -> NoReturn:
    remedy = _REMEDIES.get(getattr(function, "__name__", ""))
    if remedy is None and name_of(function) not in POINTWISE and not detail:
        remedy = "it is not a pointwise operation that varphi knows"
    reason = f"{f' {detail}' if detail else ''}{f': {remedy}' if remedy else ''}"
    raise TracingError(f"cannot trace {spelled_name(function)}{reason}{_place()}")


def spelled_name(function: Any) -> str:
    """A torch function or method by its full public name."""
    resolved = resolve_name(function) or getattr(function, "__qualname__", None) or repr(function)
    if resolved.startswith("torch.Tensor.") and resolved.endswith(".__get__"):
        return resolved.removesuffix(".__get__")
    return resolved.replace("torch._C._nn.", "torch.nn.functional.").replace(
        "torch._C._special.special_", "torch.special."
    )


_OWN = (os.path.dirname(torch.__file__), os.path.dirname(os.path.dirname(__file__)))


def user_frame(stop: CodeType) -> FrameType | None:
    """The innermost frame that is neither torch's nor varphi's, of those called from the frame that runs `stop`."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not stop:
        if not frame.f_code.co_filename.startswith(_OWN):
            return frame
        frame = frame.f_back
    return None


def written_at(file: str, line: int) -> str:
    """A line of code as errors and reports show it: file, number, text."""
    source = textwrap.shorten(linecache.getline(file, line), 100, placeholder=" ...")
    return f"{file}:{line}" + (f": {source}" if source else "")


def _place() -> str:
    frame: FrameType | None = sys._getframe(1)
    inside = ""
    while frame is not None and frame.f_code is not _record.__code__ and not inside:
        module = frame.f_locals.get("self")
        inside = f", in {type(module).__name__}" if isinstance(module, nn.Module) else ""
        frame = frame.f_back
    user = user_frame(_record.__code__)
    return inside + (f"\n    {written_at(user.f_code.co_filename, user.f_lineno)}" if user else "")


def _record(function: Callable[..., Any], called: str) -> tuple[Expression, torch.dtype]:
    """The formula of a callable, and the least precise type it computes in."""
    x = Traced.of(variable("x"))
    try:
        with torch.no_grad():
            result = function(x)
    except (TracingError, UnsupportedOperation):
        raise
    except Exception as error:
        raise TracingError(f"cannot trace {called}: it fails on a tensor ({type(error).__name__}: {error})") from error
    if not isinstance(result, Tensor):
        raise TracingError(f"cannot trace {called}: it gives {type(result).__name__}, not one tensor")
    if not isinstance(result, Traced):
        raise TracingError(
            f"cannot trace {called}: its result does not come from x by operations that torch shows (a custom "
            "autograd.Function, compiled or scripted code, or a constant of its own)"
        )
    if result.mask is not None:
        raise TracingError(f"cannot trace {called}: it gives only the elements chosen by a mask")
    return result.expression, result.precision


def _grid(precision: torch.dtype) -> Tensor:
    near = torch.linspace(-10, 10, 1601, dtype=torch.float64)
    far = torch.logspace(-6, 6, 200, dtype=torch.float64)
    # In single precision what overflows, and where, is not the formula's.
    return torch.cat((near, far, -far)) if precision == torch.float64 else near


_TOLERANCE = {torch.float64: 1e-7, torch.float32: 1e-4, torch.float16: 3e-2, torch.bfloat16: 2e-1}


def _values(function: Callable[..., Any], called: str, precision: torch.dtype) -> tuple[Tensor, Tensor, torch.dtype]:
    """The callable on a grid: in float64, or in float32 where it insists, as with parameters that it closes over."""
    try:
        with torch.no_grad():
            return _grid(precision), function(_grid(precision)), precision
    except Exception as error:
        if precision != torch.float64:
            raise TracingError(f"cannot trace {called}: {type(error).__name__}: {error}") from error
    grid, given, _ = _values(lambda x: function(x.float()), called, torch.float32)
    return grid, given, torch.float32


def _verify(function: Callable[..., Any], expression: Expression, called: str, precision: torch.dtype) -> None:
    """Raise unless the callable gives what its formula says, on a grid over the line."""
    grid, given, precision = _values(function, called, precision)
    (expected,) = evaluate([expression], {"x": grid})
    expected = expected.double() if isinstance(expected, Tensor) else torch.full_like(grid, float(expected))
    if given.shape != grid.shape:
        raise TracingError(f"cannot trace {called}: from shape {(*grid.shape,)} it gives {(*given.shape,)}")
    tolerance = _TOLERANCE[precision]
    wrong = ~torch.isclose(given.double(), expected, rtol=tolerance, atol=0.1 * tolerance, equal_nan=True)
    if wrong.any():
        i = int(wrong.nonzero()[0])
        raise TracingError(
            f"cannot trace {called}: at x = {grid[i].item():g} it gives {given[i].item():.9g}, but the formula "
            f"{expression!r} written down from it gives {expected[i].item():.9g}. Does it depend on other elements, "
            "on the shape, or on a state that changes from call to call?"
        )


def _elementary(name: str) -> Callable[..., Traced]:
    function = POINTWISE[name] if name in ("lt", "le", "gt", "ge", "eq", "ne") else EXPRESSIONS.operations[name]
    if name == "where":
        function = choose

    def apply(*arguments: Any) -> Traced:
        operands = [a for a in arguments if isinstance(a, Traced)]
        values = [_value(getattr(varphi.numbers, name, apply), a) for a in arguments]
        return Traced.of(function(*values), _common_mask(apply, operands), _least_precise(operands))

    return apply


TRACED = register(
    System("traced tensors", {name: _elementary(name) for name in varphi.numbers.OPERATIONS}, rank=4, types=(Traced,))
)
