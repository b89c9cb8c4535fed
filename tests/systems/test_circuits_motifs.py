"""Feed-forward loops in networks: against a count by hand, enumeration of all random networks, and planted loops."""

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from varphi.systems.circuits import Circuit, Network
from varphi.systems.circuits.circuit import FFL
from varphi.systems.circuits.motifs import _switch

names = st.sampled_from("abcdefg")


@given(st.lists(st.tuples(names, names, st.sampled_from([1, -1, 0])), min_size=1, max_size=40))
def test_counts_are_those_of_all_triples(edges: list) -> None:
    network = Network.of(edges)
    signs: dict = {}
    for s, t, sign in edges:
        signs[s, t] = sign if signs.get((s, t), sign) == sign else 0
    plain, induced = Counter(), Counter()
    kinds = {v: k for k, v in FFL.items()}
    for x, y, z in itertools.permutations("abcdefg", 3):
        if {(x, y), (x, z), (y, z)} <= set(signs):
            kind = kinds.get((signs[x, y], signs[x, z], signs[y, z]), "dual")
            plain[kind] += 1
            if not {(y, x), (z, x), (z, y)} & set(signs):
                induced[kind] += 1
    assert network.count() == {k: plain[k] for k in (*FFL, "dual")}
    assert network.count(induced=True) == {k: induced[k] for k in (*FFL, "dual")}
    assert Counter(kind for *_, kind in network.loops()) == plain
    assert network.autoregulated == sum(s == t for s, t in signs)


@pytest.mark.parametrize("kind", list(FFL))
def test_each_loop_of_the_field_is_its_type(kind: str) -> None:
    counts = Network.of(Circuit.ffl(kind).edges).count()
    assert counts[kind] == 1 and sum(counts.values()) == 1


def drawn(genes: int, edges: int, seed: int) -> Network:
    generator = np.random.default_rng(seed)
    pairs = {(int(a), int(b)) for a, b in generator.integers(0, genes, (2 * edges, 2)) if a != b}
    return Network.of([(f"g{a}", f"g{b}", int(generator.choice([1, -1]))) for a, b in sorted(pairs)[:edges]])


def test_switching_keeps_degrees_by_sign() -> None:
    network = drawn(40, 150, 1)
    targets, matrix = network.edges[:, 1].copy(), network._matrix()
    _switch(
        network.edges[:, 0].copy(), targets, network._codes(), matrix, network._groups(), 5000, np.ones(1, np.uint64)
    )
    assert (targets != network.edges[:, 1]).mean() > 0.8
    after = {
        (int(s), int(t)): int(c) + 1 for s, t, c in zip(network.edges[:, 0], targets, network._codes(), strict=True)
    }
    assert len(after) == len(network.edges) and all(s != t for s, t in after)
    np.testing.assert_array_equal(np.argwhere(matrix), sorted(after))
    for sign in (1, -1):
        chosen = network.signs == sign
        before_in, after_in = (np.bincount(t[chosen], minlength=40) for t in (network.edges[:, 1], targets))
        np.testing.assert_array_equal(before_in, after_in)


def test_every_random_network_is_as_likely() -> None:
    """Four genes with one edge in and one out, none to itself: nine networks, the derangements of four."""
    import scipy.stats

    network = Network.of([("a", "b", 1), ("b", "c", 1), ("c", "d", 1), ("d", "a", 1)])
    targets, matrix, state = network.edges[:, 1].copy(), network._matrix(), np.full(1, 7, np.uint64)
    seen: Counter = Counter()
    for _ in range(9000):
        _switch(network.edges[:, 0].copy(), targets, network._codes(), matrix, network._groups(), 40, state)
        seen[tuple(targets.tolist())] += 1
    assert len(seen) == 9
    assert scipy.stats.chisquare(list(seen.values())).pvalue > 1e-4


def test_planted_loops_stand_out_and_chance_does_not() -> None:
    random = drawn(120, 240, 3)
    assert all(not abs(m.z) > 4 and m.p > 0.001 for m in random.feed_forward(samples=300))
    planted = [(random.genes[s], random.genes[t], int(g)) for (s, t), g in zip(random.edges, random.signs, strict=True)]
    for i in range(15):
        planted += [(f"x{i}", f"y{i}", 1), (f"x{i}", f"z{i}", 1), (f"y{i}", f"z{i}", -1)]
    found = {m.name: m for m in Network.of(planted).feed_forward(samples=300)}
    assert found["I1"].count >= 15 and found["I1"].z > 8 and found["I1"].p < 0.01
    assert found["I1"].p == pytest.approx(1 / 301)
    assert not found["C4"].z > 4
    again = {m.name: m for m in Network.of(planted).feed_forward(samples=300)}
    assert all(again[k].mean == found[k].mean for k in found)


def test_a_type_that_cannot_vary_has_no_z() -> None:
    found = Network.of([("a", "b", 1), ("a", "c", 1), ("b", "c", 1)]).feed_forward(samples=20)
    c1 = next(m for m in found if m.name == "C1")
    assert c1.count == 1 and c1.mean == 1 and np.isnan(c1.z) and c1.p == 1.0


def test_files(tmp_path: Path) -> None:
    edges = tmp_path / "edges.txt"
    edges.write_text("# of three genes\nX Y +\nX,Z,1\nY\tZ -  # the third\nY Y -\n")
    network = Network.read(edges)
    assert network.count()["I1"] == 1 and network.autoregulated == 1
    edges.write_text("Y X 1\nZ X 1\nZ Y 2\n")
    assert Network.read(edges, target_first=True).count()["I1"] == 1
    edges.write_text("X Y +\nX Z +\nY Z -\nY Z +\n")
    assert Network.read(edges).count()["dual"] == 1
    graph = tmp_path / "net.graphml"
    graph.write_text(
        '<?xml version="1.0"?><graphml xmlns="http://graphml.graphdrawing.org/xmlns">'
        '<key id="d0" for="edge" attr.name="sign" attr.type="int"/><graph edgedefault="directed">'
        '<node id="X"/><node id="Y"/><node id="Z"/>'
        '<edge source="X" target="Y"><data key="d0">1</data></edge>'
        '<edge source="X" target="Z"><data key="d0">-1</data></edge>'
        '<edge source="Y" target="Z"><data key="d0">1</data></edge></graph></graphml>'
    )
    assert Network.read(graph).loops() == (("X", "Y", "Z", "I3"),)
    pytest.importorskip("libsbml", reason="needs varphi[circuits]")

    model = tmp_path / "loop.xml"
    model.write_text(Circuit.ffl("I1").to_sbml())
    assert Network.read(model).loops() == (("X", "Y", "Z", "I1"),)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "empty: it has no edges"),
        ("a b c d\n", "line 1: an edge is 'source target sign'"),
        ("a b +\na c !\n", "line 2: '!' is no sign"),
        ("<html></html>", "neither GraphML nor SBML"),
        ("<graphml><edge", "not valid GraphML"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "network.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        Network.read(path)


def test_refusals() -> None:
    network = Network.of([("a", "b", 1)])
    with pytest.raises(ValueError, match="samples must be"):
        network.feed_forward(samples=0)
    with pytest.raises(ValueError, match="is 1, -1 or 0"):
        Network.of([("a", "b", 5)])
