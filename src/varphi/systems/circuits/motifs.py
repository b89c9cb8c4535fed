"""Feed-forward loops in a real regulatory network: counted by type, and compared with random networks.

The random networks come from the given one by switching: two edges of the same sign exchange their targets. So every
gene keeps how many activating and repressing edges it has, in and out, and what is left is how they are arranged (Milo
et al., Science 298 (2002) 824; with signs as by Mangan & Alon, PNAS 100 (2003) 11980).
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from numba import njit, uint64

from .circuit import FFL

_SIGNS = {
    "+": 1, "1": 1, "+1": 1, "activation": 1, "activates": 1, "activator": 1, "positive": 1,
    "-": -1, "-1": -1, "2": -1, "repression": -1, "represses": -1, "repressor": -1, "inhibition": -1, "negative": -1,
    "+-": 0, "-+": 0, "±": 0, "3": 0, "dual": 0, "?": 0, "0": 0, "unknown": 0,
}  # fmt: skip
_MOST_GENES = 20_000
# Signs of X → Y, X → Z, Y → Z as one number: activates 0, represses 1.
_TYPES = {sum((1 - s) // 2 << (2 - i) for i, s in enumerate(signs)): name for name, signs in FFL.items()}


@dataclass(frozen=True)
class MotifCount:
    """How often one type of feed-forward loop occurs.

    Attributes:
        name: C1 to C4, I1 to I4, or "dual" for loops with an edge whose sign is open.
        count: in the network.
        mean, deviation: in the random networks.
        z: (count - mean)/deviation; NaN where all random networks have the same count.
        p: the share of random networks with as many or more, the given one counted as one of them.
    """

    name: str
    count: int
    mean: float
    deviation: float
    z: float
    p: float


@dataclass(frozen=True)
class Network:
    """Genes and who regulates whom.

    Attributes:
        genes: names.
        edges: (source, target) by the genes' places, each pair once.
        signs: of the edges: 1 activates, -1 represses, 0 both or unknown.
        autoregulated: how many genes regulate themselves; these edges are not among `edges`.
    """

    genes: tuple[str, ...]
    edges: Int[np.ndarray, "edges 2"]
    signs: Int[np.ndarray, " edges"]
    autoregulated: int = 0

    @staticmethod
    def of(edges: Iterable[tuple[str, str, int]]) -> Network:
        """A network from (source, target, sign).

        An edge that is given twice with opposite signs has sign 0.

        Raises:
            ValueError: no edges, or another sign.
        """
        found: dict[tuple[str, str], int] = {}
        for source, target, sign in edges:
            if sign not in (1, -1, 0):
                raise ValueError(f"the sign of {source} → {target} is 1, -1 or 0, got {sign!r}")
            before = found.get((source, target), sign)
            found[source, target] = sign if before == sign else 0
        if not found:
            raise ValueError("the network is empty: it has no edges")
        genes = tuple(dict.fromkeys(name for pair in found for name in pair))
        if len(genes) > _MOST_GENES:
            raise ValueError(f"the network has {len(genes)} genes; at most {_MOST_GENES} are searched")
        place = {name: i for i, name in enumerate(genes)}
        # By source, which random networks keep.
        kept = sorted((place[s], place[t], sign) for (s, t), sign in found.items() if s != t)
        table = np.array(kept, np.int64).reshape(-1, 3)
        return Network(genes, table[:, :2].copy(), table[:, 2].copy(), len(found) - len(kept))

    @staticmethod
    def read(path: str | Path, *, target_first: bool = False) -> Network:
        """A network from a file: GraphML, SBML, or a list of edges.

        Args:
            path: a list of edges has a line "source target sign" for each, separated by blanks or commas; signs are
                + and -, 1 and -1, or 1, 2 and 3 for activates, represses and both; without a sign it is open. Lines
                that begin with # are comments.
            target_first: whether a list of edges gives the target before the source.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a line, a sign or a file that cannot be read, or no edges.
        """
        text = Path(path).read_text("utf-8", "replace")
        if "<sbml" in text:
            from .sbml import from_sbml

            return Network.of(from_sbml(path).edges)
        if "<graphml" in text:
            return Network.of(_graphml(text, str(path)))
        if text.lstrip().startswith("<"):
            raise ValueError(f"{path} is neither GraphML nor SBML, nor a list of edges")
        return Network.of(_edge_list(text, str(path), target_first))

    def count(self, *, induced: bool = False) -> dict[str, int]:
        """How many feed-forward loops of each type there are; `induced` wants no other edges among the three genes."""
        counts = np.zeros(9, np.int64)
        _count(len(self.genes), self._starts(), self.edges[:, 1].copy(), self._codes(), self._matrix(), induced, counts)
        return {
            **{name: int(counts[code]) for code, name in sorted(_TYPES.items(), key=lambda t: t[1])},
            "dual": int(counts[8]),
        }

    def loops(self) -> tuple[tuple[str, str, str, str], ...]:
        """Every feed-forward loop as (X, Y, Z, type)."""
        signs = {(int(s), int(t)): int(sign) for (s, t), sign in zip(self.edges, self.signs, strict=True)}
        after: dict[int, list[int]] = {}
        for source, target in signs:
            after.setdefault(source, []).append(target)
        names = {v: k for k, v in FFL.items()}
        return tuple(
            (self.genes[x], self.genes[y], self.genes[z], names.get((signs[x, y], signs[x, z], signs[y, z]), "dual"))
            for x, y in signs for z in after.get(y, ()) if z != x and (x, z) in signs
        )  # fmt: skip

    def feed_forward(
        self, *, samples: int = 1000, seed: int = 0, switches: int = 20, induced: bool = False
    ) -> tuple[MotifCount, ...]:
        """Every type's count beside random networks.

        Args:
            samples: how many random networks.
            seed: of the random numbers.
            switches: attempts for each edge, from one random network to the next.
            induced: as for `count`.

        Raises:
            ValueError: unusable numbers.
        """
        for name, value in (("samples", samples), ("switches", switches)):
            if not (isinstance(value, int) and value > 0):
                raise ValueError(f"{name} must be a whole number above 0, got {value!r}")
        real = self.count(induced=induced)
        found = np.zeros((samples, 9), np.int64)
        _random_counts(
            len(self.genes), self._starts(), self.edges[:, 0].copy(), self.edges[:, 1].copy(), self._codes(),
            self._matrix(), self._groups(), seed, switches * len(self.edges), induced, found,
        )  # fmt: skip
        codes = {name: code for code, name in _TYPES.items()} | {"dual": 8}
        result = []
        for name, count in real.items():
            column = found[:, codes[name]]
            mean, deviation = float(column.mean()), float(column.std(ddof=1)) if samples > 1 else 0.0
            z = (count - mean) / deviation if deviation > 0 else float("nan")
            p = (1 + int((column >= count).sum())) / (samples + 1)
            result.append(MotifCount(name, count, mean, deviation, z, p))
        return tuple(result)

    def _starts(self) -> np.ndarray:
        """Where each gene's edges begin."""
        return np.searchsorted(self.edges[:, 0], np.arange(len(self.genes) + 1))

    def _codes(self) -> np.ndarray:
        """Activates 0, represses 1, open 2."""
        return np.where(self.signs > 0, 0, np.where(self.signs < 0, 1, 2)).astype(np.int64)

    def _matrix(self) -> np.ndarray:
        """(genes, genes): 0 no edge, else the code and 1."""
        matrix = np.zeros((len(self.genes), len(self.genes)), np.int8)
        matrix[self.edges[:, 0], self.edges[:, 1]] = self._codes() + 1
        return matrix

    def _groups(self) -> np.ndarray:
        """The edges in the order of their signs, and where each sign begins: (edges + 4,)."""
        codes = self._codes()
        order = np.argsort(codes, kind="stable")
        return np.concatenate([order, np.searchsorted(codes[order], np.arange(4))]).astype(np.int64)


def _edge_list(text: str, path: str, target_first: bool) -> list[tuple[str, str, int]]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].replace(",", " ").split()
        if not words:
            continue
        if len(words) not in (2, 3):
            raise ValueError(f"{path}, line {number}: an edge is 'source target sign', got {line.strip()!r}")
        sign = _SIGNS.get(words[2].lower()) if len(words) == 3 else 0
        if sign is None:
            raise ValueError(f"{path}, line {number}: {words[2]!r} is no sign; write + or -, 1 or -1, or 1, 2, 3")
        source, target = words[1::-1] if target_first else words[:2]
        found.append((source, target, sign))
    return found


def _graphml(text: str, path: str) -> list[tuple[str, str, int]]:
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is not valid GraphML: {error}") from None
    keys = {
        k.get("id"): (k.get("attr.name") or "").lower() for k in root.iter() if k.tag.endswith("}key") or k.tag == "key"
    }
    found = []
    for edge in (e for e in root.iter() if e.tag.endswith("}edge") or e.tag == "edge"):
        told = {keys.get(d.get("key"), ""): (d.text or "").strip().lower() for d in edge}
        words = [told[name] for name in ("sign", "effect", "interaction", "type", "weight") if name in told]
        word = words[0].removesuffix(".0") if words else "?"
        if word not in _SIGNS:
            raise ValueError(f"{path}: {word!r} is no sign of the edge {edge.get('source')} → {edge.get('target')}")
        found.append((str(edge.get("source")), str(edge.get("target")), _SIGNS[word]))
    return found


@njit(cache=True)
def _count(genes: Any, starts: Any, targets: Any, codes: Any, matrix: Any, induced: Any, counts: Any) -> None:
    """Loops by type: for each edge X → Y and each Y → Z, whether X → Z."""
    for x in range(genes):
        for first in range(starts[x], starts[x + 1]):
            y = targets[first]
            for second in range(starts[y], starts[y + 1]):
                z = targets[second]
                direct = matrix[x, z]
                if direct == 0 or z == x:
                    continue
                if induced and (matrix[y, x] != 0 or matrix[z, x] != 0 or matrix[z, y] != 0):
                    continue
                if codes[first] == 2 or codes[second] == 2 or direct == 3:
                    counts[8] += 1
                else:
                    counts[4 * codes[first] + 2 * (direct - 1) + codes[second]] += 1


@njit(cache=True)
def _next(state: Any) -> Any:
    """splitmix64."""
    state[0] += uint64(0x9E3779B97F4A7C15)
    w = state[0]
    w = (w ^ (w >> uint64(30))) * uint64(0xBF58476D1CE4E5B9)
    w = (w ^ (w >> uint64(27))) * uint64(0x94D049BB133111EB)
    return w ^ (w >> uint64(31))


@njit(cache=True)
def _below(state: Any, n: Any) -> Any:
    """A whole number from 0 to n - 1."""
    return np.int64(np.float64(_next(state) >> uint64(11)) * (1.0 / 9007199254740992.0) * n)


@njit(cache=True)
def _switch(sources: Any, targets: Any, codes: Any, matrix: Any, groups: Any, attempts: Any, state: Any) -> None:
    """Attempts to exchange the targets of two edges of one sign; one that would double an edge fails."""
    edges = targets.shape[0]
    for _ in range(attempts):
        one = _below(state, edges)
        code = codes[one]
        begin, end = groups[edges + code], groups[edges + code + 1]
        other = groups[begin + _below(state, end - begin)]
        a, b, c, d = sources[one], targets[one], sources[other], targets[other]
        if a in (c, d) or b in (c, d) or matrix[a, d] != 0 or matrix[c, b] != 0:
            continue
        matrix[a, b], matrix[c, d] = 0, 0
        matrix[a, d], matrix[c, b] = code + 1, code + 1
        targets[one], targets[other] = d, b


@njit(cache=True)
def _random_counts(
    genes: Any, starts: Any, sources: Any, targets: Any, codes: Any, matrix: Any, groups: Any, seed: Any, attempts: Any,
    induced: Any, found: Any,
) -> None:  # fmt: skip
    """The counts of random networks, each switched from the one before; the first from the given one, five times."""
    state = np.zeros(1, np.uint64)
    state[0] = uint64(seed) * uint64(0xD1B54A32D192ED03) + uint64(1)
    _switch(sources, targets, codes, matrix, groups, 5 * attempts, state)
    for sample in range(found.shape[0]):
        _switch(sources, targets, codes, matrix, groups, attempts, state)
        _count(genes, starts, targets, codes, matrix, induced, found[sample])
