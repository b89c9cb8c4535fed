"""Looking on while a model trains: what reaches its activations, and what gradient comes back.

Nothing is attached to the model, which the training may copy, pickle or compile: torch tells of every call of every
module. Of a training only the first pass and one of the last are kept. As nobody knows which will be the last, passes
are looked at ever more rarely, so that looking on costs little: what is kept lies in the last sixteenth. Compiled code
is not looked into.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module
from torch.utils._pytree import tree_leaves

from varphi.activation.layer import Activation
from varphi.activation.swapping import called_activations
from varphi.activation.tracing import user_frame

from .places import Place

# After these layers the units of a tensor lie along dimension 1; after any other along the last.
_CHANNELS_FIRST = (
    *(nn.modules.conv._ConvNd, nn.modules.batchnorm._NormBase, nn.GroupNorm),
    *(nn.modules.pooling._MaxPoolNd, nn.modules.pooling._AvgPoolNd),
)


# Before the 32nd pass each is looked at, before the 64th every other one, before the 128th every fourth, and so on.
_DENSE = 5


def is_looked_at(number: int) -> bool:
    """Whether the pass of this number, counted from 1, is."""
    return number % (1 << max(0, number.bit_length() - _DENSE)) == 0


@dataclass
class Sight:
    """One call of an activation.

    Attributes:
        place: the number of its place.
        activation: the module that was called, with its parameters as they were then.
        inputs: what it was called with, (batch, ...).
        units: the dimension along which the units of the layer lie.
        norm: of the loss's gradient by the inputs; None until it comes, if it does.
    """

    place: int
    activation: nn.Module
    inputs: Tensor
    units: int
    version: int
    norm: Tensor | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the inputs are still what the activation saw, not overwritten by the model since."""
        return self.inputs._version == self.version


@dataclass
class Pass:
    """One call of the model, and what came back of it."""

    sights: list[Sight] = field(default_factory=list)
    has_gradient: bool = False

    @property
    def samples(self) -> int:
        """The size of its batch."""
        return max((s.inputs.shape[0] for s in self.sights if s.inputs.ndim), default=0)


class Watch:
    """Looks on at one model while a `with` block runs.

    Attributes:
        first: the first pass that a gradient came back of; None if there was none.
        last: the last such pass, of those looked at, whose batch was not smaller than the first one's.
        calls: how often the model was called.
    """

    def __init__(self, model: nn.Module, places: Sequence[Place]) -> None:
        self.first: Pass | None = None
        self.last: Pass | None = None
        self.calls = 0
        self._passes = 0
        self._model = model
        self._current: Pass | None = None
        self._nonfinite: Tensor | int = 0
        self._units = -1
        paths = dict(model.named_modules(remove_duplicate=False))
        self._modules = {id(paths[p.path]): i for i, p in enumerate(places) if not p.line and p.path in paths}
        self._lines = {(p.path, p.line): i for i, p in enumerate(places) if p.line}
        self._called = {id(activation) for _, activation in called_activations(model)}
        self._paths = {id(module): path for path, module in model.named_modules()}

    @property
    def nonfinite(self) -> float:
        """How many calls of the model gave NaN or infinity; NaN where none was seen."""
        return float(self._nonfinite) if self.calls else math.nan

    def __enter__(self) -> Watch:
        self._open = ExitStack()
        self._open.enter_context(warnings.catch_warnings())
        # Of a compiled model torch tells twice, of the outside and, where that is not compiled, of the inside.
        warnings.filterwarnings("ignore", "Using `torch.compile\\(module\\)` when there are global hooks")
        self._open.enter_context(torch_module.register_module_forward_pre_hook(self._before))
        self._open.enter_context(torch_module.register_module_forward_hook(self._after))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self._current = None

    # Called for every module of the process, so what does not concern the watch returns at once.

    def _before(self, module: nn.Module, args: Any) -> None:
        if torch.compiler.is_compiling():
            return
        if module is self._model:
            self._begin()
        if self._current is None:
            return
        key = id(module)
        if (key in self._modules or key in self._called) and not _is_transformed():
            self._see(self._current, module, args)

    def _after(self, module: nn.Module, args: Any, output: Any) -> None:
        if torch.compiler.is_compiling():
            return
        if module is self._model or type(module).__name__ == "OptimizedModule":
            self._count(module, output)
        if self._current is None:
            return
        if isinstance(module, _CHANNELS_FIRST):
            self._units = 1
        elif id(module) not in self._modules and module._parameters and not module._modules:
            self._units = -1

    def _begin(self) -> None:
        """A call of the model."""
        self._current, self._units = None, -1
        if torch.is_grad_enabled():
            self._passes += 1
            if is_looked_at(self._passes):
                self._current = Pass()

    def _count(self, module: nn.Module, output: Any) -> None:
        """What a call of the model, compiled or not, gave."""
        if _is_transformed() or self._model not in (module, module._modules.get("_orig_mod")):
            return
        self.calls += 1
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor) and tensor.is_floating_point():
                # 0 times NaN or infinity is NaN, which is not 0.
                self._nonfinite = self._nonfinite + ((tensor.detach() * 0).sum() != 0)
                break

    def _see(self, current: Pass, module: nn.Module, args: Any) -> None:
        if not torch.is_grad_enabled() or not args or not isinstance(args[0], Tensor):
            return
        place = self._modules.get(id(module))
        if place is None:
            place = self._calling()
        if place is None or not args[0].ndim:
            return
        x: Tensor = args[0]
        # What is about to be overwritten is copied; all else is only held.
        seen = x.detach().clone() if _overwrites(module) else x.detach()
        units = self._units if x.ndim > 2 else -1
        sight = Sight(place, _as_it_is(module), seen, units, seen._version)
        current.sights.append(sight)
        if x.requires_grad:
            x.register_hook(lambda gradient: self._came_back(current, sight, gradient))

    def _calling(self) -> int | None:
        """The place of the call that is being made: the user's line of code, and the module whose method it is in."""
        frame = user_frame(_NOWHERE)
        line = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else ""
        while frame is not None:
            path = self._paths.get(id(frame.f_locals.get("self")))
            if (path, line) in self._lines:
                return self._lines[path, line]  # pyright: ignore[reportArgumentType]
            frame = frame.f_back
        return None

    def _came_back(self, current: Pass, sight: Sight, gradient: Tensor) -> None:
        sight.norm = torch.linalg.vector_norm(gradient.detach(), dtype=torch.float64)
        if current.has_gradient:
            return
        current.has_gradient = True
        if self.first is None:
            self.first = current
        if current.samples >= self.first.samples:
            self.last = current


_NOWHERE = (lambda: None).__code__


def _is_transformed() -> bool:
    """Whether tensors are not what they seem, under a torch.func transform."""
    return torch._C._are_functorch_transforms_active()


def _overwrites(module: nn.Module) -> bool:
    """Whether its output may take the place of its input: torch's in-place modules, and what a swap put there."""
    if isinstance(module, Activation):
        return type(module) is not Activation
    return bool(getattr(module, "inplace", False))


def _as_it_is(module: nn.Module) -> nn.Module:
    """The module, or a copy where training will change it."""
    return copy.deepcopy(module) if next(module.parameters(), None) is not None else module
