"""The models that are to be stacked: seeds, initial weights, activations."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from varphi.activation.layer import Activation
from varphi.activation.lookup import ActivationLike, as_activation
from varphi.activation.swapping import swap
from varphi.activation.uses import activations_in

from .module import Replicas


def built(
    module: nn.Module | Callable[[], nn.Module],
    seeds: int | Iterable[int],
    activations: Iterable[ActivationLike] | None,
    instead_of: ActivationLike | None,
) -> Replicas:
    """See `replicate`."""
    numbers = _seeds(seeds)
    chosen = _activations(activations)
    if instead_of is not None and chosen is None:
        raise TypeError("instead_of says what `activations` replace, but none are given")
    models = list(_models(module, numbers))
    _check_alike(models)
    first = models[0]
    if chosen is None:
        return Replicas(first, models, numbers, None, [first])
    old = _replaced(first) if instead_of is None else instead_of
    return Replicas(first, models, numbers, (old, chosen), [swap(first, old, new) for new in chosen])


def _seeds(seeds: int | Iterable[int]) -> tuple[int, ...]:
    numbers = tuple(range(seeds)) if isinstance(seeds, int) and not isinstance(seeds, bool) else seeds
    if isinstance(numbers, (bool, str)) or not isinstance(numbers, Iterable):
        raise TypeError(f"seeds is their number or a sequence of whole numbers, got {seeds!r}")
    numbers = tuple(numbers)
    if any(isinstance(n, bool) or not isinstance(n, int) for n in numbers):
        raise TypeError(f"seeds are whole numbers, got {numbers!r}")
    if not numbers:
        raise ValueError(f"at least one seed is needed, got seeds={seeds!r}")
    twice = sorted({n for n in numbers if numbers.count(n) > 1})
    if twice:
        raise ValueError(f"each seed is one replica; given twice: {', '.join(map(str, twice))}")
    return numbers


def _activations(activations: Iterable[ActivationLike] | None) -> list[Activation] | None:
    if activations is None:
        return None
    if isinstance(activations, (str, nn.Module)):
        raise TypeError(f"activations is a list of activations, got one: {activations!r}; write [{activations!r}]")
    chosen = [as_activation(a) for a in activations]
    if not chosen:
        raise ValueError("activations is empty; leave it out to keep the model's own")
    for activation in chosen:
        if activation.learn:
            raise ValueError(
                f"{activation!r} has parameters to learn, which not every replica would have; put it into the model "
                "itself, and replicate that"
            )
    return chosen


def _replaced(model: nn.Module) -> str:
    """The one activation of the model."""
    uses = activations_in(model)
    found = {use.activation for use in uses}
    if len(found) == 1:
        return found.pop()
    listing = f":\n{uses!r}" if uses else ""
    raise ValueError(
        f"the model has {len(found)} kinds of activations, so it is not clear what `activations` replace; name it with "
        f"instead_of=...{listing}"
    )


# Initial weights ------------------------------------------------------------------------------------------------------


def _models(module: Any, seeds: tuple[int, ...]) -> Iterator[nn.Module]:
    """The model of each seed."""
    if isinstance(module, nn.Module):
        _check_can_be_reset(module)
    elif not callable(module):
        raise TypeError(f"a model or a function that builds one is needed, got {type(module).__name__}: {module!r}")
    for seed in seeds:
        with _seeded(seed):
            yield _reset(copy.deepcopy(module)) if isinstance(module, nn.Module) else _made(module)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(list(range(torch.cuda.device_count()))):
        torch.manual_seed(seed)
        yield


def _made(factory: Callable[[], Any]) -> nn.Module:
    model = factory()
    if not isinstance(model, nn.Module):
        raise TypeError(f"the function that builds the model gave {type(model).__name__}, not a torch.nn.Module")
    return model


def _own_tensors(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_parameters(recurse=False)]


def _check_can_be_reset(model: nn.Module) -> None:
    for path, module in model.named_modules():
        if not _own_tensors(module) or isinstance(module, Activation) or _can_reset(module):
            continue
        raise ValueError(
            f"{path or 'the model'} ({type(module).__name__}) has parameters of its own "
            f"({', '.join(_own_tensors(module))}) but no reset_parameters(), so they cannot be drawn anew for each "
            "seed; give a function that builds the model, for example its class"
        )


def _can_reset(module: nn.Module) -> bool:
    return callable(getattr(module, "reset_parameters", None))


@torch.no_grad()
def _reset(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, Activation):
            fresh = Activation(module.definition, module.values, module.learn)
            for name, p in module.named_parameters(recurse=False):
                p.copy_(fresh.get_parameter(name))
        elif _can_reset(module):
            module.reset_parameters()  # type: ignore[operator]
    return model


def _check_alike(models: list[nn.Module]) -> None:
    """Raise unless all models have the same tensors."""
    for name, p in models[0].named_parameters():
        if is_lazy(p):
            raise ValueError(f"{name} is not made before the first input: give its layer its size")
    shapes = [{n: (tuple(t.shape), t.dtype) for n, t in m.state_dict(keep_vars=True).items()} for m in models]
    for other in shapes[1:]:
        if other != shapes[0]:
            name = next(n for n in {**shapes[0], **other} if shapes[0].get(n) != other.get(n))
            raise ValueError(
                f"the models of different seeds are not alike: {name} is {shapes[0].get(name)} in one and "
                f"{other.get(name)} in another; the function must build the same layers each time"
            )
