"""From a torch model to a network of nodes: its forward is read by torch.fx, and every operation must have a rule.

Pointwise operations of one tensor are gathered as long as they can be, so that `x * torch.sigmoid(x)`, `F.silu(x)` and
`nn.SiLU()` become the same node: an activation known by its formula. Whatever has no rule is refused with the path of
the module it stands in.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from varphi.activation.definition import Definition, Evaluation
from varphi.activation.layer import Activation
from varphi.activation.operations import IDENTITIES, POINTWISE, RANDOM, is_in_place, name_of
from varphi.activation.provenance import plain
from varphi.activation.tracing import TracingError, trace
from varphi.activation.uses import Swapped, check_model
from varphi.numbers import Expression, UnsupportedOperation, variable
from varphi.numbers.expression import constant

from . import selections
from .arithmetic import Arithmetic
from .crown import Network
from .nodes import Affine, Curve, Input, Node, Product, Sum, UncertifiedOperation, flat
from .rules import FUNCTIONS, MODULES

_LONGEST = 64
_X = variable("x")
_RULES = {kind: rule for kinds, rule in MODULES.items() for kind in (kinds if isinstance(kinds, tuple) else (kinds,))}
_RESHAPE_NAMES = "view reshape flatten unflatten squeeze unsqueeze"
_MOVE_NAMES = (
    "getitem permute transpose chunk split narrow select flip roll movedim swapaxes index_select "
    "pixel_shuffle pixel_unshuffle repeat repeat_interleave expand tile"
)
_RESHAPES, _MOVES = frozenset(_RESHAPE_NAMES.split()), frozenset(_MOVE_NAMES.split())


@dataclass(eq=False)
class Pointwise:
    """A tensor that is a formula of one node, not yet made a node itself.

    Attributes:
        root: the node.
        expression: in x.
        call: the same computation as the model runs it.
        spelling: its operations.
        path: where the last of them stands.
    """

    root: Node
    expression: Expression
    call: Callable[[Tensor], Tensor]
    spelling: str
    path: str
    node: Curve | None = None


def read(model: nn.Module, x: Tensor, number: Arithmetic) -> Network:
    """The nodes of a model in eval mode, its parameters in the arithmetic's format.

    Args:
        model: any module that torch.fx can read, of known operations.
        x: a batch of inputs, for the shapes.
        number: the format.

    Raises:
        UncertifiedOperation: an operation without a rule, with the path of its module.
        ValueError: a model in training mode, or with parameters that are not of float32 or float64.
    """
    check_model(model)
    for path, module in model.named_modules():
        if module.training and not module._modules:
            raise ValueError(
                f"bounds are of a fixed function: call model.eval() first ({path or 'the model'} is in training mode)"
            )
        if isinstance(module, Swapped):
            raise UncertifiedOperation(
                f"{path or 'the model'}: vp.swap exchanges calls in its forward while it runs, which torch.fx cannot "
                "read; write these activations as modules before swapping"
            )
    for name, p in model.named_parameters():
        if p.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"{name} is of {p.dtype}; bounds need float32 or float64: convert with model.float()")
    attributes, random = set(vars(model)), torch.random.get_rng_state()
    try:
        reader = Reader(model, x, number)
        network = reader.network()
    finally:
        for name in set(vars(model)) - attributes:  # where torch.fx keeps constant tensors
            delattr(model, name)
    if not torch.equal(random, torch.random.get_rng_state()):
        raise UncertifiedOperation("the model's forward draws random numbers: bounds are of a fixed function")
    reader.compare(network)
    return network


def _is_leaf(module: nn.Module) -> bool:
    """Whether a module's forward is not read: torch's own layers, and activations."""
    own = type(module).__module__.startswith(("torch.nn", "torch.ao.nn")) and not isinstance(module, nn.Sequential)
    return own or isinstance(module, Activation)


class _Tracer(fx.Tracer):
    # As parameters are: what is done to them may take sizes of the input.
    proxy_buffer_attributes = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _is_leaf(m)


def _graph(model: nn.Module) -> fx.Graph:
    if isinstance(model, fx.GraphModule):
        return model.graph
    try:
        return _Tracer().trace(model)
    except Exception as error:  # whatever the model's own code does on torch.fx's proxies
        reason = str(error).partition("\n")[0]
        raise UncertifiedOperation(
            f"the forward of {type(model).__name__} cannot be read by torch.fx ({type(error).__name__}: {reason}); "
            "control flow that depends on values has no bound"
        ) from error


def _layers(model: nn.Module, path: str = "") -> list[tuple[str, nn.Module]] | None:
    """The layers of a model that is nothing but layers one after the other, with their paths; None for others."""
    if _is_leaf(model):
        return [(path, model)]
    if type(model) is not nn.Sequential or model._forward_hooks or model._forward_pre_hooks:
        return None
    parts = [_layers(child, f"{path}.{name}" if path else name) for name, child in model._modules.items()]
    return None if None in parts else [layer for part in parts if part is not None for layer in part]


class Reader:
    """One reading of a model."""

    def __init__(self, model: nn.Module, x: Tensor, number: Arithmetic) -> None:
        # A copy: a layer may overwrite its input, and the input is the caller's.
        self.number, self.x = number, x.detach().to(number.dtype, copy=True)
        # A single layer, whose forward is not to be read, is one of a sequence.
        self.model = nn.Sequential(model) if _is_leaf(model) else model
        self.nodes: list[Node] = []
        self.values: dict[Node, Tensor] = {}
        self.known: dict[fx.Node, Any] = {}
        self.modules: dict[str, nn.Module] = {}
        self.path = ""

    def network(self) -> Network:
        layers = _layers(self.model)
        output = self._through_graph(_graph(self.model)) if layers is None else self._through(layers)
        if isinstance(output, Tensor):
            raise UncertifiedOperation("the model's output does not depend on its input")
        if not isinstance(output, (Node, Pointwise)):
            raise UncertifiedOperation(f"bounds are of models that give one tensor, not {type(output).__name__}")
        last = self.node_of(output)
        return Network(tuple(self.nodes), last)

    def _through(self, layers: list[tuple[str, nn.Module]]) -> Any:
        """The output of layers, each of which takes what the one before gives."""
        value: Any = self.add(Input("", tuple(self.x.shape[1:])), self.x)
        for self.path, module in layers:
            value = self._module(module, (value,), {})
        return value

    def _through_graph(self, graph: fx.Graph) -> Any:
        inputs = [n for n in graph.nodes if n.op == "placeholder"]
        if len(inputs) != 1:
            defaults = [n for n in inputs[1:] if not n.args]
            if not inputs or defaults:
                raise UncertifiedOperation(f"bounds are of models with one input; this one has {len(inputs)}")
        output: Any = None
        self.modules = dict(self.model.named_modules())
        for node in graph.nodes:
            self.path = _path(node)
            if node.op == "output":
                output = self._value(node.args[0])
            else:
                self._check_overwriting(node)
                self.known[node] = self._step(node)
        return output

    def compare(self, network: Network) -> None:
        """Refuse where the model itself gives something else than what was read."""
        own = next((p.dtype for p in self.model.parameters()), self.number.dtype)
        value, given = self.values[network.output], self.model(self.x.to(own, copy=True))
        size = 1 + float(value.nan_to_num(0.0, 0.0, 0.0).abs().max())
        close = given.shape == value.shape and torch.allclose(
            given.to(value.dtype), value, rtol=1e-2, atol=1e-2 * size, equal_nan=True
        )
        if not close:
            raise UncertifiedOperation(
                "the model gives other values than its graph as torch.fx reads it: its forward depends on something "
                "else than its input"
            )

    # ---------------------------------------------------------------------------------------- steps

    def _value(self, argument: Any) -> Any:
        return map_arg(argument, lambda n: self.known[n])

    def _step(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            if node.prev.op != "root":
                return node.args[0]
            return self.add(Input("", tuple(self.x.shape[1:])), self.x)
        if node.op == "get_attr":
            value: Any = self.model
            for name in str(node.target).split("."):
                value = getattr(value, name)
            return self.converted(value)
        args, kwargs = self._value(node.args), self._value(dict(node.kwargs))
        if node.op == "call_module":
            return self._module(self.modules[str(node.target)], args, kwargs)
        return self._function(node.target, args, kwargs)

    def converted(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if value.is_complex():
            self.refuse("a complex tensor")
        if not value.is_floating_point():
            return value.detach()
        held = value.detach().to(self.number.dtype)
        if bool(torch.isnan(held).any()):
            raise ValueError(f"{self.path or 'the model'} holds NaN; there is nothing to bound")
        if held.dtype is not value.dtype and not bool((held.double() == value.detach().double()).all()):
            raise ValueError(
                f"{self.path or 'the model'} holds numbers of {value.dtype} that {self.number.dtype} cannot: use "
                "arithmetic='float64'"
            )
        return held

    def add(self, node: Node, value: Tensor) -> Any:
        self.nodes.append(node)
        self.values[node] = value
        return node

    def refuse(self, what: str) -> NoReturn:
        raise UncertifiedOperation(f"{self.path or 'the model'}: {what} has no rule for certified bounds")

    def node_of(self, value: Any) -> Node:
        """A node for a value: a formula becomes one here."""
        if isinstance(value, Node):
            return value
        if not isinstance(value, Pointwise):
            self.refuse(f"a {type(value).__name__} in the place of a tensor that depends on the input")
        if value.expression is _X:
            return value.root
        if value.node is None:
            sample = self._sample(value)
            if sample.shape != self.values[value.root].shape:
                self.refuse("a pointwise operation that repeats the tensor by broadcasting")
            value.node = Curve(value.path, value.root, _activation(value.expression), value.call, value.spelling)
            self.add(value.node, sample)
        return value.node

    def _sample(self, value: Any) -> Tensor:
        if isinstance(value, Node):
            return self.values[value]
        if value.node is not None:
            return self.values[value.node]
        with torch.no_grad():
            return value.call(self.values[value.root].clone())  # which may overwrite what it is given

    # ---------------------------------------------------------------------------------------- modules

    def _module(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if module._forward_hooks or module._forward_pre_hooks:
            self.refuse("a module with hooks")
        rule = next((_RULES[kind] for kind in type(module).__mro__ if kind in _RULES), None)
        if rule is not None:
            return rule(self, module, *args, **kwargs)
        if isinstance(module, nn.PReLU) and module.weight.numel() > 1:
            return self._prelu(module, *args)
        return self._activation_module(module, *args, **kwargs)

    def _activation_module(self, module: nn.Module, value: Any, **kwargs: Any) -> Any:
        if not isinstance(value, (Node, Pointwise)):
            with torch.no_grad():
                return module(value, **kwargs)
        try:
            traced = module if isinstance(module, Activation) else trace(module)
        except (TracingError, UnsupportedOperation) as reason:
            first = str(reason).partition("\n")[0]
            raise UncertifiedOperation(
                f"{self.path or 'the model'}: {type(module).__name__} has no rule for certified bounds, and is no "
                f"pointwise function either ({first})"
            ) from reason
        expression = traced.definition.expression(traced.numbers())
        return self.formula(expression, value, lambda z: module(z), repr(module))

    def _prelu(self, module: nn.PReLU, value: Any) -> Any:
        """w·x + (1 - w)·relu(x), with a w for each channel."""
        root = self.node_of(value)
        shape = (-1, *[1] * (len(root.shape) - 1))
        weight = self.converted(module.weight).view(shape)
        positive = self.node_of(Pointwise(root, _relu(), torch.relu, "relu", self.path))
        return self.sum_of(self.scaled(root, weight), self.scaled(positive, 1 - weight), 1)

    # ---------------------------------------------------------------------------------------- functions

    def _function(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        dependent = [a for a in _flattened((args, kwargs)) if isinstance(a, (Node, Pointwise))]
        name = name_of(function)
        places = next((a for a in _flattened((args, kwargs)) if isinstance(a, selections.Places)), None)
        if places is not None and not (name in ("getitem", "getattr") and isinstance(args[0], selections.Chosen)):
            self.refuse(f"{name} of the places that {places.operation} gives, which jump as the input moves,")
        if function == "where":  # the method has its condition second
            function, args = torch.where, (args[1], args[0], *args[2:])
        if not dependent:
            return self._concrete(function, args, kwargs)
        if name == "getattr" and not isinstance(args[0], (Node, Pointwise)):
            return getattr(*args)
        if name == "getattr":
            return self._attribute(args[0], str(args[1]))
        if name == "getitem" and not isinstance(args[0], (Node, Pointwise)):
            return operator.getitem(*args)
        if name in ("size", "dim", "numel", "is_floating_point", "ndimension"):
            return self._run(function, [self._sample(dependent[0]), *args[1:]], kwargs)
        if name in FUNCTIONS:
            return FUNCTIONS[name](self, *args, **{k: v for k, v in kwargs.items() if k != "inplace"})
        if name in RANDOM and kwargs.get("training", kwargs.get("train", args[2] if len(args) > 2 else True)):
            self.refuse(f"{name} in training mode")
        if name in IDENTITIES or name in RANDOM:
            return self._unchanged(function, args, kwargs)
        others = (*args[1:], kwargs.get("other"))
        if name in selections.ALONG and not any(isinstance(a, (Node, Pointwise, Tensor)) for a in others):
            return selections.ALONG[name](self, *args, **kwargs)
        if name in POINTWISE:
            return self._pointwise(function, name, args, kwargs)
        if name in _RESHAPES:
            return self.reshaped(function, args, kwargs)
        if name in _MOVES:
            return self.moved(function, args, kwargs)
        self.refuse(name_of(function))

    def called(self, function: Any, value: Any) -> Any:
        """A module or function within a layer that is read as a whole, applied to a value."""
        if isinstance(function, nn.Module):
            return self._module(function, (value,), {})
        return self._function(function, (value,), {})

    def _attribute(self, value: Any, name: str) -> Any:
        if name == "data":
            return value
        if name == "mT":
            return self.moved("transpose", (value, -1, -2), {})
        found = getattr(self._sample(value), name)
        if isinstance(found, Tensor):
            self.refuse(f".{name}")
        return found

    def _unchanged(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What gives the same numbers again; a conversion may not round them."""
        before = self._sample(args[0])
        with torch.no_grad():
            after = self._run(function, [before, *args[1:]], kwargs)
        coarser = not after.is_floating_point() or torch.finfo(after.dtype).eps > self.number.eps
        if coarser and after.dtype != before.dtype:
            self.refuse(f"a conversion from {before.dtype} to {after.dtype}")
        return args[0]

    def _concrete(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with torch.no_grad():
            return self._run(function, list(args), kwargs)

    @staticmethod
    def _run(function: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        if isinstance(function, str):
            return getattr(args[0], function)(*args[1:], **kwargs)
        return function(*args, **kwargs)

    def _pointwise(self, function: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        plain_kwargs = {k: v for k, v in kwargs.items() if k not in ("inplace", "out")}
        operands = [a for a in (*args, *plain_kwargs.values()) if isinstance(a, (Node, Pointwise))]
        constants = [a for a in (*args, *plain_kwargs.values()) if isinstance(a, Tensor)]
        uniform = all(_is_uniform(c) for c in constants)
        # Nodes first: of the deepest root the formula gathers the most.
        inner = [a.root if isinstance(a, Pointwise) else a for a in operands]
        for root in dict.fromkeys([*inner, *operands]) if uniform else ():
            expressions = [_expressed(a, root) for a in args]
            named = {k: _expressed(v, root) for k, v in plain_kwargs.items()}
            if _NOTHING in (*expressions, *named.values()):
                continue
            try:
                expression = constant(POINTWISE[name](*expressions, **named))
            except (NotImplementedError, TypeError, ZeroDivisionError):
                continue
            if len(expression.nodes()) <= _LONGEST:
                return self._gathered(function, args, kwargs, root, expression, name)
        return self._arithmetic(name, args, kwargs)

    def _gathered(
        self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], root: Any, expression: Expression, name: str
    ) -> Pointwise:
        base = self.node_of(root) if isinstance(root, Pointwise) else root
        plain_kwargs = {k: v for k, v in kwargs.items() if k != "inplace"}
        spelled = function if not is_in_place(function, kwargs) else _out_of_place(function, name)

        def call(z: Tensor) -> Tensor:
            def put(a: Any) -> Any:
                if a is root or a is base:
                    return z
                return a.call(z) if isinstance(a, Pointwise) else a.to(z.device) if isinstance(a, Tensor) else a

            given = [_typed(put(a), z) for a in args]
            return self._run(spelled, given, {k: _typed(put(v), z) for k, v in plain_kwargs.items()})

        inner = [a.spelling for a in args if isinstance(a, Pointwise) and a is not root]
        numbers = [repr(a) for a in args if isinstance(a, (int, float))]
        return Pointwise(base, expression, call, f"{name}({', '.join([*inner, *numbers]) or 'x'})", self.path)

    def formula(self, expression: Expression, value: Any, call: Callable[[Tensor], Tensor], spelling: str) -> Any:
        """A pointwise function of a value, gathered with what the value is a formula of."""
        if isinstance(value, Pointwise) and value.node is None:
            whole = constant(expression.evaluate(x=value.expression))
            if len(whole.nodes()) <= _LONGEST:
                inner, spelled = value.call, f"{spelling}({value.spelling})"
                return Pointwise(value.root, whole, lambda z: call(inner(z)), spelled, self.path)
        return Pointwise(self.node_of(value), expression, call, spelling, self.path)

    def _arithmetic(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Sums, products and quotients of different tensors."""
        if name in selections.CHOICES:
            return selections.CHOICES[name](self, *args, **kwargs)
        alpha, operands = kwargs.get("alpha", 1), [*args, *[v for k, v in kwargs.items() if k == "other"]]
        if len(operands) != 2:
            self.refuse(f"{name} of these tensors")
        first, second = operands
        # Under whatever name: "multiply", "truediv".
        known = ("add", "sub", "rsub", "mul", "div", *selections.PAIRS)
        name = next((k for k in known if POINTWISE[name] is POINTWISE[k]), name)
        if name in ("add", "sub", "rsub") and alpha == 1:
            if name == "rsub":
                first, second = second, first
            return self.sum_of(first, second, 1 if name == "add" else -1)
        if name == "mul":
            return self.product(first, second)
        if name == "div" and isinstance(second, Tensor):
            return self.scaled(self.node_of(first), 1 / second, 4)
        if name == "div":
            return self.product(first, self.formula(constant(1) / _X, second, torch.reciprocal, "1/x"))
        if name in selections.PAIRS:
            return selections.PAIRS[name](self, first, second)
        if name in selections.COMPARISONS:  # of the sign of the difference, which no rounding changes
            return self._pointwise(getattr(torch, name), name, (self.node_of(self.sum_of(first, second, -1)), 0.0), {})
        self.refuse(f"{name} of these tensors")

    def sum_of(self, first: Any, second: Any, sign: int) -> Any:
        if isinstance(second, (Tensor, int, float)):
            shift = torch.as_tensor(second, dtype=self.number.dtype, device=self.x.device)
            return self.shifted(self.node_of(first), sign * shift)
        if isinstance(first, (Tensor, int, float)):
            shift = torch.as_tensor(first, dtype=self.number.dtype, device=self.x.device)
            return self.shifted(self.scaled(self.node_of(second), torch.tensor(float(sign))), shift)
        a, b = self._pair(first, second)
        value = self.values[a] + sign * self.values[b]
        return self.add(Sum(self.path, tuple(value.shape[1:]), (a, b), (1, sign)), value)

    def _pair(self, first: Any, second: Any) -> tuple[Node, Node]:
        """Two nodes to be combined elementwise, sample by sample."""
        a, b = self.node_of(first), self.node_of(second)
        if len(a.shape) != len(b.shape):
            self.refuse(f"a combination of shapes {a.shape} and {b.shape}, which broadcasts across samples,")
        return a, b

    def _per_sample(self, number: Tensor, node: Node) -> Tensor:
        """A constant as it broadcasts to one sample."""
        if number.dim() <= len(node.shape):
            return number
        if number.dim() == len(node.shape) + 1 and number.shape[0] == 1:
            return number[0]
        self.refuse("a constant that differs from sample to sample")

    def shifted(self, node: Node, shift: Tensor) -> Node:
        shift = self._per_sample(shift, node)
        value = self.values[node] + shift
        if value.shape != self.values[node].shape:
            self.refuse("a sum that repeats the tensor by broadcasting")
        return self.add(Affine(self.path, node.shape, node, _same, _same, shift, 1), value)

    def scaled(self, node: Node, scale: Tensor, steps: int = 1) -> Node:
        scale = self._per_sample(scale.to(self.number.dtype).to(self.x.device), node)
        value = self.values[node] * scale
        if value.shape != self.values[node].shape:
            self.refuse("a product that repeats the tensor by broadcasting")
        size = scale.abs()

        def apply(z: Tensor) -> Tensor:
            return z * scale

        return self.add(Affine(self.path, node.shape, node, apply, lambda z: z * size, None, steps, apply), value)

    def product(self, first: Any, second: Any) -> Any:
        for a, b in ((first, second), (second, first)):
            if isinstance(b, (Tensor, int, float)):
                return self.scaled(self.node_of(a), torch.as_tensor(b))
        a, b = self._pair(first, second)
        value = self.values[a] * self.values[b]
        return self.add(Product(self.path, tuple(value.shape[1:]), (a, b)), value)

    # ---------------------------------------------------------------------------------------- shapes

    def reshaped(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        node = self.node_of(args[0])
        before = self.values[node]
        with torch.no_grad():
            value = self._run(function, [before, *args[1:]], kwargs)
        if value.shape[:1] != before.shape[:1] or value.numel() != before.numel():
            self.refuse(f"{name_of(function)} that changes the batch dimension")
        inner, outer = node.shape, tuple(value.shape[1:])

        def apply(z: Tensor) -> Tensor:
            return z.reshape(len(z), *outer)

        return self.add(
            Affine(self.path, outer, node, apply, None, None, 0, lambda a: a.reshape(len(a), *inner)), value
        )

    def moved(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Operations that only choose and move elements within each sample: shown by what they do to their places."""
        node = self.node_of(args[0])
        before = self.values[node]
        batch, n = len(before), node.size
        places = torch.arange(batch * n, dtype=torch.float64, device=before.device).view(before.shape)
        with torch.no_grad():
            value = self._run(function, [before, *args[1:]], kwargs)
            moved = self._run(function, [places, *args[1:]], kwargs)
        if isinstance(value, (tuple, list)):
            return tuple(self._picked(node, v, m) for v, m in zip(value, moved, strict=True))
        return self._picked(node, value, moved)

    def _picked(self, node: Node, value: Tensor, places: Tensor) -> Node:
        batch, n = len(self.values[node]), node.size
        own = places[0].long() if len(places) == batch and places.dim() else None
        steps = torch.arange(batch, device=places.device).view(-1, *[1] * (places.dim() - 1)) * n
        if own is None or bool((places != own.unsqueeze(0) + steps).any()) or bool((own >= n).any()):
            self.refuse("an operation that moves elements between samples")
        index, outer, inner = own.flatten(), tuple(value.shape[1:]), node.shape

        def apply(z: Tensor) -> Tensor:
            return flat(z, 1)[:, index].view(len(z), *outer)

        def transpose(a: Tensor) -> Tensor:
            back = torch.zeros(len(a), n, dtype=a.dtype, device=a.device)
            return back.index_add_(1, index, flat(a, 1)).view(len(a), *inner)

        repeats = len(index.unique()) < len(index)
        magnitude = apply if repeats else None
        terms = int(index.bincount().max()) if len(index) else 0
        return self.add(Affine(self.path, outer, node, apply, magnitude, None, terms, transpose), value)

    def linear_map(
        self,
        value: Any,
        apply: Callable[[Tensor], Tensor],
        magnitude: Callable[[Tensor], Tensor] | None,
        bias: Tensor | None,
        terms: int,
        transpose: Callable[[Tensor], Tensor] | None = None,
        drift: Tensor | None = None,
    ) -> Affine:
        node = self.node_of(value)
        with torch.no_grad():
            out = apply(self.values[node])
        if bias is not None:
            out = out + bias
        made = Affine(self.path, tuple(out.shape[1:]), node, apply, magnitude, bias, terms, transpose, drift)
        self.add(made, out)
        return made

    # ---------------------------------------------------------------------------------------- overwriting

    def _check_overwriting(self, node: fx.Node) -> None:
        """After an in-place operation its operand is the result; refuse where a view of it is used as it was."""
        module = self.modules.get(str(node.target)) if node.op == "call_module" else None
        in_place = bool(getattr(module, "inplace", False)) if module is not None else False
        if node.op in ("call_function", "call_method"):
            in_place = is_in_place(node.target, dict(node.kwargs))
        if not in_place or not node.args or not isinstance(node.args[0], fx.Node):
            return
        order = {n: i for i, n in enumerate(node.graph.nodes)}
        for alias in _aliases(node.args[0], order[node]):
            later = [u for u in alias.users if order[u] > order[node]]
            if later:
                raise UncertifiedOperation(
                    f"{self.path or 'the model'}: {node.name} overwrites a tensor that {later[0].name} uses "
                    "afterwards; write it out of place"
                )


_VIEW_NAMES = "view reshape flatten squeeze unsqueeze transpose permute t getitem chunk split narrow select"
_VIEWS = frozenset(_VIEW_NAMES.split())


def _aliases(node: fx.Node, position: int) -> set[fx.Node]:
    """Nodes that may share memory with one, itself included."""
    found, stack = {node}, [node]
    while stack:
        here = stack.pop()
        near = [u for u in here.users if _is_view(u) and u.args[0] is here]
        if _is_view(here) and isinstance(here.args[0], fx.Node):
            near.append(here.args[0])
        fresh = [n for n in near if n not in found]
        found.update(fresh)
        stack += fresh
    return found


def _is_view(node: fx.Node) -> bool:
    return node.op in ("call_function", "call_method") and bool(node.args) and name_of(node.target) in _VIEWS


def _path(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack")
    own = next(reversed(stack.values()))[0] if stack else ""
    return str(node.target) if node.op == "call_module" else str(own)


def _flattened(value: Any) -> list[Any]:
    if isinstance(value, (tuple, list)):
        return [v for item in value for v in _flattened(item)]
    if isinstance(value, dict):
        return _flattened(list(value.values()))
    return [value]


def _is_uniform(value: Tensor) -> bool:
    return value.numel() > 0 and bool((value == value.flatten()[0]).all()) and value.numel() == 1


class _Nothing:
    pass


_NOTHING: Any = _Nothing()


def _expressed(argument: Any, root: Any) -> Any:
    """An argument as a formula of a root; nothing where it depends on another."""
    if argument is root:
        return _X
    if isinstance(argument, Pointwise):
        return argument.expression if argument.root is root else _NOTHING
    if isinstance(argument, Node):
        return _NOTHING
    if isinstance(argument, Tensor):
        return plain(argument.flatten()[0].item())
    return plain(argument)


def _typed(value: Any, like: Tensor) -> Any:
    return value.to(like.dtype) if isinstance(value, Tensor) and value.is_floating_point() else value


def _out_of_place(function: Any, name: str) -> Any:
    if isinstance(function, str):
        return function.rstrip("_") if not function.startswith("__") else function
    plain_name = getattr(function, "__name__", name)
    if function in (operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ipow):
        return getattr(operator, plain_name[1:])
    for home in (torch, F):
        if hasattr(home, plain_name.rstrip("_")):
            return getattr(home, plain_name.rstrip("_"))
    return function


def _same(z: Tensor) -> Tensor:
    return z


@lru_cache(maxsize=256)
def _activation(expression: Expression) -> Activation:
    text = repr(expression)
    return Activation(Definition(text if len(text) <= 60 else text[:57] + "...", Evaluation(expression)))


def _relu() -> Expression:
    return constant(POINTWISE["relu"](_X))
