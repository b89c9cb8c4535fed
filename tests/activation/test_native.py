"""Where torch's own operation stands in for a kernel: the same values, and slopes of every order."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

import varphi as vp
from varphi.activation.backend import NATIVE, suits

EXACT = [name for name, native in NATIVE.items() if native.exact]


@pytest.fixture
def points() -> torch.Tensor:
    # Kinks of the hard entries, both zeros, the ends of the range, and what lies between.
    kinks = [
        0.0,
        -0.0,
        0.5,
        -0.5,
        1.0,
        -1.0,
        3.0,
        -3.0,
        6.0,
        1e-40,
        -1e-40,
        3.4e38,
        -3.4e38,
        float("inf"),
        -float("inf"),
    ]
    return torch.tensor([*kinks, *torch.linspace(-7.0, 7.0, 113).tolist()])


@pytest.mark.parametrize("name", NATIVE)
def test_values_are_those_of_the_kernel(name: str, points: torch.Tensor) -> None:
    f = vp.get(name)
    assert suits(NATIVE[name], points)
    torch.testing.assert_close(f(points), f.derivatives(points, 0)[0], rtol=3e-7, atol=1e-45)


@pytest.mark.parametrize("name", EXACT)
def test_slopes_are_those_of_the_kernel(name: str, points: torch.Tensor) -> None:
    f = vp.get(name)
    expected = f.derivatives(points, 2)
    leaf = points.clone().requires_grad_()
    (slope,) = torch.autograd.grad(f(leaf).sum(), leaf, create_graph=True)
    assert torch.equal(slope, expected[1])
    if slope.requires_grad:
        (curvature,) = torch.autograd.grad(slope.sum(), leaf)
        assert torch.equal(curvature, expected[2])
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(f(forward_ad.make_dual(points, torch.ones_like(points)))).tangent
        assert torch.equal(tangent, expected[1])


@pytest.mark.parametrize("name", NATIVE)
def test_transforms_of_torch_func(name: str) -> None:
    f, x = vp.get(name), torch.linspace(-7.0, 7.0, 8)
    expected = f.derivatives(x, 2)
    torch.testing.assert_close(vmap(grad(f))(x), expected[1])
    torch.testing.assert_close(vmap(grad(grad(f)))(x), expected[2])
    torch.testing.assert_close(jvp(f, (x,), (torch.ones_like(x),))[1], expected[1])

    def total(t: torch.Tensor) -> torch.Tensor:
        return f(t).sum()

    for second in (hessian(total), jacfwd(jacrev(total)), jacrev(jacfwd(total)), jacfwd(jacfwd(total))):
        torch.testing.assert_close(second(x).diagonal(), expected[2])


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("bad", [torch.arange(3), torch.ones(3, dtype=torch.complex64)])
def test_other_dtypes_are_refused_as_elsewhere(name: str, bad: torch.Tensor) -> None:
    with pytest.raises(TypeError, match="floating-point"):
        vp.get(name)(bad)
