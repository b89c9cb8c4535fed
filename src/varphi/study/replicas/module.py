"""The module that holds the replicas."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from varphi.activation.layer import Activation
from varphi.activation.lookup import ActivationLike
from varphi.activation.uses import Pattern

from .reading import Exchange, Program, Unreadable, read
from .vmapped import Vmapped, copy_modes


class Replicas(nn.Module):
    """Independent replicas of one model, computed and trained at once; made by `varphi.study.replicate`.

    Its parameters are those of the model with a first dimension for the replica, under the model's names below
    `stacked`, and lie side by side in memory. Any optimiser takes them. An elementwise one (SGD, Adam, RMSprop) moves a
    replica as it would alone; one that looks at a whole tensor (a clipped norm, LAMB, Muon) sees all replicas together.

    Dropout is drawn for each replica and each of its samples. Batch normalisation is of each replica's own batch.

    Attributes:
        seeds: the seed of each replica.
        activations: the activation of each replica, where they were given.
        stacked: the layers.
        how: "batched layers", or "torch.func.vmap" and why.
    """

    seeds: tuple[int, ...]
    activations: tuple[str, ...] | None
    how: str

    def __init__(
        self,
        model: nn.Module,
        models: Sequence[nn.Module],
        seeds: Sequence[int],
        exchange: tuple[ActivationLike, Sequence[Activation]] | None,
        exchanged: Sequence[nn.Module],
    ) -> None:
        """`models` are those of the seeds, `exchanged` the model with each of the activations that are to be put in."""
        super().__init__()
        groups = len(exchanged)
        self.seeds = tuple(seeds) * groups
        self.activations = None if exchange is None else tuple(_label(a) for a in exchange[1] for _ in seeds)
        # Kept from registration: they are patterns for `module`, not replicas.
        self._alone = tuple(exchanged)
        tensors = _stack(exchanged[0], models, groups)
        swapped = None if exchange is None else Exchange(Pattern.of(exchange[0]), tuple(exchange[1]))
        self._program: Program | None = None
        self._vmapped: Vmapped | None = None
        try:
            self._program = read(model, tensors, len(self.seeds), swapped)
            self.how = "batched layers"
        except Unreadable as reason:
            self._vmapped = Vmapped([copy.deepcopy(m) for m in exchanged], len(self.seeds))
            self.how = f"torch.func.vmap, because of {type(model).__name__}: {reason}"
            warnings.warn(
                f"the replicas of {type(model).__name__} run under torch.func.vmap, which is slower: {reason}",
                stacklevel=4,
            )
        self.stacked = _planted(exchanged[0], tensors, {} if self._program is None else self._program.layers)
        self._names = {name: tuple(name.rpartition(".")[::2]) for name in tensors}
        self._lay_side_by_side()
        self.training = model.training
        copy_modes(exchanged[0], self.stacked)

    def __len__(self) -> int:
        return len(self.seeds)

    def forward(self, *inputs: Tensor, each: bool = False) -> Tensor:
        """The output of every replica, (replicas, batch, ...).

        Args:
            inputs: what the model takes: (batch, ...), the same for all replicas.
            each: whether every replica has inputs of its own, (replicas, batch, ...).
        """
        if each:
            for x in inputs:
                if x.dim() < 2 or x.shape[0] != len(self.seeds):
                    raise ValueError(
                        f"with each=True an input is (replicas, batch, ...) for {len(self.seeds)} replicas, got shape "
                        f"{tuple(x.shape)}; without it, all replicas see the same (batch, ...)"
                    )
        if self._program is None:
            assert self._vmapped is not None
            return self._vmapped(self._tensors(), inputs, each, self.stacked)
        if len(inputs) != self._program.inputs:
            raise TypeError(f"the model takes {self._program.inputs} inputs, got {len(inputs)}")
        return self._program(inputs if each else [x.expand(len(self.seeds), *x.shape) for x in inputs])

    def module(self, i: int) -> nn.Module:
        """Replica i as an ordinary model, with copies of its parameters and buffers."""
        if not -len(self) <= i < len(self):
            raise IndexError(f"there are {len(self)} replicas, 0 to {len(self) - 1}; got {i}")
        i %= len(self)
        model = copy.deepcopy(self._alone[i * len(self._alone) // len(self)])
        own = dict([*model.named_parameters(), *model.named_buffers()])
        tensors = self._tensors()
        for name, tensor in own.items():
            tensor.data = tensors[name].detach()[i].clone()
            tensor.requires_grad_(tensors[name].requires_grad)
        copy_modes(self.stacked, model)
        return model

    def extra_repr(self) -> str:
        return f"{len(self)} replicas, {self.how}"

    def _tensors(self) -> dict[str, Tensor]:
        """The stacked tensors by their names in the model."""
        return {n: getattr(self.stacked.get_submodule(path), last) for n, (path, last) in self._names.items()}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        applied = super()._apply(fn, recurse)
        self._lay_side_by_side()
        return applied

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._lay_side_by_side()

    def _lay_side_by_side(self) -> None:
        """Put the parameters into one piece of memory, in which an optimiser may treat them as one."""
        parameters = list(self.parameters())
        kinds = {(p.dtype, p.device) for p in parameters}
        if len(kinds) != 1:
            return
        flat = torch.cat([p.detach().flatten() for p in parameters])
        for p, piece in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            p.data = piece.view(p.shape)


class Layers(nn.Module):
    """A part of the model that has layers in it, or tensors that only the model's own code knows."""


def _label(activation: Activation) -> str:
    return repr(activation) if activation.numbers() else activation.name


def _stack(like: nn.Module, models: Sequence[nn.Module], groups: int) -> dict[str, Tensor]:
    """The tensors of all models by name, once for each group; what is one tensor in a model is one here."""
    made: dict[int, Tensor] = {}
    stacked: dict[str, Tensor] = {}
    sources = [
        dict([*m.named_parameters(remove_duplicate=False), *m.named_buffers(remove_duplicate=False)]) for m in models
    ]
    names = [*like.named_parameters(remove_duplicate=False), *like.named_buffers(remove_duplicate=False)]
    for name, tensor in names:
        if id(tensor) not in made:
            rows = torch.stack([source[name].detach() for source in sources])
            rows = rows.repeat(groups, *[1] * (rows.dim() - 1))
            parameter = isinstance(tensor, nn.Parameter)
            made[id(tensor)] = nn.Parameter(rows, tensor.requires_grad) if parameter else rows
        stacked[name] = made[id(tensor)]
    return stacked


def _planted(like: nn.Module, tensors: dict[str, Tensor], layers: dict[str, nn.Module]) -> nn.Module:
    """The layers, and the tensors of what has become none, under their names in the model."""
    root = layers.get("", Layers())
    for path, _ in like.named_modules(remove_duplicate=False):
        if path:
            parent, _, name = path.rpartition(".")
            root.get_submodule(parent).add_module(name, layers.get(path, Layers()))
    for name, tensor in tensors.items():
        path, _, last = name.rpartition(".")
        home = root.get_submodule(path)
        if last in home._parameters or last in home._buffers:
            continue
        if isinstance(tensor, nn.Parameter):
            home.register_parameter(last, tensor)
        else:
            home.register_buffer(last, tensor)
    return root
