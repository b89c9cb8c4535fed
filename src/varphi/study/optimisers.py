"""SGD and Adam for many replicas at once, each with a learning rate of its own.

A parameter's first dimension is the replica. Both methods are elementwise, so a replica moves as it would alone under
torch's optimiser of that name, and replicas with different learning rates are one batch. Parameters that lie side by
side in memory, as those of `varphi.study.replicate` do, are updated as one long tensor.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks as _GLOBAL_AFTER
from torch.optim.optimizer import _global_optimizer_pre_hooks as _GLOBAL_BEFORE

Rates: TypeAlias = "float | Sequence[float] | Tensor"


class Run(NamedTuple):
    """What is updated at once: a parameter, or several that lie side by side, as one tensor.

    Attributes:
        weights, gradient: of one shape.
        rates: the learning rate of each element, or of all of them.
        memory: what the method remembers of them, in the order of its `memory`.
        steps: how many updates there have been, with this one.
    """

    weights: Tensor
    gradient: Tensor
    rates: Tensor | float
    memory: list[Tensor]
    steps: int


class _Plan:
    """What stays from step to step where all parameters of a group are one run and nothing is remembered of them."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self.weights = _joined(parameters)
        self.places = [p.data_ptr() for p in parameters]
        self.sizes = [p.nbytes for p in parameters]
        self.distances = [place - self.places[0] for place in self.places]

    def fits(self, parameters: list[Tensor], gradients: list[Tensor]) -> bool:
        """Whether the parameters are where they were, and their gradients as they would lie as one."""
        begin = gradients[0].data_ptr() if gradients else 0
        return (
            self.places == [p.data_ptr() for p in parameters]
            and self.distances == [g.data_ptr() - begin for g in gradients]
            and self.sizes == [g.nbytes for g in gradients]
            and _is_one_piece(gradients)
        )


class PerReplica(Optimizer):
    """An elementwise method; a subclass says what it remembers of each weight, and how a run is updated.

    Args:
        params: parameters or groups of them, as torch's optimisers take them.
        lr: one learning rate, or one for each replica. These are kept in the group as `rates`, and its `lr` is then a
            factor of all of them, at first 1: torch's schedulers change it, so each of them works.
        options: further values of the groups.

    Raises:
        ValueError: a learning rate that is negative or not finite, or not as many as there are replicas.
    """

    def __init__(self, params: Iterable[Any], lr: Rates, **options: Any) -> None:
        self._plans: dict[int, _Plan] = {}
        super().__init__(params, {"lr": lr, "rates": None, **options})

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._plans = {}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        lr = param_group.get("lr", self.defaults["lr"])
        rates = torch.as_tensor(lr, dtype=torch.float64, device="cpu").detach().clone()
        if rates.dim() > 1 or not bool((torch.isfinite(rates) & (rates >= 0)).all()):
            raise ValueError(f"lr must be a finite number >= 0, or one for each replica; got {lr!r}")
        group = {"lr": 1.0, "rates": rates} if rates.dim() else {"lr": float(rates), "rates": None}
        super().add_param_group(param_group | group)
        shapes = [tuple(p.shape) for p in self.param_groups[-1]["params"]]
        if rates.dim() and any(shape[:1] != tuple(rates.shape) for shape in shapes):
            self.param_groups.pop()
            raise ValueError(
                f"{len(rates)} learning rates do not fit parameters of shapes {', '.join(map(str, shapes))}: the first "
                "dimension of each must be the replica; give as many rates as replicas, or one number"
            )

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Change every parameter that has a gradient. A closure is called first, and its loss returned."""
        hooks = (self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks, _GLOBAL_BEFORE, _GLOBAL_AFTER)
        if any(hooks) or torch.autograd._profiler_enabled():  # type: ignore[attr-defined]
            return self._watched_step(closure)
        return self._step(closure)

    # Torch would wrap `step` for its hooks and its profiler, which for small models takes as long as the step itself.
    step.hooked = True  # type: ignore[attr-defined]

    @torch.no_grad()
    def _step(self, closure: Callable[[], Any] | None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for run in self._runs(group):
                self._update(run, group)
        return loss

    _watched_step = Optimizer.profile_hook_step(_step)

    @abstractmethod
    def _memory(self, group: dict[str, Any]) -> tuple[str, ...]:
        """Names of the tensors that are remembered of each parameter."""

    @abstractmethod
    def _update(self, run: Run, group: dict[str, Any]) -> None:
        """Change `run.weights` in place."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, or with `set_to_none=False` fill them with zeros."""
        if not set_to_none:
            super().zero_grad(set_to_none=False)
            return
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def _runs(self, group: dict[str, Any]) -> Iterator[Run]:
        moving = [p for p in group["params"] if p.grad is not None]
        gradients = [p.grad for p in moving]
        if any(g.is_sparse for g in gradients):
            raise ValueError("a gradient is sparse, which these optimisers do not take: use sparse=False")
        names = self._memory(group)
        plan = None if names else self._plans.get(id(group))
        if plan is not None and plan.fits(moving, gradients):
            yield Run(plan.weights, _joined(gradients), _spread(group, moving), [], 0)
            return
        families, steps = [moving, gradients], [0] * len(moving)
        if names:
            for _, (new,) in _runs_of([[p for p in moving if not self.state[p]]]):
                self._begin(new, names)
            states = [self.state[p] for p in moving]
            for i, state in enumerate(states):
                steps[i] = state["steps"] = state["steps"] + 1
            families += [[state[name] for state in states] for name in names]
        for start, parts in _runs_of(families, steps):
            weights, gradient, *memory = map(_joined, parts)
            if not names and len(parts[0]) == len(moving):
                self._plans[id(group)] = _Plan(moving)
            yield Run(weights, gradient, _spread(group, parts[0]), memory, steps[start])

    def _begin(self, parameters: list[Tensor], names: tuple[str, ...]) -> None:
        """Make the memory of neighbours, side by side as they are."""
        for p in parameters:
            self.state[p]["steps"] = 0
        sizes = [p.numel() for p in parameters]
        for name in names:
            pieces = parameters[0].new_zeros(sum(sizes)).split(sizes)
            for p, piece in zip(parameters, pieces, strict=True):
                self.state[p][name] = piece.view(p.shape)


class SGD(PerReplica):
    """Gradient descent as `torch.optim.SGD` defines it, momentum included (without dampening), one rate per replica.

    Args:
        params: parameters, or groups of them.
        lr: one learning rate, or one for each replica.
        momentum: what part of its velocity a weight keeps.
        weight_decay: factor of the weights that is added to their gradient.
    """

    def __init__(self, params: Iterable[Any], lr: Rates, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        super().__init__(params, lr, momentum=momentum, weight_decay=weight_decay)

    def _memory(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    def _update(self, run: Run, group: dict[str, Any]) -> None:
        step = _decayed(run, group)
        if run.memory:
            step = run.memory[0].mul_(group["momentum"]).add_(step)
        if isinstance(run.rates, Tensor):
            run.weights.sub_(run.rates * step)
        else:
            run.weights.add_(step, alpha=-run.rates)


class Adam(PerReplica):
    """Adam (Kingma & Ba, arXiv 1412.6980) as `torch.optim.Adam` defines it, one rate per replica.

    Args:
        params: parameters, or groups of them.
        lr: one learning rate, or one for each replica.
        betas: how much of the mean gradient and of the mean squared gradient is kept at each step.
        eps: what is added to the root of the latter.
        weight_decay: factor of the weights that is added to their gradient.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: Rates = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def _memory(self, group: dict[str, Any]) -> tuple[str, ...]:
        return "exp_avg", "exp_avg_sq"

    def _update(self, run: Run, group: dict[str, Any]) -> None:
        gradient, (first, second) = _decayed(run, group), run.memory
        kept, kept_squares = group["betas"]
        first.lerp_(gradient, 1 - kept)
        second.mul_(kept_squares).addcmul_(gradient, gradient, value=1 - kept_squares)
        scale = (second / (1 - kept_squares**run.steps)).sqrt_().add_(group["eps"])
        run.weights.sub_(run.rates / (1 - kept**run.steps) * first / scale)


def _decayed(run: Run, group: dict[str, Any]) -> Tensor:
    decay = group["weight_decay"]
    return run.gradient.add(run.weights, alpha=decay) if decay else run.gradient


def _runs_of(
    families: list[list[Tensor]], marks: Sequence[int] | None = None
) -> Iterator[tuple[int, list[list[Tensor]]]]:
    """Cut lists of equal length where, in any of them, a tensor does not follow the one before it in memory.

    Yields the start of each part and the part of each list. A change of the mark cuts too.
    """
    starts = [[t.data_ptr() for t in family] for family in families]
    ends = [[a + t.nbytes for a, t in zip(s, f, strict=True)] for s, f in zip(starts, families, strict=True)]
    count, begin = len(families[0]), 0
    for i in range(1, count + 1):
        follows = i < count and all(s[i] == e[i - 1] for s, e in zip(starts, ends, strict=True))
        if follows and (marks is None or marks[i - 1] == marks[i]):
            continue
        parts = [family[begin:i] for family in families]
        if all(map(_is_one_piece, parts)):
            yield begin, parts
        else:
            yield from ((j, [[family[j]] for family in families]) for j in range(begin, i))
        begin = i


def _is_one_piece(neighbours: list[Tensor]) -> bool:
    """Whether tensors that follow each other are dense parts of one storage."""
    if len(neighbours) == 1:
        return True
    first, last, storage = neighbours[0], neighbours[-1], neighbours[0].untyped_storage()
    inside = last.data_ptr() + last.nbytes <= storage.data_ptr() + storage.nbytes()
    return inside and all(t.is_contiguous() and t.dtype is first.dtype for t in neighbours)


def _joined(neighbours: list[Tensor]) -> Tensor:
    if len(neighbours) == 1:
        return neighbours[0]
    return neighbours[0].as_strided((sum(t.numel() for t in neighbours),), (1,))


def _spread(group: dict[str, Any], neighbours: list[Tensor]) -> Tensor | float:
    """The learning rate of each element of some neighbours, joined."""
    if group["rates"] is None:
        return float(group["lr"])
    rates = group["rates"].to(neighbours[0]) * float(group["lr"])
    if len(neighbours) == 1:
        return rates.view(-1, *[1] * (neighbours[0].dim() - 1))
    return torch.cat([rates.repeat_interleave(p.numel() // len(rates)) for p in neighbours])
