"""From a model to a program of layers with a replica axis.

torch.fx reads the forward, once in training and once in evaluation mode; both must be the same graph. Activations are
recognised in every spelling, as in `varphi.swap`. What is not known is refused by name.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, fx, nn

from varphi.activation.definition import Definition, Evaluation
from varphi.activation.layer import Activation
from varphi.activation.lookup import get
from varphi.activation.operations import is_in_place, name_of
from varphi.activation.registry import find
from varphi.activation.tracing import spelled_name
from varphi.activation.uses import Pattern, Swapped, Use, module_uses, uses_in_graph

from .chain import Chain, Link
from .layers import LAYERS, Linear, Pointwise, flatten, learned


class Unreadable(ValueError):
    """A model that is not made of known layers; the message says what stands where."""


@dataclass(frozen=True)
class Slot:
    """The place of a value among those of a run."""

    index: int


Argument: TypeAlias = "Slot | int | float"


@dataclass(frozen=True)
class Step:
    """One call: what it takes and where its result goes."""

    run: Callable[..., Tensor]
    arguments: tuple[Argument, ...]
    result: Slot


@dataclass(frozen=True)
class Program:
    """Steps in order.

    Attributes:
        inputs: how many the model takes; they are the first values.
        output: where the result is.
        values: how many there are.
        layers: the layers by their path in the model.
    """

    inputs: int
    steps: tuple[Step, ...]
    output: Slot
    values: int
    layers: dict[str, nn.Module]

    def __call__(self, inputs: Sequence[Tensor]) -> Tensor:
        values: list[Any] = [*inputs, *[None] * (self.values - len(inputs))]
        for step in self.steps:
            values[step.result.index] = step.run(
                *[values[a.index] if type(a) is Slot else a for a in step.arguments],
            )
        return values[self.output.index]


@dataclass(frozen=True)
class Exchange:
    """What stands for an activation of the model: others, each for the same number of replicas."""

    old: Pattern
    new: tuple[Activation, ...]


def read(model: nn.Module, stacked: Mapping[str, Tensor], replicas: int, exchange: Exchange | None) -> Program:
    """The program of all replicas of a model.

    Args:
        model: one replica.
        stacked: its parameters and buffers, (replicas, ...), by name.
        replicas: their number.
        exchange: activations to put into it.

    Raises:
        Unreadable: for a model with anything unknown in it.
    """
    _check_plain(model)
    graph = _graph(model)
    return _Reader(model, graph, stacked, replicas, exchange).program()


_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _check_plain(model: nn.Module) -> None:
    for path, module in model.named_modules():
        where = f"{path or 'the model'} ({type(module).__name__})"
        if any(getattr(module, hooks) for hooks in _HOOKS):
            raise Unreadable(f"{where} has hooks")
        if "forward" in module.__dict__:
            raise Unreadable(f"the forward of {where} was replaced on the instance")
        if isinstance(module, Swapped):
            raise Unreadable(f"the calls in the forward of {where} were exchanged by vp.swap")


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Activation) or super().is_leaf_module(m, module_qualified_name)


def _graph(model: nn.Module) -> fx.Graph:
    if _Tracer().is_leaf_module(model, ""):
        graph = fx.Graph()
        graph.output(graph.create_node("call_module", "", (graph.placeholder("x"),)))
        return graph
    graphs = []
    for training in (True, False):
        scratch = copy.deepcopy(model).train(training)
        try:
            graphs.append(_Tracer().trace(scratch))
        except Exception as reason:  # whatever the user's code does when it runs on torch.fx's proxies
            text = str(reason).partition("\n")[0]
            raise Unreadable(f"torch.fx cannot read its forward ({type(reason).__name__}: {text})") from reason
    if str(graphs[0]) != str(graphs[1]):
        raise Unreadable("its forward is another in training than in evaluation")
    return graphs[0]


def _align(a: Any, b: Any) -> tuple[Any, Any]:
    """Two values of which one may have fewer dimensions after the replicas."""
    if not isinstance(a, Tensor) or not isinstance(b, Tensor) or a.dim() == b.dim():
        return a, b
    dims = max(a.dim(), b.dim())
    a, b = (t.reshape(t.shape[0], *[1] * (dims - t.dim()), *t.shape[1:]) for t in (a, b))
    return a, b


@dataclass(frozen=True)
class Arithmetic:
    """An operation of two values, or of a value and a number."""

    operation: Callable[[Any, Any], Any]

    def __call__(self, a: Any, b: Any) -> Tensor:
        return self.operation(*_align(a, b))


_ARITHMETIC = {
    **dict.fromkeys(("add", "iadd"), operator.add),
    **dict.fromkeys(("sub", "isub"), operator.sub),
    **dict.fromkeys(("mul", "imul"), operator.mul),
    **dict.fromkeys(("truediv", "div", "itruediv"), operator.truediv),
}
_IN_PLACE = frozenset(("iadd", "isub", "imul", "itruediv", "setitem"))


class _Reader:
    """One reading of one graph."""

    def __init__(
        self,
        model: nn.Module,
        graph: fx.Graph,
        stacked: Mapping[str, Tensor],
        replicas: int,
        exchange: Exchange | None,
    ) -> None:
        self.model, self.graph, self.stacked, self.replicas = model, graph, stacked, replicas
        self.exchange = exchange
        self.of_modules = {use.path: use for use in module_uses(model)}
        self.calls = self._calls()
        self.layers: dict[str, nn.Module] = {}
        self.slots: dict[fx.Node, Slot] = {}

    def program(self) -> Program:
        needed = self._needed()
        inputs = [n for n in self.graph.nodes if n.op == "placeholder"]
        for node in inputs:
            if node.args or node.target.startswith("*"):
                raise Unreadable(f"its forward has an optional argument, {node.target}")
            self._slot(node)
        steps = [self._step(n) for n in self.graph.nodes if n in needed and n.op not in ("placeholder", "output")]
        output = self.slots[self._output()]
        return Program(len(inputs), tuple(_chained(steps, output)), output, len(self.slots), self.layers)

    def _slot(self, node: fx.Node) -> Slot:
        return self.slots.setdefault(node, Slot(len(self.slots)))

    def _calls(self) -> dict[fx.Node, tuple[fx.Node, Pointwise]]:
        """The calls that are activations: of which node, and what stands there for all replicas."""
        found: dict[fx.Node, tuple[fx.Node, Pointwise]] = {}
        for node, root, use in uses_in_graph(self.graph, self.model, "", None):
            if use.formula is not None:
                found[node] = root, self._own(use)
        if self.exchange is not None:
            for node, root, _ in uses_in_graph(self.graph, self.model, "", self.exchange.old):
                found[node] = root, self._exchanged()
        return found

    def _own(self, use: Use) -> Pointwise:
        return Pointwise([(_activation(use), self.replicas)])

    def _exchanged(self) -> Pointwise:
        assert self.exchange is not None
        new = self.exchange.new
        return Pointwise([(activation, self.replicas // len(new)) for activation in new])

    def _output(self) -> fx.Node:
        (output,) = (n for n in self.graph.nodes if n.op == "output")
        if not isinstance(output.args[0], fx.Node):
            raise Unreadable("its forward gives more than one tensor")
        return output.args[0]

    def _inputs(self, node: fx.Node) -> list[fx.Node]:
        if node in self.calls:
            return [self.calls[node][0]]
        return node.all_input_nodes[:1] if _keeps_batch_alone(node) else node.all_input_nodes

    def _needed(self) -> set[fx.Node]:
        """The nodes that the output depends on; calls of modules always are, for their buffers."""
        waiting = [self._output(), *[n for n in self.graph.nodes if n.op == "call_module"]]
        needed: set[fx.Node] = set()
        while waiting:
            node = waiting.pop()
            if node not in needed:
                needed.add(node)
                waiting.extend(self._inputs(node))
        for node in self.graph.nodes:
            self._check_in_place(node)
        return needed

    def _check_in_place(self, node: fx.Node) -> None:
        if node.op == "call_module":
            changes = getattr(self.model.get_submodule(str(node.target)), "inplace", False)
        else:
            called = node.op in ("call_function", "call_method")
            changes = called and (is_in_place(node.target, dict(node.kwargs)) or name_of(node.target) in _IN_PLACE)
        if changes and not _is_last_use(node.args[0] if node.args else None, self._is_view):
            raise Unreadable(f"{self._spelled(node)} overwrites a tensor that is used again")

    def _is_view(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return isinstance(self.model.get_submodule(str(node.target)), (nn.Flatten, nn.Identity, nn.Dropout))
        return node.op in ("call_function", "call_method") and name_of(node.target) in ("flatten", "view", "reshape")

    def _step(self, node: fx.Node) -> Step:
        if node in self.calls:
            root, pointwise = self.calls[node]
            return Step(pointwise, (self.slots[root],), self._slot(node))
        if node.op == "call_module":
            if len(node.args) != 1 or node.kwargs:
                raise Unreadable(f"{self._spelled(node)} is not called with one tensor")
            return Step(self._layer(node), (self._argument(node, node.args[0]),), self._slot(node))
        run, arguments = self._operation(node)
        return Step(run, tuple(self._argument(node, a) for a in arguments), self._slot(node))

    def _argument(self, node: fx.Node, argument: Any) -> Argument:
        if isinstance(argument, fx.Node):
            return self.slots[argument]
        if isinstance(argument, (int, float)) and not isinstance(argument, bool):
            return argument
        raise Unreadable(f"{self._spelled(node)} takes {argument!r}")

    def _operation(self, node: fx.Node) -> tuple[Callable[..., Tensor], Sequence[Any]]:
        """What a call runs, and on what."""
        if node.op in ("call_function", "call_method"):
            name = name_of(node.target)
            if name in _ARITHMETIC and len(node.args) == 2 and not node.kwargs:
                return Arithmetic(_ARITHMETIC[name]), node.args
            if name == "flatten":
                return _flattening(node.args[1:], node.kwargs), node.args[:1]
            if name in ("view", "reshape") and _keeps_batch_alone(node):
                return _Flattening(1, -1), node.args[:1]
        raise Unreadable(f"{self._spelled(node)} is not known with a replica axis")

    def _layer(self, node: fx.Node) -> nn.Module:
        path = str(node.target)
        if path not in self.layers:
            self.layers[path] = self._made(path, self.model.get_submodule(path), self._spelled(node))
        return self.layers[path]

    def _made(self, path: str, module: nn.Module, spelled: str) -> nn.Module:
        use = self.of_modules.get(path)
        if use is not None and self.exchange is not None and self.exchange.old.matches(use.kind, use.formula):
            return self._exchanged()
        own = {n: self.stacked.get(f"{path}.{n}" if path else n) for n in (*module._parameters, *module._buffers)}
        if isinstance(module, Activation):
            return learned(module, own) if module.learn else Pointwise([(module, self.replicas)])
        # A random slope is none in evaluation: what is seen of it then is not what it is in training.
        if use is not None and use.formula is not None and not own and not isinstance(module, nn.RReLU):
            return self._own(use)
        if type(module) not in LAYERS:
            raise Unreadable(f"{spelled} is not known with a replica axis")
        if isinstance(module, nn.Flatten):
            _flattening((module.start_dim, module.end_dim), {})  # refuses one that the batch is part of
        return LAYERS[type(module)](module, own)

    def _spelled(self, node: fx.Node) -> str:
        if node.op == "call_module":
            path = str(node.target)
            return f"{path or 'the model'} ({type(self.model.get_submodule(path)).__name__})"
        if node.op == "get_attr":
            return f"the model's own tensor {node.target}"
        return f"Tensor.{node.target}" if node.op == "call_method" else spelled_name(node.target)


def _is_last_use(node: Any, is_view: Callable[[fx.Node], bool]) -> bool:
    """Whether nobody sees it if the tensor of a node is overwritten by its only user."""
    if not isinstance(node, fx.Node) or len(node.users) != 1:
        return False
    return not is_view(node) or _is_last_use(node.args[0], is_view)


def _activation(use: Use) -> Activation:
    """The activation that stands in a model, the catalogue's own where it is one."""
    assert use.formula is not None
    if find(use.activation) is not None and Pattern.of(use.activation).expression is use.formula:
        return get(use.activation)
    return Activation(Definition(use.activation, Evaluation(use.formula), doc="Read from a model."))


@dataclass(frozen=True)
class _Flattening:
    start_dim: int
    end_dim: int

    def __call__(self, x: Tensor) -> Tensor:
        return flatten(x, self.start_dim, self.end_dim)


def _keeps_batch_alone(node: fx.Node) -> bool:
    """Whether a call is `x.view(x.size(0), -1)`, in whatever spelling of the size."""
    return len(node.args) == 3 and not node.kwargs and node.args[2] in (-1,) and _is_batch_size(node.args[1])


def _is_batch_size(value: Any) -> bool:
    if not isinstance(value, fx.Node) or len(value.args) != 2 or value.args[1] != 0:
        return False
    if value.op == "call_method":
        return value.target == "size"
    of = value.args[0]
    is_shape = isinstance(of, fx.Node) and of.target is getattr and of.args[1:] == ("shape",)
    return bool(is_shape) and value.target is operator.getitem


def _flattening(args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Flattening:
    given = dict(zip(("start_dim", "end_dim"), args, strict=False)) | dict(kwargs)
    start, end = given.get("start_dim", 0), given.get("end_dim", -1)
    if not isinstance(start, int) or not isinstance(end, int) or start < 1:
        raise Unreadable(
            f"flatten from dimension {start} is not known with a replica axis: start after the batch, at 1"
        )
    return _Flattening(start, end)


# Chains ---------------------------------------------------------------------------------------------------------------


def _chained(steps: list[Step], output: Slot) -> Iterator[Step]:
    """The same steps, linear layers in a row and the activations between them as one."""
    taken = [a for s in steps for a in s.arguments if isinstance(a, Slot)] + [output]
    links: list[Link] = []
    first: Step | None = None
    last: Step | None = None

    def done() -> Iterator[Step]:
        if first is not None and last is not None:
            yield Step(Chain(links), first.arguments, last.result)

    for step in steps:
        follows = last is not None and step.arguments == (last.result,) and taken.count(last.result) == 1
        if isinstance(step.run, Linear):
            if not follows:
                yield from done()
                links, first = [], step
            links.append((step.run, None))
            last = step
        elif follows and isinstance(step.run, Pointwise) and links[-1][1] is None:
            links[-1] = (links[-1][0], step.run)
            last = step
        else:
            yield from done()
            links, first, last = [], None, None
            yield step
    yield from done()
