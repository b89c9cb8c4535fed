"""Sorted groups as Lipschitz constants see them.

max(a, b) and min(a, b) are (a + b)/2 ± |a - b|/2 with one and the same |a - b|. Read as two maxima, a pair would seem
to stretch by √2; read so, the recursion finds that it does not, since it keeps how the two halves move together. The
numbers are exact halves and ones: it is the same function.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from varphi.bounds.crown import Network
from varphi.bounds.nodes import Input, Node

from .layers import GroupSort


class Folded(nn.Module):
    """GroupSort by absolute values of differences.

    Args:
        sort: whose function this is.
        dtype: of the model around it.
    """

    def __init__(self, sort: GroupSort, dtype: torch.dtype) -> None:
        super().__init__()
        self.size, self.dim, self.rounds = sort.size, sort.dim, len(sort.rounds())
        for turn, pairs in enumerate(sort.rounds()):
            kept, apart = torch.eye(self.size, dtype=dtype), torch.zeros(len(pairs), self.size, dtype=dtype)
            for k, (i, j) in enumerate(pairs):
                kept[[i, i, j, j], [i, j, i, j]] = 0.5
                apart[k, i], apart[k, j] = 1.0, -1.0
            self.register_buffer(f"kept{turn}", kept)
            self.register_buffer(f"apart{turn}", apart)
            self.register_buffer(f"back{turn}", apart.T / 2)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.dim + 1 if self.dim >= 0 else self.dim
        h = x.unflatten(self.dim, (-1, self.size)).movedim(inner, -1)
        for turn in range(self.rounds):
            kept, apart, back = (getattr(self, f"{name}{turn}") for name in ("kept", "apart", "back"))
            h = F.linear(h, kept) + F.linear(torch.abs(F.linear(h, apart)), back)
        return h.movedim(-1, inner).flatten(inner - 1, inner)


def folded(model: nn.Module) -> nn.Module:
    """The model with its sorts folded: itself where there are none, else a copy."""
    dtype = next((p.dtype for p in model.parameters()), torch.float64)
    if isinstance(model, GroupSort):
        return Folded(model, dtype).eval()
    if not any(isinstance(m, GroupSort) for m in model.modules()):
        return model
    model = copy.deepcopy(model)
    known: dict[nn.Module, Folded] = {}
    for module in list(model.modules()):
        for name, child in module._modules.items():  # named_children leaves out one that stands in two places
            if isinstance(child, GroupSort):
                module._modules[name] = known.setdefault(child, Folded(child, dtype).eval())
    return model


def sorts(network: Network, model: nn.Module) -> dict[Node, Node]:
    """From what a folded sort gives to what it was given."""
    paths = {path for path, module in model.named_modules() if isinstance(module, Folded)}
    found = {}
    for node in network.nodes:
        leaves = node is network.output or any(c.path != node.path for c in node.consumers)
        if node.path in paths and leaves and not isinstance(node, Input):
            given = _given(node)
            if len(given) == 1:
                found[node] = given.pop()
    return found


def _given(node: Node) -> set[Node]:
    """What enters the module that a node is computed in, on the way to it."""
    found, ahead = set(), [node]
    while ahead:
        for parent in ahead.pop().parents:
            inside = parent.path == node.path and not isinstance(parent, Input)
            (ahead.append if inside else found.add)(parent)
    return found
