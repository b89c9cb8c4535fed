"""Random circuits of a feed-forward loop's size: what topology does is what they do not."""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float

from .circuit import Circuit, Gate, Gene, Regulation

INPUT, MIDDLE, OUTPUT = "X", "Y", "Z"
_PAIRS = tuple(pair for pair in itertools.product((INPUT, MIDDLE, OUTPUT), (MIDDLE, OUTPUT)))
REGULATIONS = 3


def random_circuit(random: np.random.Generator, gate: Gate, n: float) -> Circuit:
    """Two genes, Y and Z, and three regulations by the input X and each other, with random signs.

    All sets of three different regulations by which X reaches Z, self-regulation included, are as likely; the eight
    feed-forward loops are among them.
    """
    while True:
        chosen = [_PAIRS[i] for i in random.choice(len(_PAIRS), REGULATIONS, replace=False)]
        signs = random.choice([1, -1], REGULATIONS).tolist()
        if (INPUT, OUTPUT) in chosen or ((INPUT, MIDDLE) in chosen and (MIDDLE, OUTPUT) in chosen):
            edges = dict(zip(chosen, signs, strict=True))
            genes = {
                gene: Gene(tuple(Regulation(s, sign, 1.0, n) for (s, t), sign in edges.items() if t == gene), gate)
                for gene in (MIDDLE, OUTPUT)
            }
            return Circuit(genes, {INPUT: 1.0})


def share_between(shares: Float[np.ndarray, " circuits"], sets: int) -> float:
    """Which part of the variance of yes or no lies between circuits, of shares over `sets` parameter sets each.

    1 if the circuit decides, 0 if only parameters do; without the bias of few sets (analysis of variance), so that a
    small negative number can come out where nothing depends on the circuit. NaN where all answer alike.
    """
    within = float((shares * (1 - shares)).mean()) * sets / (sets - 1)
    between = float(shares.var(ddof=1)) - within / sets
    total = between + within
    return between / total if total > 0 else float("nan")
