"""Kernels against torch: all derivatives in one pass, and forward and backward of what torch also has.

    python benchmarks/kernels.py [--quick] [--threads N]

One process, interleaved, after a warm-up; ratios of medians (below 1: varphi is faster), the spread over rounds, and
the agreement of the results. Three tables:

1. f, f', ..., f⁗ of every smooth entry at 2^20 float32, against five clones of the input (the floor: writing the
   outputs) and against nested `autograd.grad`.
2. Forward and backward of every entry that torch.nn has, at 2^12, 2^16 and 2^20.
3. The first call of an entry, compiling included, with an empty cache.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import torch
from torch import Tensor

import varphi as vp

SIZES = (2**12, 2**16, 2**20)


def medians(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Times of each piece of work, in seconds, interleaved: one of each a round.

    Each round has an order of its own, since every piece leaves its data in the cache for the next.
    """
    shuffled, order = random.Random(0), list(work.items())
    for piece in work.values():
        for _ in range(3):
            piece()
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        shuffled.shuffle(order)
        for name, piece in order:
            start = time.perf_counter()
            piece()
            times[name].append(time.perf_counter() - start)
    return times


def ratio(times: dict[str, list[float]], ours: str, theirs: str) -> tuple[float, float, float]:
    """The ratio of medians, and the quartiles of the ratio round by round."""
    rounds = sorted(a / b for a, b in zip(times[ours], times[theirs], strict=True))
    n = len(rounds)
    return statistics.median(times[ours]) / statistics.median(times[theirs]), rounds[n // 4], rounds[3 * n // 4]


def nested(f: Callable[[Tensor], Tensor], x: Tensor, order: int) -> Tensor:
    x = x.clone().requires_grad_()
    y = f(x)
    rows = [y]
    for _ in range(order):
        (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        rows.append(y)
    return torch.stack([r.detach() for r in rows])


def by_operations(activation: vp.Activation) -> Callable[[Tensor], Tensor]:
    """The activation as plain torch operations, which autograd differentiates step by step."""
    from varphi.activation import backend

    return lambda x: backend.by_operations(activation.formula, x, activation.arguments())


def towers(names: list[str], rounds: int) -> None:
    print(
        "\n1. f..f⁗ at 2^20 float32 from N(0, 1): ratio to five clones (goal 1.5); "
        "nested autograd over ours at 2^17 (goal 20)"
    )
    print(f"{'entry':28s} {'/ 5 clones':>22s} {'nested / ours':>14s} {'largest difference':>19s}")
    x = torch.randn(2**20)
    to_clones, to_nested = [], []
    for name in names:
        f = vp.get(name)
        slow = by_operations(f)
        try:
            exact = nested(slow, x[:4096].double(), 4)
        except RuntimeError:
            exact = torch.stack([r.expand(4096) for r in f.derivatives(x[:4096].double(), 4)])
        got = vp.derivatives(f, x[:4096], 4).double()
        scale = exact.abs().amax(dim=1, keepdim=True).clamp(min=1.0)
        difference = ((got - exact).abs() / scale).nan_to_num(0).max().item()
        times = medians(
            {"ours": lambda f=f: f.derivatives(x, 4), "clones": lambda: [x.clone() for _ in range(5)]}, rounds
        )
        middle, low, high = ratio(times, "ours", "clones")
        to_clones.append(middle)
        try:
            # On an eighth of the points: some graphs of graphs hold thousands of tensors.
            part = x[: 2**17]
            times = medians(
                {"nested": lambda s=slow, p=part: nested(s, p, 4), "ours": lambda f=f, p=part: f.derivatives(p, 4)}, 3
            )
            to_nested.append(ratio(times, "nested", "ours")[0])
        except RuntimeError:
            to_nested.append(float("nan"))
        print(f"{name:28s} {middle:8.2f} [{low:.2f}, {high:.2f}] {to_nested[-1]:14.1f} {difference:19.1e}", flush=True)
    finite = [v for v in to_nested if v == v]
    print(
        f"median entry: {statistics.median(to_clones):.2f} × five clones; "
        f"nested autograd takes {statistics.median(finite):.1f} times as long ({len(names)} smooth entries)"
    )


def against_torch(names: list[str], rounds: int) -> None:
    print(
        "\n2. varphi / torch.nn, float32 from N(0, 1): ratio of medians "
        "(goal: median 0.95 at 2^16 and 2^20, none over 1.2 at 2^12)"
    )
    head = "".join(f"{f'fwd 2^{n.bit_length() - 1}':>10s}{f'bwd 2^{n.bit_length() - 1}':>10s}" for n in SIZES)
    print(f"{'entry':20s}{head}{'difference':>12s}")
    columns: dict[tuple[str, int], list[float]] = {}
    for name in names:
        ours = vp.get(name)
        theirs = getattr(torch.nn, str(ours.definition.torch))()
        cells, difference = [], 0.0
        for size in SIZES:
            x = torch.randn(size)
            leaf, grad = x.clone().requires_grad_(), torch.randn(size)
            y, z = ours(leaf), theirs(leaf)
            difference = max(difference, (y - z).abs().max().item())
            times = medians(
                {
                    "ours": lambda o=ours, x=x: o(x),
                    "theirs": lambda t=theirs, x=x: t(x),
                    "ours back": lambda y=y, v=leaf, g=grad: torch.autograd.grad(y, v, g, retain_graph=True),
                    "theirs back": lambda z=z, v=leaf, g=grad: torch.autograd.grad(z, v, g, retain_graph=True),
                },
                rounds * (4 if size < 2**20 else 1),
            )
            for label, a, b in (("fwd", "ours", "theirs"), ("bwd", "ours back", "theirs back")):
                cells.append(ratio(times, a, b)[0])
                columns.setdefault((label, size), []).append(cells[-1])
        print(f"{name:20s}" + "".join(f"{c:10.2f}" for c in cells) + f"{difference:12.1e}", flush=True)
    medians_ = [statistics.median(columns[label, size]) for size in SIZES for label in ("fwd", "bwd")]
    print(f"{'median':20s}" + "".join(f"{m:10.2f}" for m in medians_))
    print(
        f"{'largest':20s}" + "".join(f"{max(columns[label, size]):10.2f}" for size in SIZES for label in ("fwd", "bwd"))
    )


FIRST = """
import time, torch, varphi as vp
vp.get("relu")(torch.randn(64))
for name in {names!r}:
    f, x = vp.get(name), torch.randn(4096)
    start = time.perf_counter(); f(x); one = time.perf_counter() - start
    start = time.perf_counter(); f.derivatives(x, 4); print(name, one, time.perf_counter() - start)
"""


def first_calls(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for _ in range(2):
            done = subprocess.run(
                [sys.executable, "-c", FIRST.format(names=names)],
                env=os.environ | {"VARPHI_CACHE_DIR": folder},
                capture_output=True,
                text=True,
                check=True,
            )
            rows.append([list(map(float, line.split()[1:])) for line in done.stdout.splitlines()])
    print("\n3. First call of an entry in ms: median and largest (goal 2000)")
    for title, table in zip(("empty cache", "from the cache"), rows, strict=True):
        for label, column in (("forward", 0), ("f..f⁗", 1)):
            values = [1e3 * row[column] for row in table]
            print(f"{title:16s} {label:8s} {statistics.median(values):8.1f} {max(values):8.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the entries and rounds")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    step, rounds = (10, 5) if options.quick else (1, 15)
    names = vp.names()
    smooth = [n for n in names if vp.facts(n).smoothness == float("inf")]
    # Threshold has no defaults in torch.nn.
    with_torch = [n for n in names if vp.get(n).definition.torch not in (None, "Threshold")]
    print(
        f"torch {torch.__version__}, {options.threads} thread(s), {len(names)} entries, "
        f"{len(smooth)} smooth, {len(with_torch)} in torch.nn"
    )
    against_torch(with_torch[::step] if options.quick else with_torch, rounds)
    towers(smooth[::step], rounds)
    first_calls(smooth[::step])


if __name__ == "__main__":
    main()
