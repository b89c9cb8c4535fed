"""Domains: distances, boundaries and points against what geometry says."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from varphi.systems.physics import Ball, Box, Disk, Interval, Polygon
from varphi.systems.physics.domain import drawn

L = Polygon([(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)])
DOMAINS = {
    "interval": Interval(-1, 2),
    "box": Box([0, 1], [1, 3]),
    "box 3d": Box([0, 0, 0], [1, 2, 3]),
    "disk": Disk((0.5, 0.0), 2.0),
    "ball": Ball((0, 0, 1), 0.5),
    "L": L,
    "hole": Box([-1, -1], [1, 1]) - Disk((0.2, 0), 0.5),
    "lens": Disk((0, 0)) & Disk((1, 0)),
    "keyhole": Disk() | Box([0, -0.2], [2, 0.2]),
    "notch": Box([0, 0], [2, 2]) - Box([1, 1], [3, 3]),
    "L with a hole": L - Disk((0.5, 0.5), 0.2),
}
MEASURES = {
    "interval": 3.0,
    "box": 2.0,
    "box 3d": 6.0,
    "disk": 4 * math.pi,
    "ball": math.pi / 6,
    "L": 3.0,
    "hole": 4 - math.pi / 4,
    "lens": 2 * math.pi / 3 - math.sqrt(3) / 2,
    "notch": 3.0,
}
with_domain = pytest.mark.parametrize("name", DOMAINS)


@with_domain
def test_normals_lead_out_of_the_domain(name):
    domain = DOMAINS[name]
    found = domain.boundary(300, seed=3)
    assert domain.distance(found.points).abs().max() < 1e-12
    torch.testing.assert_close(found.normals.norm(dim=1), torch.ones(len(found.points)).double())
    # A small step outwards is outside by that step; near corners of joined shapes by less.
    step = 1e-6 * domain.size
    assert (domain.distance(found.points + step * found.normals) < 0).all()
    inwards = domain.distance(found.points - step * found.normals)
    assert (inwards > 0).all() and inwards.median() == pytest.approx(step, rel=1e-3)


@with_domain
@pytest.mark.parametrize("sampler", ["sobol", "latin hypercube", "uniform"])
def test_points_lie_inside_and_are_the_same_for_a_seed(name, sampler):
    domain = DOMAINS[name]
    x = domain.sample(200, sampler, seed=5)
    assert x.shape == (200, domain.dimensions) and x.dtype is torch.float64
    assert (domain.distance(x) > 0).all() and domain.contains(x).all()
    assert torch.equal(x, domain.sample(200, sampler, seed=5))
    assert not torch.equal(x, domain.sample(200, sampler, seed=6))


@pytest.mark.parametrize("name", MEASURES)
def test_measures(name):
    assert DOMAINS[name].measure == pytest.approx(MEASURES[name], rel=2e-3)


@pytest.mark.parametrize("name", ["interval", "box", "box 3d", "disk", "ball", "L"])
def test_distances_are_those_to_the_nearest_boundary_point(name):
    domain = DOMAINS[name]
    boundary = domain.boundary(20000).points
    generator = torch.Generator().manual_seed(0)
    around = (
        domain.lower
        - 0.5
        + (domain.upper - domain.lower + 1)
        * torch.rand(50, domain.dimensions, generator=generator, dtype=torch.float64)
    )
    nearest = torch.cdist(around, boundary).amin(1)
    assert (domain.distance(around).abs() <= nearest + 1e-12).all()
    assert (nearest - domain.distance(around).abs()).max() < 0.08


@pytest.mark.parametrize("name", ["interval", "box", "disk", "ball", "L", "hole", "L with a hole"])
def test_factors_vanish_on_the_boundary_and_not_inside(name):
    domain = DOMAINS[name]
    phi = domain.factor(domain.pieces)
    inside = phi(domain.sample(500, seed=2))
    assert inside.shape == (500, 1) and (inside > 0).all() and 0.8 < inside.max() <= 1.05
    assert phi(domain.boundary(200, seed=4).points).abs().max() < 1e-12
    assert torch.isfinite(phi(domain.sample(500))).all()


@pytest.mark.parametrize("name", ["box", "L"])
def test_factors_of_some_pieces_vanish_on_those_alone(name):
    domain = DOMAINS[name]
    chosen, other = domain.pieces[:1], domain.pieces[2]
    phi = domain.factor(chosen)
    assert phi(drawn(chosen[0], 50).points).abs().max() < 1e-12
    assert phi(drawn(other, 50).points)[1:].min() > 0


@pytest.mark.parametrize("name", ["keyhole", "notch"])
def test_where_no_factor_is_known_it_is_said(name):
    with pytest.raises(ValueError, match="impose the condition softly"):
        DOMAINS[name].factor(DOMAINS[name].pieces)
    assert not DOMAINS[name].has_smooth_factor


@given(st.integers(1, 300), st.sampled_from(["interval", "box", "disk", "hole", "L"]))
def test_every_piece_has_its_share_of_points(n, name):
    domain = DOMAINS[name]
    total = sum(p.measure for p in domain.pieces)
    points = domain.boundary(n).points
    assert len(points) >= min(n, len(domain.pieces)) and len(points) <= n + 2 * len(domain.pieces)
    if domain.dimensions == 2 and n >= 100:
        on_first = drawn(domain.pieces[0], 2000).points
        near = torch.cdist(points, on_first).amin(1) < 0.01
        assert near.double().mean() == pytest.approx(domain.pieces[0].measure / total, abs=0.12)


def test_a_boundary_integral_of_the_normal_is_the_measure():
    # Gauss: ∮ x·n / d is the area. Checks normals and the pieces' shares together.
    for name in ("box", "disk", "L", "ball", "hole", "lens"):
        domain = DOMAINS[name]
        found = domain.boundary(4000)
        surface = sum(p.measure for p in domain.pieces)
        flux = (found.points * found.normals).sum(1).mean() * surface / domain.dimensions
        assert float(flux) == pytest.approx(domain.measure, rel=0.02), name


def test_samplers_spread_points():
    from scipy.stats import qmc

    box = Box([0, 0], [1, 1])
    spread = {s: qmc.discrepancy(box.sample(256, s).numpy()) for s in ("sobol", "latin hypercube", "uniform")}
    assert spread["sobol"] < spread["uniform"] / 5
    # Latin hypercube: one point in each of n slabs.
    slabs = np.sort((box.sample(64, "latin hypercube").numpy()[:, 0] * 64).astype(int))
    assert (slabs == np.arange(64)).all()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Interval(1, 0), "lower < upper"),
        (lambda: Box([0, 0], [1]), "lower < upper"),
        (lambda: Box([0], [math.inf]), "finite"),
        (lambda: Disk(radius=0), "radius"),
        (lambda: Ball((0.0,), 1), "use Interval"),
        (lambda: Polygon([(0, 0), (1, 0)]), "at least 3"),
        (lambda: Polygon([(0, 0), (1, 1), (1, 0), (0, 1)]), "no area|cross"),
        (lambda: Polygon([(0, 0), (3, 0), (1, 2), (1, -1)]), "cross"),
        (lambda: Polygon([(0, 0), (1, 0), (2, 0)]), "no area"),
        (lambda: Interval() & Disk(), "dimensions"),
        (lambda: Disk().sample(0), "whole number"),
        (lambda: Disk().sample(5, "grid"), "no sampler 'grid'"),
        (lambda: Disk() & Disk((5, 0)), "nothing in common"),
        (lambda: (Disk() & Disk((1.9, 1.9))).sample(5), "is it empty"),
    ],
)
def test_impossible_domains_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
