"""Exchanging one activation for another wherever it is written in a model.

Modules are replaced by modules. Calls are exchanged as the user's own code runs, under a torch function mode: code
rewritten by torch.fx would freeze what it once saw of `self.training`, of default arguments and of Python's control
flow. Only a model that is a graph already (`fx.GraphModule`) is rewritten.
"""

from __future__ import annotations

import copy
import copyreg
import functools
import os
import sys
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from .layer import Activation
from .lookup import ActivationLike, as_activation
from .operations import is_in_place, name_of
from .pointwise import pointwise
from .provenance import Provenance, is_watched
from .uses import (
    TRANSFORMER_LAYERS,
    Found,
    Pattern,
    Rule,
    Swapped,
    Uses,
    activation_of,
    activations_in,
    call_uses,
    check_fused,
    check_model,
    module_uses,
    own_methods,
    uses_in_graph,
)


class NothingToSwap(LookupError):
    """The activation looked for stands nowhere in the model."""


def swap(
    model: nn.Module, old: ActivationLike, new: ActivationLike, *, inputs: Iterable[Any] = (), **parameters: Any
) -> Any:
    """A copy of the model with each use of one activation replaced by another, however it is written.

    Replaced are modules (in-place, reused, inside TransformerEncoderLayer), functions (`F.relu`, `torch.relu`), tensor
    methods (`x.relu()`, `x.relu_()`), and other spellings of the same function: for ReLU `clamp(min=0)`,
    `maximum(x, 0)`, `where(x > 0, x, 0)`, `x * (x > 0)`, `x[x < 0] = 0`.

    Args:
        model: any module; it is left as it is. The copy has the same parameters, buffers, hooks, state-dict keys and
            training mode, and can be trained, copied and pickled as the original can.
        old: what to look for. A name means it with any parameters ("leaky_relu"); everything else means exactly that
            function: `vp.get("leaky_relu", alpha=0.2)`, a formula, a callable, a module.
        new: what to put there: a name, a formula, an activation, a callable, a module.
        inputs: arguments for one call of the model, to see the calls in forwards that cannot be read without running.
        parameters: of `new`, where it is a name: `beta=3.0`.

    Returns:
        The new model. Its `swap_report` says what was replaced, one `Use` for each place.

    Raises:
        NothingToSwap: a LookupError that lists what the model does contain.
        ValueError: the activation is part of a fused kernel (`nn.RNN`, `nn.LSTM`), or the model is compiled code.

    Example:
        >>> smooth = vp.swap(model, "relu", "softplus", beta=3.0)
        >>> smooth.swap_report
        features.1: relu, written ReLU(inplace=True)
    """
    check_model(model)
    pattern = Pattern.of(old)
    replacement = as_activation(new, **parameters)
    rule = Rule(pattern, replacement, uuid.uuid4().hex)
    swapped = copy.deepcopy(model)
    check_fused(swapped, pattern)
    modules = [u for u in module_uses(swapped) if pattern.matches(u.kind, u.formula)]
    found = call_uses(copy.deepcopy(model), tuple(inputs), pattern)
    calls = [u for u in found.uses if pattern.matches(u.kind, u.formula)]
    if not modules and not calls:
        raise NothingToSwap(_nothing_found(model, pattern, found))
    if calls and replacement.learn:
        raise ValueError(
            f"{replacement!r} has parameters to learn, but {calls[0]} is a call, which has no place for them; "
            "write it as a module first"
        )
    swapped = _replace_modules(swapped, {u.path for u in modules}, replacement)
    by_path = dict(swapped.named_modules())
    for path in sorted({u.path for u in calls} | found.unread):
        _watch(by_path[path], rule)
    for module in by_path.values():
        _rewrite_rules(module, pattern, replacement)
    swapped.__dict__["swap_report"] = Uses([*modules, *calls])
    return swapped


# --- Modules -----------------------------------------------------------------------------------------------------


class _InPlace(Activation):
    """An activation that overwrites its input, as the module in whose place it stands did."""

    def forward(self, x: Tensor) -> Tensor:
        return x.copy_(super().forward(x.clone()))


def _standing_for(old: Any, replacement: Activation) -> Activation:
    """A new activation with the hooks and the mode of the module it replaces."""
    new = copy.deepcopy(replacement)
    if getattr(old, "inplace", False) or isinstance(old, _InPlace):
        new.__class__ = _InPlace
    if isinstance(old, nn.Module):
        for name, value in old.__dict__.items():
            if name.endswith("_hooks") or "_hooks_" in name or name == "training":
                new.__dict__[name] = value
    return new


def _replace_modules(model: nn.Module, paths: set[str], replacement: Activation) -> nn.Module:
    if "" in paths:
        return _standing_for(model, replacement)
    made: dict[int, Activation] = {}
    for path in sorted(paths):
        parent_path, _, name = path.rpartition(".")
        parent = model.get_submodule(parent_path)
        old = getattr(parent, name)
        # A module that stands in several places stays one module; functions are not modules and are not shared.
        key = id(old) if isinstance(old, nn.Module) else -len(made) - 1
        if key not in made:
            made[key] = _standing_for(old, replacement)
            tensor = next(parent.parameters(), next(model.parameters(), None))
            made[key].to(None if tensor is None else tensor.device)
        setattr(parent, name, made[key])
    _leave_fast_path(model)
    return model


def _leave_fast_path(model: nn.Module) -> None:
    """Keep transformers from the fused kernel, which knows only ReLU and GELU, and from nested tensors made for it."""
    layers = [m for m in model.modules() if isinstance(m, TRANSFORMER_LAYERS) and isinstance(m.activation, Activation)]
    for layer in layers:
        layer.__dict__["activation_relu_or_gelu"] = 0
    for encoder in model.modules():
        if isinstance(encoder, nn.TransformerEncoder) and any(m in layers for m in encoder.modules()):
            encoder.__dict__["use_nested_tensor"] = False


def _nothing_found(model: nn.Module, pattern: Pattern, found: Found) -> str:
    seen = activations_in(model)
    lines = [f"{pattern.label} stands nowhere in {type(model).__name__}"]
    lines += [f"It contains\n{seen!r}"] if seen else ["No activation was seen in it"]
    if found.reasons:
        path, reason = next(iter(found.reasons.items()))
        lines.append(
            f"The forward of {', '.join(p or 'the model' for p in found.reasons)} cannot be read without running it "
            f"({path or 'the model'}: {reason}). Pass an example to run it on: vp.swap(..., inputs=(x,))"
        )
    return ". ".join(lines)


_running = threading.local()


class _Replacing(TorchFunctionMode):
    """Runs the replacement for each call that a rule is for."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        super().__init__()
        self.rules = rules
        self.provenance = Provenance()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not pointwise and not is_watched(name_of(func)):
            return func(*args, **kwargs)
        candidates = self.provenance.candidates(func, args, kwargs)
        in_place = is_in_place(func, kwargs)
        for rule in self.rules if func is not pointwise else ():
            found = activation_of(func, args, kwargs, candidates, rule.pattern)
            if found is not None and _same_shape(found[0], args, kwargs):
                _refuse_checkpoint()
                return self._replaced(rule.replacement, found[0], args[0] if in_place else None)
        result = func(*args, **kwargs)
        if in_place:
            self.provenance.forget(args[0])
        self.provenance.note(result, candidates)
        return result

    def _replaced(self, replacement: Activation, root: Tensor, target: Tensor | None) -> Tensor:
        with torch._C.DisableTorchFunction():
            if target is None:
                return replacement(root)
            result = target.copy_(replacement(root.clone()))
        self.provenance.forget(target)
        return result


_CHECKPOINT = os.path.join("torch", "utils", "checkpoint.py")


def _refuse_checkpoint() -> None:
    """Raise where torch.utils.checkpoint was given a function that is no method of a module.

    Backward runs it again, alone, outside the forward that exchanges its calls: gradients would be of another function.
    """
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code is not _exchange.__code__:
        if frame.f_code.co_filename.endswith(_CHECKPOINT):
            raise NotImplementedError(
                "an activation to be swapped is called inside torch.utils.checkpoint, in a function that is neither a "
                "module nor a method of one, and backward would run it as it was: checkpoint a module or a method"
            )
        frame = frame.f_back


def _same_shape(root: Tensor, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    if not root.is_floating_point():
        return False
    shapes = {a.shape for a in (*args, *kwargs.values()) if isinstance(a, Tensor)} - {root.shape}
    return not shapes or torch.broadcast_shapes(root.shape, *shapes) == root.shape


def _exchange(method: Callable[..., Any], module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A method of a module, with its calls exchanged."""
    rules: tuple[Rule, ...] = module._swap_rules
    tokens = tuple(rule.token for rule in rules)
    before = getattr(_running, "tokens", ())
    if tokens == before:
        return method(module, *args, **kwargs)
    _running.tokens = tokens
    try:
        with _Replacing(rules):
            return method(module, *args, **kwargs)
    finally:
        _running.tokens = before


def _uncompiled(function: Callable[..., Any]) -> Callable[..., Any]:
    if not _UNCOMPILED:
        _UNCOMPILED.append(torch.compiler.disable(function, reason="vp.swap looks at every call as it runs"))
    return _UNCOMPILED[0]


_UNCOMPILED: list[Callable[..., Any]] = []


def _under_rules(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        # torch.compile leaves these methods to Python; without it, importing its machinery would cost seconds.
        exchange = _uncompiled(_exchange) if "torch._dynamo" in sys.modules else _exchange
        return exchange(method, self, args, kwargs)

    return run


@functools.cache
def _swapped_class(kind: type[nn.Module]) -> type[nn.Module]:
    """A subclass that behaves as `kind` in everything but the calls that its methods make."""

    def reduce_ex(self: Any, protocol: Any) -> Any:
        reduced = kind.__reduce_ex__(self, protocol)
        if reduced[0] is vars(copyreg)["__newobj__"] and reduced[1] == (type(self),):
            return (_remade, (kind,), *reduced[2:])
        return reduced

    members = {
        **{name: _under_rules(method) for name, method in own_methods(kind).items()},
        "__reduce_ex__": reduce_ex,
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
    }
    return type(kind.__name__, (Swapped, kind), members)


def _remade(kind: type[nn.Module]) -> nn.Module:
    swapped = _swapped_class(kind)
    return swapped.__new__(swapped)


def _watch(module: nn.Module, rule: Rule) -> None:
    """Have a rule applied to the calls in a module's forward."""
    if isinstance(module, fx.GraphModule):
        _rewrite_graph(module, rule)
        return
    if "forward" in module.__dict__:
        raise ValueError(
            f"the forward of a {type(module).__name__} was replaced on the instance (by a hook of another library?); "
            "swap before that is done"
        )
    if not isinstance(module, Swapped):
        module.__class__ = _swapped_class(type(module))
    _set_rules(module, (*getattr(module, "_swap_rules", ()), rule))


def _set_rules(module: nn.Module, rules: tuple[Rule, ...]) -> None:
    module.__dict__["_swap_rules"] = rules


def called_activations(model: nn.Module) -> Iterator[tuple[str, Activation]]:
    """What swaps put in the place of calls, with the path of the module whose methods make these calls."""
    for path, module in model.named_modules():
        for rule in getattr(module, "_swap_rules", ()):
            yield path, rule.replacement


def _rewrite_rules(module: nn.Module, pattern: Pattern, replacement: Activation) -> None:
    """Where an earlier swap put what is now replaced, put the new one at once."""
    rules: tuple[Rule, ...] = getattr(module, "_swap_rules", ())
    if not rules:
        return
    rewritten = []
    for rule in rules:
        put = rule.replacement
        hit = pattern.matches(put.name, put.definition.expression(put.numbers()))
        rewritten.append(Rule(rule.pattern, replacement, uuid.uuid4().hex) if hit else rule)
    _set_rules(module, tuple(rewritten))


def _rewrite_graph(module: fx.GraphModule, rule: Rule) -> None:
    """A graph is fixed code: its nodes are exchanged."""
    hits = list(uses_in_graph(module.graph, module, "", rule.pattern))
    for i, (node, root, _) in enumerate(hits):
        name = f"swapped_{rule.token[:8]}_{i}"
        module.add_submodule(name, copy.deepcopy(rule.replacement))
        with module.graph.inserting_before(node):
            in_place = is_in_place(node.target, dict(node.kwargs))
            operand = module.graph.call_method("clone", (root,)) if in_place else root
            new = module.graph.call_module(name, (operand,))
            if in_place:
                new = module.graph.call_method("copy_", (node.args[0], new))
        node.replace_all_uses_with(new)
        module.graph.erase_node(node)
    module.recompile()
