"""Replicas of an MLP trained at once, against a Python loop and against torch.func's stacked vmap.

    python benchmarks/replicate.py [--quick] [--seeds 32 256]

A step is forward, cross-entropy, backward and the update of plain SGD, for every replica on data of its own: MLP
64-32-32-10 with tanh, batch 32. One thread, one process, interleaved in turns of a tenth of a second after a warm-up.
Printed are the medians, the ratio of the loop's to each with its quartiles over rounds, and the largest difference of
any weight from the loop's after the same steps. The floor is the eight batched products of a step and nothing else: no
bias, activation, loss or update. Goals: 12 × the loop and 2.5 × vmap for 32 replicas, 15 × the loop for 256.
"""

from __future__ import annotations

import argparse
import copy
import math
import random
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from varphi.study import replicate
from varphi.study.optimisers import SGD

INPUTS, HIDDEN, CLASSES, BATCH, RATE = 64, 32, 10, 32, 0.01
# Seconds that a piece of work runs before the next has its turn.
TURN = 0.1


def model() -> nn.Module:
    return nn.Sequential(
        *(nn.Linear(INPUTS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, CLASSES))
    )


def alone(seeds: int) -> list[nn.Module]:
    models = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        models.append(model())
    return models


Weights = Callable[[], dict[str, Tensor]]


def python_loop(seeds: int, x: Tensor, y: Tensor) -> tuple[Callable[[], None], Weights]:
    models = alone(seeds)
    optimisers = [torch.optim.SGD(m.parameters(), RATE) for m in models]

    def step() -> None:
        for m, optimiser, a, b in zip(models, optimisers, x, y, strict=True):
            optimiser.zero_grad()
            F.cross_entropy(m(a), b).backward()
            optimiser.step()

    return step, lambda: {n: torch.stack([m.get_parameter(n) for m in models]) for n, _ in models[0].named_parameters()}


def stacked_vmap(seeds: int, x: Tensor, y: Tensor) -> tuple[Callable[[], None], Weights]:
    models = alone(seeds)
    base = copy.deepcopy(models[0]).to("meta")
    stacked, _ = stack_module_state(models)
    state = {"weights": {n: p.detach().clone() for n, p in stacked.items()}}
    gradient = vmap(grad(lambda weights, a, b: F.cross_entropy(functional_call(base, weights, (a,)), b)))

    def step() -> None:
        gradients = gradient(state["weights"], x, y)
        state["weights"] = {n: w - RATE * gradients[n] for n, w in state["weights"].items()}

    return step, lambda: state["weights"]


def replicas(
    seeds: int, x: Tensor, y: Tensor, optimiser: type[torch.optim.Optimizer]
) -> tuple[Callable[[], None], Weights]:
    together = replicate(model, seeds)
    sgd = optimiser(together.parameters(), lr=RATE)

    def step() -> None:
        sgd.zero_grad()
        # Classes are torch's second dimension here; the mean over all, times the replicas, sums the replicas' losses.
        loss = F.cross_entropy(together(x, each=True).mT, y) * seeds
        loss.backward()
        sgd.step()

    return step, lambda: dict(together.stacked.named_parameters())


def floor(seeds: int, x: Tensor) -> Callable[[], None]:
    first, second, third = (
        torch.randn(seeds, m, n) for m, n in ((HIDDEN, INPUTS), (HIDDEN, HIDDEN), (CLASSES, HIDDEN))
    )

    def step() -> None:
        h = torch.bmm(first, x.mT)
        k = torch.bmm(second, h)
        z = torch.bmm(third, k)
        torch.bmm(z, k.mT)
        d = torch.bmm(third.mT, z)
        torch.bmm(d, h.mT)
        e = torch.bmm(second.mT, d)
        torch.bmm(e, x)

    return step


def medians(work: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of this thread a step, interleaved in turns of equal length, each round in an order of its own.

    Not of the clock: on a shared machine a long piece of work is interrupted and a short one is not.
    """
    shuffled, order = random.Random(0), list(work.items())
    steps = {}
    for name, step in order:
        start = time.thread_time()
        for _ in range(5):
            step()
        steps[name] = math.ceil(TURN / (time.thread_time() - start) * 5)
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        shuffled.shuffle(order)
        for name, step in order:
            start = time.thread_time()
            for _ in range(steps[name]):
                step()
            times[name].append((time.thread_time() - start) / steps[name])
    return times


def compare(seeds: int, rounds: int) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(seeds, BATCH, INPUTS, generator=generator)
    y = torch.randint(CLASSES, (seeds, BATCH), generator=generator)
    loop, of_loop = python_loop(seeds, x, y)
    peers = {
        "torch.func vmap": stacked_vmap(seeds, x, y),
        "replicate, varphi's SGD": replicas(seeds, x, y, SGD),
        "replicate, torch's SGD": replicas(seeds, x, y, torch.optim.SGD),
    }
    work = {"Python loop": loop, **{name: step for name, (step, _) in peers.items()}, "floor": floor(seeds, x)}
    for step in work.values():
        for _ in range(5):
            step()
    expected = of_loop()
    differences = {
        name: max((w - expected[n]).abs().max().item() for n, w in weights().items())
        for name, (_, weights) in peers.items()
    }
    times = medians(work, rounds)
    middle = {name: statistics.median(t) for name, t in times.items()}
    print(f"\n{seeds} replicas: ms a step, the loop's time over it [quartiles], its time over the floor's, difference")
    for name, t in times.items():
        ratios = sorted(a / b for a, b in zip(times["Python loop"], t, strict=True))
        low, high = ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]
        difference = f"{differences[name]:.1e}" if name in differences else ""
        print(
            f"{name:26s}{1e3 * middle[name]:9.3f}{middle['Python loop'] / middle[name]:8.1f} × [{low:.1f}, {high:.1f}]"
            f"{middle[name] / middle['floor']:8.1f} {difference:>10s}",
            flush=True,
        )
    ours = middle["replicate, varphi's SGD"]
    print(f"vmap takes {middle['torch.func vmap'] / ours:.2f} times as long as replicate with varphi's SGD")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a third of the rounds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[32, 256])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, one thread, MLP {INPUTS}-{HIDDEN}-{HIDDEN}-{CLASSES} tanh, batch {BATCH}")
    for seeds in options.seeds:
        compare(seeds, 5 if options.quick else 15)


if __name__ == "__main__":
    main()
