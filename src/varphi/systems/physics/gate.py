"""Whether an activation is smooth enough for an equation: decided by certified facts, before any training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from torch import nn

from varphi.activation.layer import Activation
from varphi.activation.uses import activations_in
from varphi.facts.facts import Facts

SMOOTH = "tanh, sin, softplus, gelu or silu"


class NotSmoothEnough(ValueError):
    """An activation has fewer continuous derivatives than the equation asks for."""


class AlmostEverywhere(UserWarning):
    """An activation's derivatives exist almost everywhere only, and training goes on with these."""


class InNameOnly(UserWarning):
    """An activation is as smooth as the equation asks for and no smoother."""


def check_smoothness(
    net: nn.Module, order: int, *, form: str = "strong", hard: bool = False, allow_almost_everywhere: bool = False
) -> None:
    """Compare a net's activations with the order of the derivatives that are taken of it.

    The strong form takes derivatives of order k at points: the activation must be C^k. In the weak form they stand
    under an integral, where derivatives that jump are enough: C^(k-1).

    Args:
        net: any module; its activations are found as by `varphi.activations_in`.
        order: k, the highest derivative.
        hard: whether conditions are fulfilled by a factor: then more is said.
        allow_almost_everywhere: warn instead of refusing.

    Raises:
        NotSmoothEnough: naming the activation, its certified smoothness, and what to do.
    """
    needed = order if form == "strong" else order - 1
    for facts in activations(net):
        smoothness = facts.smoothness
        if smoothness < needed:
            told = _reason(facts, order, needed, form, hard)
            if not allow_almost_everywhere:
                raise NotSmoothEnough(told + " To train all the same: allow_almost_everywhere=True.")
            warnings.warn(told, AlmostEverywhere, stacklevel=3)
        elif form == "strong" and needed and smoothness == needed:
            warnings.warn(
                f"{facts.name} is C^{smoothness} and no more: derivative {order + 1}, which the training's gradient "
                f"contains, jumps at {_kinks(facts)}. Expect slower convergence than with {SMOOTH}.",
                InNameOnly,
                stacklevel=3,
            )


def check_derivable(net: nn.Module, order: int) -> None:
    """Whether derivatives of a trained net are those of what it stands for: at kinks they may jump, not lack a Dirac.

    Raises:
        NotSmoothEnough: for an activation below C^(order - 1).
    """
    for facts in activations(net):
        if facts.smoothness < order - 1:
            raise NotSmoothEnough(
                f"{facts.name} is C^{int(facts.smoothness)}: the net's derivative of order {order} is concentrated at "
                f"the kinks of its units, and between them it is that of a piece (0 for relu), not the solution's. "
                f"Derivatives up to order {int(facts.smoothness) + 1} can be asked for; use {SMOOTH} for more."
            )


def activations(net: nn.Module) -> list[Facts]:
    """The facts about each activation of a net, each once."""
    found = {}
    for module in net.modules():
        if isinstance(module, Activation) and not module.learn:
            facts = Facts(module.definition.expression(module.numbers()), module, module.name, module.numbers())
            found[repr(module)] = facts
    for use in activations_in(net):
        if use.formula is not None and not any(f.expression is use.formula for f in found.values()):
            found[use.activation] = Facts(use.formula, name=use.activation)
    return list({f.expression: f for f in found.values()}.values())


def _reason(facts: Facts, order: int, needed: int, form: str, hard: bool) -> str:
    name, smoothness = facts.name, facts.smoothness
    is_like = "is discontinuous" if smoothness < 0 else f"is C^{int(smoothness)}"
    asked = f"the equation's derivatives of order {order} need C^{needed}" + (
        " in the weak form" if form != "strong" else ""
    )
    parts = [f"{name} {is_like} (its derivative {max(int(smoothness) + 1, 0)} jumps at {_kinks(facts)}); {asked}."]
    if order >= 2 and vanishes(facts, 2):
        parts.append(
            f"A net of {name} is piecewise linear: its derivatives of order 2 and more are 0 almost everywhere, and so "
            "is their gradient with respect to every parameter"
            + ("." if hard else ": these terms teach the net nothing.")
        )
    elif vanishes(facts, order):
        parts.append(f"The derivative of order {order} of {name} is 0 almost everywhere.")
    if hard:
        parts.append(
            "With hard conditions u = g + φN the product rule leaves φ''N + 2φ'N': the loss falls and looks alive, "
            "while the solution is wrong."
        )
    remedy = f"Use {SMOOTH}"
    if form == "strong" and smoothness >= math.ceil(order / 2) - 1 and order <= 2:
        remedy += ', or the weak form (form="weak", energy=...), for which derivatives of order 1 are enough'
    return " ".join([*parts, remedy + "."])


def vanishes(facts: Facts, order: int) -> bool:
    """Whether the derivative of this order is proved to be 0 wherever it exists."""
    bounds = facts.derivative_bounds
    if order >= len(bounds):
        return False
    return float(bounds[order].infimum.lower) == 0 == float(bounds[order].supremum.upper)


def _kinks(facts: Facts) -> str:
    places: Sequence[float] = [k.location.middle for k in facts.kinks][:3]
    return ", ".join(f"{p:.4g}" for p in places) or "a point"


def check_floating(what: str, x: object) -> None:
    """Refuse what is no floating-point tensor.

    Raises:
        TypeError: naming it.
    """
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{what} must be a tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"{what} must be floating-point, got {x.dtype}; convert with .double()")
