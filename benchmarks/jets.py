"""Derivatives of whole models: a training step on an operator, against nested automatic differentiation.

    python benchmarks/jets.py [--rounds N] [--threads N]

One process, interleaved, after a warm-up: each round runs every method once. A step is value, operator, loss and the
gradient by all parameters, of a tanh network with four hidden layers of 64. Printed are medians, ratios of medians
("times nested" above 1: varphi is faster) with the quartiles over rounds, the peak of what torch allocates, the first
call with an empty cache of kernels, and the agreement with nested differentiation in float64. "products" is the floor:
the matrix products that any method with as many channels does. DeepXDE is measured too where it is installed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

import varphi as vp

Step = Callable[[], tuple[Tensor, ...]]
# Name, inputs, samples, how often the Laplacian is applied, channels, goal (times nested), goal (MiB).
CASES = (
    ("Laplacian, d = 2", 2, 4096, 1, 4, 2.0, 31),
    ("Laplacian, d = 10", 10, 1024, 1, 12, 3.0, None),
    ("bilaplacian, d = 2", 2, 1024, 2, 9, 7.0, 20),
)


def network(d: int, dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs, outputs in ((d, 64), (64, 64), (64, 64), (64, 64)):
        layers += [nn.Linear(inputs, outputs), vp.get("tanh")]
    return nn.Sequential(*layers, nn.Linear(64, 1)).to(dtype)


def nested_laplacian(u: Tensor, x: Tensor) -> Tensor:
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    columns = [torch.autograd.grad(slope[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(x.shape[1])]
    return torch.stack(columns).sum(0)[:, None]


def nested(net: nn.Module, x: Tensor, power: int) -> Tensor:
    x = x.clone().requires_grad_()
    u = net(x)
    for _ in range(power):
        u = nested_laplacian(u, x)
    return u


def ours(net: nn.Module, x: Tensor, power: int) -> Tensor:
    return (vp.laplacian if power == 1 else vp.bilaplacian)(net, x)[1]


def gradients(operator: Callable[..., Tensor], net: nn.Module, x: Tensor, power: int) -> tuple[Tensor, ...]:
    loss = (operator(net, x, power) + 1).square().mean()
    return torch.autograd.grad(loss, list(net.parameters()), allow_unused=True, materialize_grads=True)


def products(channels: int, samples: int, dtype: torch.dtype) -> Step:
    """Three products a hidden layer: forwards, and backwards to the layer's input and to its weight."""
    a, w = torch.randn(channels * samples, 64, dtype=dtype), torch.randn(64, 64, dtype=dtype)

    def step() -> tuple[Tensor, ...]:
        for _ in range(3):
            a @ w, a @ w.T, a.T @ a
        return ()

    return step


def deepxde_step(net: nn.Sequential, x: Tensor, power: int) -> Step | None:
    os.environ.setdefault("DDE_BACKEND", "pytorch")
    try:
        import deepxde as dde
    except ImportError:
        return None
    peer = dde.nn.FNN([x.shape[1], 64, 64, 64, 64, 1], "tanh", "Glorot normal").to(x.dtype)
    with torch.no_grad():
        for mine, theirs in zip((m for m in net if isinstance(m, nn.Linear)), peer.linears, strict=True):
            theirs.weight.copy_(mine.weight)
            theirs.bias.copy_(mine.bias)

    def operator(model: nn.Module, at: Tensor, power: int) -> Tensor:
        at = at.clone().requires_grad_()
        u = model(at)
        for _ in range(power):
            dde.grad.clear()
            u = sum(dde.grad.hessian(u, at, i=i, j=i) for i in range(at.shape[1]))
        dde.grad.clear()
        return u

    return lambda: gradients(operator, peer, x, power)


def peak(step: Step) -> float:
    """MiB that torch's allocations reach during a step."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        result = step()
        del result
    assert recorded.profiler is not None
    events = recorded.profiler.kineto_results.events()
    now = most = 0
    for _, change in sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"):
        now += change
        most = max(most, now)
    return most / 2**20


def case(name: str, d: int, samples: int, power: int, channels: int, dtype: torch.dtype, rounds: int) -> None:
    net = network(d, dtype)
    x = torch.rand(samples, d, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(dtype)
    work: dict[str, Step] = {
        "varphi": lambda: gradients(ours, net, x, power),
        "nested": lambda: gradients(nested, net, x, power),
        "plain": lambda: torch.autograd.grad(net(x).square().mean(), list(net.parameters())),
        "products": products(channels, samples, dtype),
    }
    peer = deepxde_step(net, x, power)
    if peer is not None:
        work["DeepXDE"] = peer
    for step in work.values():
        step()
        step()
    times: dict[str, list[float]] = {key: [] for key in work}
    for _ in range(rounds):
        for key, step in work.items():
            start = time.perf_counter()
            step()
            times[key].append(time.perf_counter() - start)
    middle = {key: statistics.median(t) for key, t in times.items()}
    ratios = sorted(b / a for a, b in zip(times["varphi"], times["nested"], strict=True))
    values = " ".join(f"{key} {1e3 * t:.1f}" for key, t in middle.items())
    low, high = ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]
    memory = f"{peak(work['varphi']):.0f} MiB, nested {peak(work['nested']):.0f}"
    print(
        f"{name:20s} {str(dtype).removeprefix('torch.'):8s} ms: {values} | times nested "
        f"{middle['nested'] / middle['varphi']:.2f} [{low:.2f}, {high:.2f}], over plain "
        f"{middle['varphi'] / middle['plain']:.1f}, over products {middle['varphi'] / middle['products']:.1f} | "
        f"{memory} | {agreement(net, x, power)}",
        flush=True,
    )


def agreement(net: nn.Sequential, x: Tensor, power: int) -> str:
    """The relative difference of values and of gradients from nested differentiation in float64."""
    wide = network(x.shape[1], torch.float64)
    wide.load_state_dict(net.state_dict())
    exact = nested(wide, x.double(), power)
    value = (ours(net, x, power).double() - exact).norm() / exact.norm()
    pairs = zip(gradients(ours, net, x, power), gradients(nested, wide, x.double(), power), strict=True)
    difference, scale = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for mine, theirs in pairs:
        difference += (mine.double() - theirs).square().sum()
        scale += theirs.square().sum()
    return f"differences {value:.1e}, gradients {(difference / scale).sqrt():.1e}"


FIRST = """
import time, torch, varphi as vp
sys_path = {path!r}
import sys; sys.path.insert(0, sys_path)
from jets import network, gradients, ours
net, x = network(2, torch.float32), torch.rand(64, 2)
start = time.perf_counter(); gradients(ours, net, x, {power}); print(time.perf_counter() - start)
"""


def first_call() -> None:
    for power, name in ((1, "Laplacian"), (2, "bilaplacian")):
        with tempfile.TemporaryDirectory() as folder:
            code = FIRST.format(path=os.path.dirname(os.path.abspath(__file__)), power=power)
            found = [
                float(
                    subprocess.run(
                        [sys.executable, "-c", code],
                        env=os.environ | {"VARPHI_CACHE_DIR": folder},
                        capture_output=True,
                        text=True,
                        check=True,
                    ).stdout
                )
                for _ in range(2)
            ]
        print(f"first training step with a {name}: {found[0]:.2f} s with an empty cache, {found[1]:.2f} s after that")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} thread(s), medians of {options.rounds} rounds")
    for dtype in (torch.float32, torch.float64):
        for name, d, samples, power, channels, goal, _ in CASES:
            case(f"{name} (>= {goal:g})", d, samples, power, channels, dtype, options.rounds)
    first_call()


if __name__ == "__main__":
    main()
