"""Where the activations of a model stand: as modules, and as calls in forwards."""

from __future__ import annotations

import copy
import dis
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from varphi.numbers import Expression, UnsupportedOperation, evaluate

from .layer import Activation
from .lookup import ActivationLike, as_activation
from .operations import is_in_place, name_of
from .pointwise import pointwise
from .provenance import Provenance, is_value, is_watched, plain
from .registry import definition, find, names
from .tracing import TracingError, spelled_name, trace, user_frame, written_at

_BY_NAME = "read by name only, "


@dataclass(frozen=True)
class Use:
    """One place where an activation stands.

    Attributes:
        path: of the module, "" for the model itself.
        activation: its name in the catalogue; its formula where it has none.
        written: the module, or the call, as the user wrote it.
        place: "module", or the file and line of the call.
        formula: what it computes, in x; None where that depends on more (a PReLU of many channels).
    """

    path: str
    activation: str
    written: str
    place: str
    formula: Expression | None = field(default=None, repr=False, compare=False)
    kind: str | None = field(default=None, repr=False, compare=False)

    @property
    def line(self) -> str:
        """File and line of a call."""
        return self.place.partition(": ")[0].removeprefix(_BY_NAME)

    def __str__(self) -> str:
        where = "" if self.place == "module" else f", {self.place}"
        return f"{self.path or '(the model)'}: {self.activation}, written {self.written}{where}"


class Uses(tuple[Use, ...]):
    """Where activations stand in a model; prints one line for each."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "\n".join(map(str, self)) or "no activations"


def activations_in(model: nn.Module, *example_inputs: Any) -> Uses:
    """What activations stand where in a model: modules, and calls in forwards.

    Args:
        model: any module; it is not changed.
        example_inputs: for a call of the model. With them a copy is run once, and the calls that happen are
            listed. Without them they are read by torch.fx, and where that cannot read a forward (control
            flow that depends on data), from the names of the functions it refers to.

    Returns:
        One `Use` for each place: first the modules, then the calls.
    """
    check_model(model)
    scratch = copy.deepcopy(model)
    return Uses(u for u in [*module_uses(scratch), *call_uses(scratch, example_inputs).uses] if u.activation)


@dataclass(frozen=True, eq=False)
class Pattern:
    """An activation looked for: by its name, with any parameters, or by what it computes."""

    label: str
    kind: str | None
    expression: Expression

    @staticmethod
    def of(old: ActivationLike) -> Pattern:
        if isinstance(old, str) and find(old) is not None:
            known = definition(old)
            return Pattern(known.name, known.name, known.expression())
        activation = as_activation(old)
        return Pattern(repr(activation), None, activation.definition.expression(activation.numbers()))

    def matches(self, kind: str | None, expression: Expression | None) -> bool:
        if kind is not None and kind == self.kind:
            return True
        return expression is not None and _same(expression, self.expression)


@dataclass(frozen=True, eq=False)
class Rule:
    """What to exchange in a forward; the token tells the rules of two calls of `swap` apart, in copies too."""

    pattern: Pattern
    replacement: Activation
    token: str


def _points() -> Tensor:
    return torch.cat((torch.linspace(-30, 30, 241), torch.linspace(-1.37, 1.31, 24))).double()


@functools.lru_cache(maxsize=4096)
def _same(a: Expression, b: Expression) -> bool:
    """Whether two formulas are one function, up to the rounding of their constants to single precision."""
    if a is b:
        return True
    values = [torch.as_tensor(v, dtype=torch.float64).expand(265) for v in evaluate([a, b], {"x": _points()})]
    return torch.allclose(values[0], values[1], rtol=1e-7, atol=1e-7, equal_nan=True)


_CALLS = """
    relu relu6 leaky_relu prelu rrelu elu celu selu gelu silu mish softplus log_sigmoid logsigmoid sigmoid expit tanh
    hardtanh hardsigmoid hardswish hardshrink softshrink tanhshrink softsign threshold
"""
_ACTIVATION_CALLS = frozenset(_CALLS.split())
# Where a forward cannot be read, these names in it are taken as a sign of a rectifier.
_RECTIFIER_CALLS = frozenset(("relu", "clamp", "clamp_min", "maximum", "threshold"))


@functools.lru_cache(maxsize=256)
def _kind(name: str) -> str | None:
    """The catalogue's name of a torch function or module class: "SiLU", "silu" -> "silu"."""
    plain = {"expit": "sigmoid", "log_sigmoid": "logsigmoid"}.get(name, name).lower().replace("_", "")
    for known in names():
        if (definition(known).torch or "").lower() == plain:
            return known
    found = find(name)
    return found.name if found else name


@functools.lru_cache(maxsize=4096)
def catalogued(expression: Expression) -> str | None:
    """The torch activation of the catalogue that a formula is, at its default parameters."""
    for known in map(definition, names()):
        if known.torch and _same(expression, known.expression()):
            return known.name
    return None


def _label(kind: str | None, expression: Expression | None) -> str:
    exact = catalogued(expression) if expression is not None else None
    return exact or kind or repr(expression)


_FUSED = {
    nn.RNN: lambda m: {m.nonlinearity},
    nn.RNNCell: lambda m: {m.nonlinearity},
    nn.LSTM: lambda m: {"tanh", "sigmoid"},
    nn.LSTMCell: lambda m: {"tanh", "sigmoid"},
    nn.GRU: lambda m: {"tanh", "sigmoid"},
    nn.GRUCell: lambda m: {"tanh", "sigmoid"},
}
TRANSFORMER_LAYERS = (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


def check_model(model: Any) -> None:
    """Raise unless `model` is a module whose code can be followed."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"a torch.nn.Module is needed, got {type(model).__name__}: {model!r}")
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(f"{path or 'the model'} is TorchScript, whose code is fixed: start from the module before")
        if hasattr(module, "_orig_mod"):
            raise ValueError(f"{path or 'the model'} is compiled: start from the module given to torch.compile")


def check_fused(model: nn.Module, pattern: Pattern) -> None:
    """Raise if the activation looked for is part of a recurrent layer's kernel."""
    for path, module in model.named_modules():
        inside = next((parts(module) for kind, parts in _FUSED.items() if isinstance(module, kind)), set())
        for name in inside:
            if pattern.matches(_kind(name), definition(name).expression() if find(name) else None):
                raise ValueError(
                    f"{pattern.label} in {path or 'the model'} is inside the fused kernel of "
                    f"nn.{type(module).__name__} and cannot be replaced: write the recurrence out"
                )


def _is_activation(module: nn.Module) -> bool:
    return type(module).__module__ == "torch.nn.modules.activation" and name_of(type(module).__name__.lower()) in {
        c.replace("_", "") for c in _ACTIVATION_CALLS
    }


def formula_of(function: Callable[..., Any]) -> Expression | None:
    """What a callable computes, if it is pointwise."""
    try:
        return trace(function).definition.expression()
    except (TracingError, UnsupportedOperation):
        return None


def module_uses(model: nn.Module) -> Iterator[Use]:
    """The activations that are modules, and the functions that torch's transformer layers hold."""
    for path, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, Activation):
            formula = module.definition.expression(module.numbers())
            yield Use(path, module.name, repr(module), "module", formula, module.name)
        elif _is_activation(module):
            # The forward alone: the user's hooks are not to be run.
            kind, formula = _kind(type(module).__name__), formula_of(module.forward)
            yield Use(path, _label(kind, formula), repr(module), "module", formula, kind)
        elif isinstance(module, TRANSFORMER_LAYERS) and not isinstance(module.activation, nn.Module):
            function, formula = module.activation, formula_of(module.activation)
            kind = _kind(name_of(function))
            path = f"{path}.activation".lstrip(".")
            yield Use(path, _label(kind, formula), spelled_name(function), "module", formula, kind)


@dataclass
class Found:
    """Calls of activations in forwards.

    Attributes:
        uses: those that were seen.
        unread: paths of modules whose forward may hold more.
        reasons: why a forward could not be read, by path.
    """

    uses: list[Use] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)
    reasons: dict[str, str] = field(default_factory=dict)


def call_uses(model: nn.Module, inputs: tuple[Any, ...], pattern: Pattern | None = None) -> Found:
    """The calls in the forwards of a model that may be changed: read by torch.fx, or seen in one run."""
    found = Found()
    rules = {path: tuple(getattr(m, "_swap_rules", ())) for path, m in model.named_modules()}
    for module in model.modules():
        if isinstance(module, Swapped):
            object.__setattr__(module, "__class__", original_class(type(module)))
    for path, module in model.named_modules():
        if not _has_own_forward(module):
            continue
        # What an earlier swap exchanges is looked for too: what it was exchanged for may be what is meant.
        patterns = (pattern, *[rule.pattern for rule in rules[path]])
        mentioned = [use for p in patterns for use in _mentioned(module, path, p)]
        try:
            uses = [use for p in patterns for use in _read(module, path, p)]
        except Exception as reason:  # whatever the user's code does when it runs on torch.fx's proxies
            found.reasons[path] = f"{type(reason).__name__}: {str(reason).partition(chr(10))[0]}"
            found.unread.add(path)
            uses = mentioned
        else:
            # What torch.fx saw is one way through the code; a name may stand in another, or in another method.
            elsewhere = [u for u in mentioned if not any(u.line == seen.line for seen in uses)]
            found.unread.update({path} if elsewhere else ())
            uses += [u for u in elsewhere if u.kind is not None]
        found.uses.extend(_after(rules[path], use) for use in uses)
    if inputs:
        found.uses = _observed(model, inputs, rules, pattern)
    found.uses = list(dict.fromkeys(found.uses))
    return found


class Swapped:
    """Marks the classes made by `swap`, whose methods run under rules."""


def original_class(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of which `swap` made `kind`."""
    return kind.__mro__[2]


def own_methods(kind: type[nn.Module]) -> dict[str, FunctionType]:
    """The methods that a module's author wrote: neither torch's nor varphi's, nor special ones."""
    found: dict[str, FunctionType] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.split(".")[0] in ("torch", "varphi", "builtins"):
            continue
        found.update({n: f for n, f in vars(base).items() if isinstance(f, FunctionType) and not n.startswith("__")})
    return found


def _has_own_forward(module: nn.Module) -> bool:
    if isinstance(module, fx.GraphModule):
        return True
    home = getattr(type(module).forward, "__module__", "") or ""
    return not home.startswith(("torch.", "varphi.activation."))


def _after(rules: tuple[Rule, ...], use: Use) -> Use:
    """A use as earlier swaps have left it."""
    for rule in rules:
        if rule.pattern.matches(use.kind, use.formula):
            new = rule.replacement
            formula = new.definition.expression(new.numbers())
            written = f"{use.written}, run as {new!r}"
            return Use(use.path, new.name, written, use.place, formula, new.name)
    return use


class _Reader(fx.Tracer):
    """One module's own forward as a graph: submodules are single nodes, each node with its place in the code."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        frame = user_frame(_read.__code__)
        node.meta["place"] = written_at(frame.f_code.co_filename, frame.f_lineno) if frame else "in forward"
        return node


def _read(module: nn.Module, path: str, pattern: Pattern | None) -> list[Use]:
    if "forward" in module.__dict__:
        raise ValueError("its forward was replaced on the instance")
    graph = module.graph if isinstance(module, fx.GraphModule) else _Reader().trace(module)
    return [use for _, _, use in uses_in_graph(graph, module, path, pattern)]


def uses_in_graph(
    graph: fx.Graph, module: nn.Module, path: str, pattern: Pattern | None
) -> Iterator[tuple[fx.Node, fx.Node, Use]]:
    """The nodes that are activations, and the node that each is one of."""
    provenance = Provenance()
    for node in graph.nodes:
        if node.op == "get_attr":
            node.meta["uniform"] = _constant_attribute(module, str(node.target))
        if node.op not in ("call_function", "call_method"):
            continue
        candidates = provenance.candidates(node.target, node.args, node.kwargs)
        found = activation_of(node.target, node.args, node.kwargs, candidates, pattern)
        if found is not None:
            root, kind, formula = found
            written = _spelling(node.target, node.args, node.kwargs)
            place = node.meta.get("place", "in forward")
            yield node, root, Use(path, _label(kind, formula), written, place, formula, kind)
        if is_in_place(node.target, dict(node.kwargs)):
            provenance.forget(node.args[0])
        provenance.note(node, candidates)


def _constant_attribute(module: nn.Module, target: str) -> Any:
    value = functools.reduce(getattr, target.split("."), module)
    if not isinstance(value, Tensor) or value.requires_grad or not value.numel():
        return None
    first = value.flatten()[0]
    return plain(first.item()) if bool((value == first).all()) else None


def activation_of(
    function: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    candidates: list[tuple[Any, Expression]],
    pattern: Pattern | None,
) -> tuple[Any, str | None, Expression | None] | None:
    """Whether a call is an activation (the one looked for, if any): of what tensor, its kind and its formula."""
    name = name_of(function)
    kind = _kind(name) if name in _ACTIVATION_CALLS else None
    operand = args[0] if args else kwargs.get("input")
    if kind is not None and is_value(operand):
        formula = next((e for root, e in candidates if root is operand), None)
        if pattern is None or pattern.matches(kind, formula):
            return operand, kind, formula
    for root, expression in candidates:
        if root is None:
            continue
        if pattern is None and catalogued(expression) and len(expression.nodes()) > 1:
            return root, None, expression
        if pattern is not None and pattern.matches(None, expression):
            return root, None, expression
    return None


def _spelling(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """A call as it was written, with its numbers."""
    if isinstance(function, str):
        spelled = f"Tensor.{function}"
    else:
        spelled = spelled_name(function).replace("torch.nn.functional.", "F.").replace("torch.Tensor.", "Tensor.")
    given = [repr(a) for a in args if isinstance(a, (int, float))]
    given += [f"{k}={v!r}" for k, v in kwargs.items() if not is_value(v) and v is not None and v is not False]
    return f"{spelled}({', '.join(given)})"


def _mentioned(module: nn.Module, path: str, pattern: Pattern | None) -> Iterator[Use]:
    """Activations whose names occur in the code of a forward and of what it calls."""
    relu = definition("relu").expression()
    for name, file, line in _names_in(module):
        plain = name_of(name)
        kind = _kind(plain) if plain in _ACTIVATION_CALLS else None
        rectifier = plain in _RECTIFIER_CALLS and pattern is not None and _same(pattern.expression, relu)
        if kind is None and not rectifier:
            continue
        formula = definition(kind).expression() if kind and find(kind) else relu if rectifier else None
        if pattern is None or rectifier or pattern.matches(kind, formula):
            place = _BY_NAME + written_at(file, line)
            yield Use(path, _label(kind, formula), name, place, formula, kind)


def _names_in(module: nn.Module) -> Iterator[tuple[str, str, int]]:
    """Names that the code of a forward refers to, with file and line, through methods and plain functions it uses."""
    seen: set[CodeType] = set()
    waiting: list[tuple[CodeType, Mapping[str, Any]]] = []

    def follow(function: Any) -> None:
        function = inspect.unwrap(function) if callable(function) else None
        own = isinstance(function, FunctionType) and not function.__module__.startswith(("torch", "varphi"))
        if own and function.__code__ not in seen and len(seen) < 200:
            seen.add(function.__code__)
            waiting.append((function.__code__, function.__globals__))

    for method in own_methods(type(module)).values():
        follow(method)
    while waiting:
        code, scope = waiting.pop()
        before: dis.Instruction | None = None
        for instruction in dis.get_instructions(code):
            line = instruction.positions.lineno if instruction.positions else None
            if isinstance(instruction.argval, CodeType) and instruction.argval not in seen:
                seen.add(instruction.argval)
                waiting.append((instruction.argval, scope))
            if instruction.opname.startswith(("LOAD_ATTR", "LOAD_METHOD", "LOAD_GLOBAL", "LOAD_NAME")):
                name = str(instruction.argval)
                of_module = before is not None and before.argval in code.co_varnames[:1]
                if not of_module:
                    yield name, code.co_filename, line or code.co_firstlineno
                follow(inspect.getattr_static(type(module), name, None) if of_module else scope.get(name))
            before = instruction


class _Observing(TorchFunctionMode):
    """Lists the activations that are called, by the module in whose forward they stand."""

    def __init__(self, model: nn.Module, rules: Mapping[str, tuple[Rule, ...]], pattern: Pattern | None) -> None:
        super().__init__()
        self.provenance = Provenance()
        self.paths = {id(m): path for path, m in model.named_modules()}
        self.rules, self.pattern = rules, pattern
        self.uses: dict[tuple[str, str, str], Use] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        candidates = self.provenance.candidates(func, args, kwargs)
        path, place = self._here() if func is not pointwise and is_watched(name_of(func)) else (None, "")
        for pattern in () if path is None else (self.pattern, *[rule.pattern for rule in self.rules[path]]):
            found = activation_of(func, args, kwargs, candidates, pattern)
            if found is not None:
                _, kind, formula = found
                use = Use(path or "", _label(kind, formula), _spelling(func, args, kwargs), place, formula, kind)
                self.uses.setdefault((use.path, use.written, place), _after(self.rules[use.path], use))
        result = func(*args, **kwargs)
        if is_in_place(func, kwargs):
            self.provenance.forget(args[0])
        self.provenance.note(result, candidates)
        return result

    def _here(self) -> tuple[str | None, str]:
        """The path of the module whose forward is running, None inside torch's own modules, and the line of code."""
        frame = user_frame(_observed.__code__)
        place = written_at(frame.f_code.co_filename, frame.f_lineno) if frame else "in forward"
        inner = inspect.currentframe()
        while inner is not None and inner.f_code is not _observed.__code__:
            module = inner.f_locals.get("self")
            if isinstance(module, nn.Module) and id(module) in self.paths:
                return (self.paths[id(module)] if _has_own_forward(module) else None), place
            inner = inner.f_back
        return None, place


def _detached(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    return value.detach().clone().requires_grad_(value.requires_grad)


def _observed(
    model: nn.Module, inputs: tuple[Any, ...], rules: Mapping[str, tuple[Rule, ...]], pattern: Pattern | None
) -> list[Use]:
    mode = _Observing(model, rules, pattern)
    with torch.random.fork_rng(devices=[]), mode:
        model(*tree_map(_detached, inputs))
    return list(mode.uses.values())
