"""Compiled kernels as the tensors meet them: sizes, threads, layouts, element types, processes, the disk."""

import math
import os
import subprocess
import sys
import textwrap
import threading

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import varphi as vp
from varphi.activation import backend
from varphi.activation.backend import by_operations, run, run_times, run_tower
from varphi.activation.formula import Formula
from varphi.numbers import exp, sin, variable
from varphi.numbers.kernel import compile as compiling

pytestmark = pytest.mark.skipif(not backend._ENABLED, reason="kernels are turned off")

# Around a vector of 8 and of 16, around a block of 1024, beyond what one thread takes.
SIZES = [0, 1, 7, 8, 9, 15, 16, 17, 31, 1023, 1024, 1025, 1040, 2**15 + 3]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
# With flagged lanes (mish), a guard against NaN (relu), a step, a parameter, sines of large arguments.
KINDS = {
    "mish": ("mish", {}),
    "relu": ("relu", {}),
    "heaviside": ("heaviside", {}),
    "softplus": ("softplus", {"beta": 1.7}),
    "snake": ("snake", {"a": 0.9}),
    "hill": ("hill", {"n": 2.5}),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def formula_of(kind: str) -> tuple[Formula, list[float]]:
    name, values = KINDS[kind]
    layer = vp.get(name, **values)
    return layer.formula, layer.arguments()


def numbers(size: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, generator=generator, dtype=torch.float64) * 10 ** torch.randint(-3, 3, (size,))
    x[3::17], x[5::29], x[7::31], x[11::37] = 0.0, math.nan, math.inf, -math.inf
    return x.to(dtype)


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(0, 1e4, -1e4), b.nan_to_num(0, 1e4, -1e4))


def close(a: torch.Tensor, b: torch.Tensor, units: float = 4) -> None:
    """To a few units in the last place of the element type."""
    info = torch.finfo(a.dtype)
    torch.testing.assert_close(a, b, rtol=units * info.eps, atol=8 * info.tiny, equal_nan=True)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


# -------------------------------------------------------------------------------------------------- sizes, threads


@each_kind
@each_dtype
def test_an_element_s_result_does_not_depend_on_how_many_there_are(kind, dtype):
    formula, arguments = formula_of(kind)
    x = numbers(2**11 + 5, dtype)
    whole = run(formula, x, arguments)
    singles = torch.cat([run(formula, x[i : i + 1], arguments) for i in range(0, len(x), 5)])
    # Short tensors are computed in binary64 throughout, long ones in binary32 first.
    exactly = dtype is torch.float64
    assert not exactly or same(whole[::5], singles)
    close(whole[::5], singles)
    for size in SIZES[:-1]:
        part = run(formula, x[:size], arguments)
        assert part.shape == (size,)
        assert not exactly or same(part, whole[:size])
        close(part, whole[:size])


@each_kind
@each_dtype
def test_an_element_s_result_does_not_depend_on_the_number_of_threads(kind, dtype, threads):
    formula, arguments = formula_of(kind)
    for size in (compiling.SERIAL_BELOW - 1, compiling.SERIAL_BELOW, 2**15 + 3):
        x, grad = numbers(size, dtype), numbers(size, dtype, 1)
        threads(1)
        one = [run(formula, x, arguments), run_times(formula, grad, x, arguments), run_tower(formula, x, arguments, 2)]
        for count in (2, 3, 8):
            threads(count)
            assert same(run(formula, x, arguments), one[0])
            assert same(run_times(formula, grad, x, arguments), one[1])
            assert same(run_tower(formula, x, arguments, 2), one[2])


@each_kind
@each_dtype
def test_nothing_is_written_beside_the_result(kind, dtype):
    """The kernel's own outputs, with a margin on either side: masked stores must leave it alone."""
    formula, arguments = formula_of(kind)
    kernel = backend._kernel(formula, dtype, "value")
    for size in (1, 7, 8, 9, 15, 16, 17, 33, 1025):
        x = numbers(size, dtype)
        room = torch.full((size + 64,), 17.0, dtype=dtype)
        kernel([x.data_ptr(), room[32:].data_ptr()], [float(a) for a in arguments], size, 1)
        assert (room[:32] == 17).all() and (room[32 + size :] == 17).all()
        assert same(room[32 : 32 + size], run(formula, x, arguments))


# -------------------------------------------------------------------------------------------------------- layouts

VIEWS = {
    "transposed": lambda x: x.reshape(16, 32, 2).transpose(0, 1),
    "permuted": lambda x: x.reshape(4, 16, 16).permute(2, 0, 1),
    "every third": lambda x: x[::3],
    "from the middle": lambda x: x[37:-5],
    "inner slice": lambda x: x.reshape(32, 32)[:, 3:29],
    "flipped": lambda x: x.flip(0),
    "expanded": lambda x: x[:32].reshape(32, 1).expand(32, 7),
    "expanded from one": lambda x: x[:1].expand(100),
    "channels last": lambda x: x.reshape(2, 8, 8, 8).contiguous(memory_format=torch.channels_last),
    "channels last, sliced": lambda x: x.reshape(2, 8, 8, 8).contiguous(memory_format=torch.channels_last)[:, 1:7],
    "channels last in 3d": lambda x: x.reshape(2, 8, 4, 4, 4).contiguous(memory_format=torch.channels_last_3d),
    "without dimensions": lambda x: x[2],
    "without elements": lambda x: x[:0].reshape(0, 4),
    "unfolded": lambda x: x.unfold(0, 8, 3),
    "real parts": lambda x: torch.view_as_complex(x.reshape(-1, 2)).real,
    "imaginary parts of conjugates": lambda x: torch.view_as_complex(x.reshape(-1, 2)).conj().imag,
    "one imaginary part of a conjugate": lambda x: torch.view_as_complex(x.reshape(-1, 2))[:1].conj().imag,
    "lazily negated": lambda x: torch._neg_view(x),
    "lazy zeros": lambda x: torch._efficientzerotensor(40, dtype=x.dtype),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", ["mish", "relu", "softplus"])
def test_layouts(kind, view, dtype):
    formula, arguments = formula_of(kind)
    x = VIEWS[view](numbers(1024, dtype))
    plain = torch.empty(x.shape, dtype=dtype).copy_(x)
    kept = plain.clone()
    # What is not stored as it is goes through torch's operations: in float32, right to five digits.
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype is torch.float32 else {"rtol": 1e-13, "atol": 1e-15}
    value = run(formula, x, arguments)
    assert value.shape == x.shape and value.dtype is dtype
    torch.testing.assert_close(value, run(formula, plain, arguments), equal_nan=True, **tolerance)
    tower = run_tower(formula, x, arguments, 2)
    torch.testing.assert_close(tower, run_tower(formula, plain, arguments, 2), equal_nan=True, **tolerance)
    grad = numbers(x.numel(), dtype, 2).nan_to_num(1, 2, 3).reshape(x.shape)
    for direction in (grad, grad[..., :1].expand(x.shape) if x.dim() else grad, torch._neg_view(-grad)):
        product = run_times(formula, direction, x, arguments)
        expected = direction.double() * run(formula, plain.double(), arguments)
        torch.testing.assert_close(product, expected.to(dtype), equal_nan=True, **tolerance)
    torch.testing.assert_close(plain, kept, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", ["relu", "identity", "heaviside", "mish"])
def test_the_result_is_new_memory(name):
    layer = vp.get(name)
    for size in (1, 16, 20000):
        x = torch.linspace(-1, 2, size)
        before = x.clone()
        results = [layer(x), layer.derivatives(x, 1)]
        if name == "identity":  # as torch.nn.Identity
            results.pop(0)
        for y in results:
            assert y.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
            y.zero_()
        assert torch.equal(x, before)


def test_channels_last_stays():
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    y = vp.get("mish")(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    (grad,) = torch.autograd.grad(y, x, torch.randn(2, 3, 4, 5))
    assert grad.is_contiguous(memory_format=torch.channels_last)


# ----------------------------------------------------------------------------------------- kernels, torch operations


@pytest.mark.parametrize("name", vp.names())
def test_kernel_and_torch_operations_agree_in_float64(name):
    layer = vp.get(name)
    x = torch.cat([torch.linspace(-30.03, 30.11, 301), torch.tensor([1e-9, -1e-9, 0.0, -0.0, 97.3, -97.3])]).double()
    assert backend._fits_kernel(x, layer.arguments())
    kernel, torch_s = run(layer.formula, x, layer.arguments()), by_operations(layer.formula, x, layer.arguments())
    # Rounding of the value, and of the argument on the way.
    nearby = (by_operations(layer.formula, x * (1 + 1e-14), layer.arguments()) - torch_s).abs().nan_to_num(0)
    allowed = 4e-15 * torch_s.abs() + nearby + 1e-15 * x.abs().clamp(max=1)
    assert ((kernel - torch_s).abs() <= allowed).logical_or(kernel == torch_s).all()


@pytest.mark.parametrize("name", vp.names())
def test_a_product_and_a_tower_are_of_the_kernel_s_own_derivative(name):
    layer = vp.get(name)
    x = torch.linspace(-9.03, 9.11, 77, dtype=torch.float64)
    grad = torch.linspace(0.5, 1.5, 77, dtype=torch.float64)
    slope = layer.formula.derivative(0)
    tower = run_tower(layer.formula, x, layer.arguments(), 2)
    torch.testing.assert_close(tower[0], run(layer.formula, x, layer.arguments()), rtol=1e-14, atol=1e-300)
    torch.testing.assert_close(tower[1], run(slope, x, layer.arguments()), rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(run_times(slope, grad, x, layer.arguments()), grad * tower[1], rtol=1e-13, atol=1e-15)


@each_dtype
@pytest.mark.parametrize("name", ["mish", "gelu", "softplus", "tanh", "relu", "hard_swish", "exp", "sinc"])
def test_short_element_types_are_the_rounded_float64(name, dtype):
    layer = vp.get(name)
    x = numbers(4001, dtype)
    x = x[x.isfinite()]
    close(run(layer.formula, x, ()), run(layer.formula, x.double(), ()).to(dtype))


@each_dtype
def test_a_result_too_large_is_infinite_and_a_tiny_one_denormal(dtype):
    info = torch.finfo(dtype)
    formula = Formula(exp(variable("x")))
    top, bottom = math.log(info.max), math.log(info.tiny)
    for size in (4, 40):
        x = torch.linspace(1, 1, size, dtype=torch.float64)
        assert torch.isinf(run(formula, (x * (top + 1)).to(dtype), ())).all()
        below = run(formula, (x * (bottom - 2)).to(dtype), ())
        assert ((below > 0) & (below < info.tiny)).all()


@each_dtype
@pytest.mark.parametrize("name", ["relu", "heaviside", "mish", "hard_tanh", "hill", "sinc"])
def test_nan_in_every_lane(name, dtype):
    layer = vp.get(name)
    for size in (1, 8, 20, 40):
        for place in range(size):
            x = torch.full((size,), 0.5, dtype=dtype)
            x[place] = math.nan
            assert torch.equal(layer(x).isnan(), x.isnan())


def test_parameters_of_a_kernel_are_not_part_of_it():
    """A learned parameter must not compile a kernel at every step."""
    layer = vp.get("softplus", learn=["beta"])
    x = torch.linspace(-1, 1, 64)
    with torch.no_grad():
        layer(x)
        known = len(compiling._KERNELS)
        for _ in range(5):
            layer.log_beta += 0.1
            expected = torch.nn.functional.softplus(x, beta=layer.numbers()["beta"])
            torch.testing.assert_close(layer(x), expected)
    assert len(compiling._KERNELS) == known


# ------------------------------------------------------------------------------------------- threads, processes, disk

SCRIPT = """
    import sys, torch, warnings
    warnings.simplefilter("always")
    import varphi as vp
    x = torch.linspace(-3, 3, 100)
    y = vp.get("mish")(x)
    torch.testing.assert_close(y, torch.nn.functional.mish(x), rtol=1e-5, atol=1e-6)
    assert torch.equal(vp.get("gish").derivatives(x, 2).isfinite(), torch.ones(3, 100, dtype=bool))
"""


def python(code: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """What it said on stderr; it must have ended well."""
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return said


def test_two_processes_fill_an_empty_cache_together_and_damage_is_repaired(tmp_path):
    folder = {"VARPHI_CACHE_DIR": str(tmp_path)}
    first, second = python(SCRIPT, **folder), python(SCRIPT, **folder)
    assert "Warning" not in finish(first) + finish(second)
    kept = {path: path.read_bytes() for path in (tmp_path / "kernels").iterdir()}
    assert len(kept) == 2, "no file is left half written"

    (one, whole), (two, _) = kept.items()
    one.write_bytes(whole[: len(whole) // 2])
    two.write_bytes(b"")
    said = finish(python(SCRIPT, **folder))
    assert said.count("is damaged") == 2
    assert {path: len(path.read_bytes()) for path in kept} == {path: len(data) for path, data in kept.items()}

    # What the disk keeps is what runs.
    bytes_before = {path: path.stat().st_mtime_ns for path in kept}
    assert "Warning" not in finish(python(SCRIPT, **folder))
    assert {path: path.stat().st_mtime_ns for path in kept} == bytes_before


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    said = finish(python(SCRIPT, VARPHI_CACHE_DIR=str(tmp_path / "file" / "below")))
    assert "set VARPHI_CACHE_DIR" in said or "cannot read" in said


def test_kernels_can_be_turned_off(tmp_path):
    code = """
        import varphi as vp, torch, sys
        from varphi.activation import backend
        x = torch.linspace(-3, 3, 100, requires_grad=True)
        assert not backend._fits_kernel(x, ())
        y = vp.get("mish")(x)
        (grad,) = torch.autograd.grad(y.sum(), x)
        torch.testing.assert_close(grad, vp.derivatives("mish", x.detach(), 1)[1])
    """
    finish(
        python(
            SCRIPT + textwrap.indent(textwrap.dedent(code), "    "), VARPHI_KERNELS="0", VARPHI_CACHE_DIR=str(tmp_path)
        )
    )
    assert not (tmp_path / "kernels").exists()


def test_two_threads_make_and_run_kernels_at_once():
    x = torch.linspace(-2, 2, 5000, dtype=torch.float64)
    symbol = variable("x")
    # Formulas no other test has: each thread meets all of them unmade.
    formulas = [Formula(sin(symbol * (0.37 + k)) * symbol) for k in range(4)]
    results: dict[int, list[torch.Tensor]] = {}
    barrier = threading.Barrier(3)

    def work(place: int) -> None:
        barrier.wait()
        order = formulas if place % 2 else formulas[::-1]
        found = {id(f): run(f, x, ()) for f in order for _ in range(3)}
        results[place] = [found[id(f)] for f in formulas]

    workers = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    for place in range(3):
        for k, got in enumerate(results[place]):
            torch.testing.assert_close(got, torch.sin(x * (0.37 + k)) * x, rtol=1e-14, atol=1e-15)


class _Activated(Dataset):
    def __init__(self, layer: nn.Module, x: torch.Tensor) -> None:
        self.layer, self.x = layer, x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.layer(self.x[index])


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_of_a_data_loader(context):
    if context == "fork" and not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    layer = vp.get("mish")
    x = torch.randn(8, 12000)
    expected = layer(x)  # the parent has run the kernel, on its threads, before it forks
    loader = DataLoader(_Activated(layer, x), batch_size=2, num_workers=2, multiprocessing_context=context, timeout=60)
    torch.testing.assert_close(torch.cat(list(loader)), expected, rtol=1e-6, atol=1e-7)
