"""Worst error, in units in the last place, of every activation of the catalogue and of its slope, varphi beside torch.

    python benchmarks/accuracy.py [--dtype float32] [NAME ...]

The reference is ball arithmetic; `mixed` forgives one ulp of the input (see `varphi.facts.accuracy.Accuracy`).
"""

from __future__ import annotations

import argparse
import time

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

import varphi as vp
from varphi.facts.accuracy import Accuracy, accuracy, torch_accuracy


def rows(names: list[str], dtype: torch.dtype) -> list[tuple[Accuracy, Accuracy | None]]:
    found = []
    for name in track(names, description=str(dtype), transient=True):
        definition = vp.get(name).definition
        for derivative in (0, 1):
            peer = torch_accuracy(name, dtype, derivative) if definition.torch else None
            found.append((accuracy(name, dtype, derivative), peer))
    return sorted(found, key=lambda pair: -pair[0].ulps)


def table(found: list[tuple[Accuracy, Accuracy | None]]) -> Table:
    result = Table(
        "activation", "worst ulp", "mixed", "at x", "computed", "exact", "route", "torch ulp", "at", "faults"
    )
    for ours, peer in found:
        result.add_row(
            ours.name + "'" * ours.derivative,
            f"{ours.ulps:.3g}",
            f"{ours.mixed_ulps:.3g}",
            f"{ours.x:.9g}",
            f"{ours.computed:.7g}",
            f"{ours.exact:.7g}",
            ours.route,
            f"{peer.ulps:.3g}" if peer else "",
            f"{peer.x:.7g}" if peer else "",
            "; ".join(ours.faults),
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="activations; all if none is given")
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64", "bfloat16", "float16"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = rows(arguments.names or vp.names(), getattr(torch, arguments.dtype))
    console = Console(width=None if Console().is_terminal else 160)
    console.print(table(found))
    good = sum(ours.ulps <= 8 for ours, _ in found)
    console.print(f"{good} of {len(found)} within 8 ulp; {time.process_time():.0f} s of one core")


if __name__ == "__main__":
    main()
