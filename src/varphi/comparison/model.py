"""The user's own model: made anew for each seed, with one of its activations exchanged."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

from varphi.activation.definition import Definition, Evaluation
from varphi.activation.layer import Activation
from varphi.activation.lookup import ActivationLike
from varphi.activation.registry import find
from varphi.activation.swapping import NothingToSwap, swap
from varphi.activation.uses import Use, Uses, activations_in, catalogued, check_model
from varphi.numbers import Expression

from .candidates import Candidate

# A module, of which every seed gets a copy with new weights, or a function that makes one.
ModelLike: TypeAlias = "nn.Module | Callable[[], nn.Module]"


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Python's, NumPy's and torch's random numbers from a seed while the block runs; after it they go on as before."""
    python, numpy_ = random.getstate(), np.random.get_state()  # noqa: NPY002 (the user's training may draw from it)
    with forked():
        _seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy_)  # noqa: NPY002


def forked() -> AbstractContextManager[None]:
    """torch's random numbers go on after the block as before it, on every device."""
    return torch.random.fork_rng(devices=range(torch.cuda.device_count()))


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


@dataclass(frozen=True)
class Source:
    """Where models come from.

    Attributes:
        model: a module or a factory.
        replaced: the activation that is exchanged, by its label among the model's uses; "" until it is known.
        inputs: arguments for one call of the model, where its forward cannot be read without running it.
    """

    model: ModelLike
    replaced: str = ""
    inputs: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        """The class of the model, or the name of the factory."""
        if isinstance(self.model, nn.Module):
            return type(self.model).__name__
        return getattr(self.model, "__name__", type(self.model).__name__)

    def fresh(self, seed: int) -> nn.Module:
        """A model with the initial weights of a seed; call it inside `seeded`.

        Raises:
            TypeError: where the factory makes no module.
            ValueError: where a module with parameters cannot be initialised again.
        """
        _seed(seed)
        if not isinstance(self.model, nn.Module):
            made = self.model()
            if not isinstance(made, nn.Module):
                raise TypeError(f"the factory {self.name} must return a torch.nn.Module, got {type(made).__name__}")
            return made
        model = copy.deepcopy(self.model)
        # Children first: what holds them may have its own way of initialising them (nn.MultiheadAttention has).
        for path, module in reversed(list(model.named_modules())):
            _initialise(path, module)
        return model

    def uses(self) -> Uses:
        """The activations of the model."""
        with seeded(0):
            model = self.fresh(0)
            check_model(model)
            return activations_in(model, *self.inputs)

    def with_candidate(self, candidate: Candidate, seed: int) -> nn.Module:
        """A fresh model with a candidate where its own activation was; call it inside `seeded`.

        Random numbers start from the seed again afterwards: a training draws the same for every candidate.

        Raises:
            NothingToSwap, ValueError: as `vp.swap`.
        """
        model = self.fresh(seed)
        if candidate.activation is None:
            model = _with_visible_calls(model, self.replaced, self.inputs)
        else:
            model = swap(model, self._pattern(model), candidate.activation, inputs=self.inputs)
        _seed(seed)
        return model

    def _pattern(self, model: nn.Module) -> ActivationLike:
        """What `vp.swap` is to look for: a name with any parameters, or the formula of what has no name."""
        if find(self.replaced) is not None:
            return self.replaced
        uses = (use for use in activations_in(model, *self.inputs) if use.activation == self.replaced)
        return next((_layer(use.activation, use.formula) for use in uses if use.formula is not None), self.replaced)


def _layer(label: str, formula: Expression) -> Activation:
    return Activation(Definition(label, Evaluation(formula)))


def _initialise(path: str, module: nn.Module) -> None:
    """Give a module new weights, as it got its first ones."""
    if isinstance(module, Activation):
        module.load_state_dict(Activation(module.definition, module.values, module.learn).state_dict())
        return
    reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
    if callable(reset):
        reset()
    elif next(module.parameters(recurse=False), None) is not None:
        raise ValueError(
            f"{path or 'the model'} ({type(module).__name__}) has parameters but no reset_parameters(), so a seed "
            "cannot give it new ones; pass a factory, a function without arguments that makes the model"
        )


def chosen_use(uses: Uses, asked: str | None) -> str:
    """The label of the activation that is to be exchanged.

    Raises:
        ValueError: where there is none, several among which nothing chooses, or not the one that was asked for.
    """
    counts: dict[str, int] = {}
    for use in uses:
        counts[use.activation] = counts.get(use.activation, 0) + 1
    told = ", ".join(f"{label} ({count}×)" for label, count in counts.items())
    if not counts:
        raise ValueError(
            "no activation was found in the model. If its forward cannot be read without running it, pass an example "
            "to run it on: inputs=(x,). `vp.activations_in(model, x)` shows what is seen"
        )
    if asked is not None:
        known = find(asked)
        name = known.name if known else asked
        if name not in counts:
            raise ValueError(f"the model has no activation {asked!r} to replace; it has {told}")
        return name
    if len(counts) > 1:
        raise ValueError(
            f"the model has several activations: {told}; say which is exchanged: replace={next(iter(counts))!r}"
        )
    return next(iter(counts))


def own_label(uses: Iterable[Use]) -> str:
    """How the model's own activation is called: "(own)" marks other parameters than the default ones."""
    uses = tuple(uses)
    name = uses[0].activation
    usual = find(name)
    varied = usual is not None and any(u.formula is not None and catalogued(u.formula) != usual.name for u in uses)
    return f"{name} (own)" if varied else name


# The model's own activation as it is watched --------------------------------------------------------------------------


def _with_visible_calls(model: nn.Module, label: str, inputs: tuple[Any, ...]) -> nn.Module:
    """The model with its own activation; calls of it run as varphi's layers of the same formula.

    Calls cannot be watched otherwise, and they cost the same in every candidate so. Modules stay what they are.
    """
    uses = [use for use in activations_in(model, *inputs) if use.activation == label]
    formulas = dict.fromkeys(use.formula for use in uses if use.formula is not None and not _is_module(model, use))
    for formula in formulas:
        same = _layer(label, formula)
        # A call that was only read by its name may be of another formula; it stays as it is, and is not seen.
        with suppress(NothingToSwap):
            model = swap(model, same, same, inputs=inputs)
    return model


def _is_module(model: nn.Module, use: Use) -> bool:
    """Whether a use is a module of its own, not a call, or a function that a module holds."""
    return use.place == "module" and use.path in dict(model.named_modules(remove_duplicate=False))
