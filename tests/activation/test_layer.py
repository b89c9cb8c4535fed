"""The layer as torch users meet it: derivatives of every order, transforms, compilers, serialisation, refusals."""

import copy
import io
import math
import pickle

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap

import varphi as vp
from varphi.activation.layer import Activation
from varphi.activation.pointwise import pointwise

# A dozen kinds: kinked, a step, smooth, self-gated, with parameters, learned, with a removable singularity, unbounded.
LAYERS = {
    "relu": lambda: vp.get("relu"),
    "leaky_relu": lambda: vp.get("leaky_relu", alpha=0.2),
    "prelu learned": lambda: vp.get("prelu", learn=["alpha"]),
    "gelu": lambda: vp.get("gelu"),
    "softplus learned": lambda: vp.get("softplus", beta=1.5, learn=["beta"]),
    "mish": lambda: vp.get("mish"),
    "hill n=3": lambda: vp.get("hill", n=3, K=0.7),
    "hill learned": lambda: vp.get("hill", n=2.5, K=0.7, learn=["K", "n"]),
    "snake": lambda: vp.get("snake", a=1.3),
    "heaviside": lambda: vp.get("heaviside"),
    "sinc": lambda: vp.get("sinc"),
    "exp": lambda: vp.get("exp"),
    "hard_swish": lambda: vp.get("hard_swish"),
    "swish learned": lambda: vp.get("swish", learn=["beta"]),
}
each_layer = pytest.mark.parametrize("name", LAYERS)
SMOOTH = ["gelu", "softplus learned", "mish", "snake", "sinc", "exp", "hill learned", "swish learned"]
LEARNED = [name for name in LAYERS if name.endswith("learned")]


def make(name: str) -> Activation:
    return LAYERS[name]().double()


def points(name: str, shape=(2, 5)) -> torch.Tensor:
    """Away from kinks; where the function is defined on both sides of zero, on both sides."""
    x = torch.linspace(-2.63, 2.71, math.prod(shape), dtype=torch.float64).reshape(shape)
    return x.abs() + 0.1 if name.startswith("hill") else x


def plain_formula(layer: Activation, x: torch.Tensor) -> torch.Tensor:
    """The defining lines over tensors: torch's own autograd through torch's own operations."""
    values = layer.values | {name: layer.current(name) for name in layer.learn}
    result = layer.definition.function(x, **values)
    return result if isinstance(result, torch.Tensor) else torch.full_like(x, result)


def stored(layer: Activation) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone().double() for name, p in layer.named_parameters()}


# ------------------------------------------------------------------------------------------------------ derivatives


@each_layer
def test_gradients_of_first_and_second_order(name):
    layer, x = make(name), points(name).requires_grad_()
    parameters = list(layer.parameters())

    def function(x, *raw):
        return functional_call(layer, dict(zip(dict(layer.named_parameters()), raw, strict=True)), (x,))

    assert torch.autograd.gradcheck(function, (x, *parameters), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(function, (x, *parameters))


@each_layer
def test_third_order_by_autograd_is_the_tower(name):
    layer, x = make(name), points(name).requires_grad_()
    rows = [layer(x)]
    for _ in range(3):
        rows.append(torch.autograd.grad(rows[-1].sum(), x, create_graph=True)[0])
    expected = layer.derivatives(x.detach(), 3)
    torch.testing.assert_close(torch.stack(rows).detach(), expected.detach(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", LEARNED)
def test_gradients_by_learned_parameters_are_those_of_the_defining_lines(name):
    layer, x = make(name), points(name)
    parameters = list(layer.parameters())
    direction = torch.linspace(0.3, 1.7, x.numel(), dtype=x.dtype).reshape(x.shape)
    ours = torch.autograd.grad((direction * layer(x)).sum(), parameters, create_graph=True)
    theirs = torch.autograd.grad((direction * plain_formula(layer, x)).sum(), parameters, create_graph=True)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    for a, b in zip(ours, theirs, strict=True):
        if not b.requires_grad:  # linear in the parameter
            assert not a.requires_grad or not any(g.any() for g in torch.autograd.grad(a, parameters))
            continue
        second = torch.autograd.grad(a, parameters, retain_graph=True)
        torch.testing.assert_close(
            second, torch.autograd.grad(b, parameters, retain_graph=True), rtol=1e-11, atol=1e-12
        )


@each_layer
def test_the_graph_saves_the_input_and_nothing_else(name):
    layer, x = make(name), points(name, (64, 32)).requires_grad_()
    saved: list[torch.Tensor] = []

    def keep(tensor):
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = layer(x)
    large = [s for s in saved if s.numel() > 1]
    assert [s.data_ptr() for s in large] == [x.data_ptr()]
    y.sum().backward()


def test_a_gradient_of_another_layout_meets_the_right_elements():
    layer = vp.get("mish")
    x = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for direction in (torch.arange(24.0).double().reshape(4, 6).T, torch.tensor(2.0).double().expand(6, 4)):
        (ours,) = torch.autograd.grad(layer(x), x, direction)
        torch.testing.assert_close(ours, direction * layer.derivatives(x.detach(), 1)[1], rtol=1e-14, atol=0)


def test_backward_twice_and_retained():
    x = torch.tensor([0.3, -1.2], requires_grad=True)
    y = vp.get("gelu")(x).sum()
    y.backward(retain_graph=True)
    first = x.grad.clone()
    y.backward()
    assert torch.equal(x.grad, 2 * first)
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_changing_the_input_in_place_is_noticed_as_for_torch_layers():
    x = torch.ones(3, requires_grad=True)
    h = 1 * x
    y = vp.get("tanh")(h)
    h += 1
    with pytest.raises(RuntimeError, match="inplace"):
        y.sum().backward()


# ------------------------------------------------------------------------------------------------------- torch.func


@each_layer
def test_func_transforms_agree_with_the_tower(name):
    layer, x = make(name), points(name, (7,))
    f, f1, f2 = layer.derivatives(x, 2).detach()
    close = {"rtol": 1e-12, "atol": 1e-13}
    torch.testing.assert_close(vmap(layer)(x), f, **close)
    torch.testing.assert_close(vmap(grad(layer))(x), f1, **close)
    torch.testing.assert_close(vmap(grad(grad(layer)))(x), f2, **close)
    torch.testing.assert_close(jvp(layer, (x,), (2 * torch.ones_like(x),)), (f, 2 * f1), **close)
    torch.testing.assert_close(jacrev(layer)(x), torch.diag(f1), **close)
    torch.testing.assert_close(jacfwd(layer)(x), torch.diag(f1), **close)
    torch.testing.assert_close(hessian(lambda t: layer(t).sum())(x), torch.diag(f2), **close)
    torch.testing.assert_close(jacfwd(jacfwd(lambda t: layer(t).sum()))(x), torch.diag(f2), **close)


@pytest.mark.parametrize("name", LEARNED)
def test_an_ensemble_by_vmap_over_learned_parameters(name):
    layer, x = make(name), points(name, (4, 3))
    copies = {k: torch.stack([v - 0.2, v, v + 0.3]) for k, v in stored(layer).items()}

    def run(parameters, x):
        return functional_call(layer, parameters, (x,))

    one_by_one = [run({k: v[i] for k, v in copies.items()}, x) for i in range(3)]
    torch.testing.assert_close(vmap(run, (0, None))(copies, x), torch.stack(one_by_one), rtol=1e-12, atol=1e-14)

    def loss(parameters, x):
        return (run(parameters, x) ** 2).sum()

    batched = vmap(grad(loss), (0, None))(copies, x)
    for i in range(3):
        single = grad(loss)({k: v[i] for k, v in copies.items()}, x)
        torch.testing.assert_close({k: v[i] for k, v in batched.items()}, single, rtol=1e-11, atol=1e-13)
    xs = torch.stack([x, x + 0.1, 2 * x], dim=1)
    both = vmap(run, (0, 1), out_dims=1)(copies, xs)
    expected = [run({k: v[i] for k, v in copies.items()}, xs[:, i]) for i in range(3)]
    torch.testing.assert_close(both, torch.stack(expected, 1), rtol=1e-12, atol=1e-14)


@each_layer
def test_forward_mode(name):
    layer, x = make(name), points(name)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.full_like(x, 3.0))
        value, tangent = torch.autograd.forward_ad.unpack_dual(layer(dual))
    rows = layer.derivatives(x, 1).detach()
    torch.testing.assert_close(value.detach(), rows[0], rtol=1e-13, atol=1e-14)
    slope = torch.zeros_like(x) if tangent is None else tangent.detach()
    torch.testing.assert_close(slope, 3 * rows[1], rtol=1e-13, atol=1e-14)


# ------------------------------------------------------------------------------------------------- compilers, export


def _loss_and_grads(layer, x, function=None):
    x = x.clone().requires_grad_()
    loss = ((layer if function is None else function)(x) ** 2).sum()
    inputs = [x, *layer.parameters()]
    return loss.detach(), torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)


@each_layer
def test_compiles_whole_forward_and_backward(name):
    torch.compiler.reset()
    layer, x = make(name), points(name)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(_loss_and_grads(layer, x, compiled), _loss_and_grads(layer, x), rtol=1e-12, atol=1e-13)


def test_inductor_compiles_a_model_with_it():
    torch.compiler.reset()
    model = nn.Sequential(nn.Linear(3, 8), vp.get("mish"), nn.Linear(8, 1))
    x = torch.randn(5, 3)
    try:
        compiled = torch.compile(model, fullgraph=True)(x)
    except torch._inductor.exc.InductorError as error:
        pytest.skip(f"inductor has no working C++ compiler here: {error}")
    torch.testing.assert_close(compiled, model(x), rtol=1e-5, atol=1e-6)


@each_layer
def test_exports(name):
    layer, x = make(name), points(name)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(layer, (x,), dynamic_shapes=({0: batch},))
    longer = torch.cat([x, x + 0.01, x])
    torch.testing.assert_close(program.module()(longer), layer(longer), rtol=1e-12, atol=1e-13)


def test_an_exported_program_is_saved_and_loaded():
    layer, x = vp.get("softplus", beta=2.0, learn=["beta"]), torch.linspace(-3, 3, 9)
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(layer, (x,)), buffer)
    buffer.seek(0)
    torch.testing.assert_close(torch.export.load(buffer).module()(x), layer(x))


@each_layer
def test_fx_traces_through(name):
    layer, x = make(name), points(name)
    traced = torch.fx.symbolic_trace(nn.Sequential(nn.Identity(), layer))
    torch.testing.assert_close(traced(x), layer(x), rtol=1e-12, atol=1e-13)


@each_layer
def test_jit_traces(name):
    layer, x = make(name), points(name)
    traced = torch.jit.trace(layer, (x,), check_trace=False)
    other = x + 0.01
    torch.testing.assert_close(traced(other), layer(other), rtol=1e-12, atol=1e-13)


# -------------------------------------------------------------------------------------------------- dtypes, autocast


@each_layer
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_result_has_the_dtype_and_shape_of_the_input(name, dtype):
    layer = LAYERS[name]()
    for shape in [(), (1,), (3, 0), (0,), (2, 3, 4)]:
        x = points(name, (24,)).to(dtype)[: math.prod(shape)].reshape(shape).requires_grad_()
        y = layer(x)
        assert (y.dtype, y.shape) == (dtype, torch.Size(shape))
        y.sum().backward()
        assert (x.grad.dtype, x.grad.shape) == (dtype, torch.Size(shape))
        assert layer.derivatives(x.detach(), 2).shape == (3, *shape)


@each_layer
def test_half_precision_rounds_only_the_result(name):
    layer = LAYERS[name]()
    for dtype in (torch.bfloat16, torch.float16):
        x = points(name).to(dtype)
        torch.testing.assert_close(layer(x), layer(x.double()).to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-6)


def test_a_layer_moves_with_its_model():
    model = nn.Sequential(nn.Linear(2, 2), vp.get("softplus", learn=["beta"]))
    assert model[1].log_beta.dtype is torch.float32
    model.to(torch.float64)
    assert model[1].log_beta.dtype is torch.float64
    assert model(torch.ones(1, 2, dtype=torch.float64)).dtype is torch.float64
    model.to(torch.bfloat16)
    assert model(torch.ones(1, 2, dtype=torch.bfloat16)).dtype is torch.bfloat16


def test_autocast_is_followed():
    model = nn.Sequential(nn.Linear(4, 4), vp.get("gelu"), nn.Linear(4, 4), vp.get("softplus", learn=["beta"]))
    x = torch.randn(3, 4, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(x)
        assert y.dtype is torch.bfloat16
    y.float().sum().backward()
    assert x.grad.dtype is torch.float32
    assert model[3].log_beta.grad is not None and torch.isfinite(model[3].log_beta.grad)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@each_layer
def test_cuda_agrees_with_cpu(name):
    layer, x = make(name), points(name)
    here = _loss_and_grads(layer, x)
    there = _loss_and_grads(copy.deepcopy(layer).cuda(), x.cuda())
    torch.testing.assert_close(there, here, rtol=1e-11, atol=1e-12, check_device=False)


def test_the_meta_device_has_shapes():
    x = torch.empty(3, 4, device="meta")
    for name in LAYERS:
        layer = LAYERS[name]().to("meta")
        assert layer(x).shape == (3, 4)
        assert layer(x).device.type == "meta"


def test_a_model_is_made_and_run_under_a_default_device():
    with torch.device("meta"):
        layer = vp.get("softplus", learn=["beta"])
        assert layer.log_beta.device.type == "meta"
        assert layer(torch.empty(2)).device.type == "meta"


def test_inference_mode():
    with torch.inference_mode():
        x = torch.linspace(-1, 1, 5)
        y = vp.get("mish")(x)
    assert y.is_inference()
    torch.testing.assert_close(y.clone(), nn.functional.mish(x))


# ------------------------------------------------------------------------------------------------ state, copies, text


@each_layer
def test_copies_are_equal_and_independent(name):
    layer, x = make(name), points(name)
    for other in (
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        copy.deepcopy(pickle.loads(pickle.dumps(layer))),
    ):
        assert torch.equal(other(x), layer(x))
        assert repr(other) == repr(layer)
        assert other.definition is layer.definition
        with torch.no_grad():
            for parameter in other.parameters():
                parameter += 0.5
        if layer.learn:
            assert not torch.equal(other(x), layer(x))


def test_a_whole_model_is_saved_and_loaded():
    model = nn.Sequential(nn.Linear(2, 3), vp.get("hill", n=2.5, learn=["K", "n"]), vp.get("relu"))
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    x = torch.rand(4, 2)
    assert torch.equal(loaded(x), model(x))


def test_a_formula_is_copied_and_pickled():
    layer = vp.as_activation("x*tanh(exp(x))")
    x = torch.linspace(-2, 2, 9)
    assert torch.equal(pickle.loads(pickle.dumps(layer))(x), layer(x))
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))


@pytest.mark.parametrize("name", LEARNED)
def test_state_dict_round_trip(name):
    layer, fresh = make(name), make(name)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.7
    assert set(layer.state_dict()) == {n for n, _ in layer.named_parameters()}
    fresh.load_state_dict(layer.state_dict(), strict=True)
    assert torch.equal(fresh(points(name)), layer(points(name)))
    assert fresh.numbers() == layer.numbers()


def test_the_stored_name_says_how_a_parameter_is_kept_in_its_range():
    assert list(vp.get("softplus", learn=["beta"]).state_dict()) == ["log_beta"]
    assert list(vp.get("hill", learn=["K", "n"]).state_dict()) == ["log_K", "log_n"]
    assert list(vp.get("boltzmann_gate", learn="half").state_dict()) == ["half_"]
    assert not vp.get("softplus").state_dict()


@pytest.mark.parametrize("start", [1e-3, 0.5, 7.0, 1e4])
def test_a_learned_parameter_starts_where_it_was_put(start):
    layer = vp.get("softplus", beta=start, learn=["beta"]).double()
    assert layer.numbers()["beta"] == pytest.approx(start, rel=1e-6)


@pytest.mark.parametrize("optimiser", [torch.optim.SGD, torch.optim.Adam])
def test_no_step_leaves_the_constraint(optimiser):
    layer = vp.get("softplus", beta=0.1, learn=["beta"])
    steps = optimiser(layer.parameters(), lr=1.0)
    x = torch.linspace(-1, 1, 16)
    for _ in range(30):
        steps.zero_grad()
        (-layer(x).sum()).backward()
        steps.step()
        layer.definition.values(layer.numbers())  # refuses what is outside


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    "name, parameter", [("softplus", "beta"), ("hill", "n"), ("scad_shrink", "a"), ("smu", "alpha")]
)
def test_however_far_a_learned_parameter_went_it_is_inside_its_range(name, parameter, dtype):
    layer = vp.get(name, learn=[parameter]).to(dtype)
    (raw,) = layer.parameters()
    for far in (-math.inf, -1e4, -30.0, 30.0, 1e4, math.inf):
        with torch.no_grad():
            raw.fill_(far)
        layer.definition.values(layer.numbers())  # refuses what is outside


def test_an_optimiser_finds_the_parameter():
    layer = vp.get("swish", learn=["beta"])
    target = vp.get("swish", beta=2.5)
    x = torch.linspace(-4, 4, 200)
    steps = torch.optim.LBFGS(layer.parameters(), lr=1.0, max_iter=100)

    def closure():
        steps.zero_grad()
        loss = ((layer(x) - target(x)) ** 2).sum()
        loss.backward()
        return loss

    steps.step(closure)
    assert layer.numbers()["beta"] == pytest.approx(2.5, rel=1e-3)


def test_text():
    assert repr(vp.get("relu")) == "relu()"
    assert repr(vp.get("softplus", beta=5)) == "softplus(beta=5)"
    assert repr(vp.get("softplus", beta=5, learn=["beta"])) == "softplus(beta=5, learn=('beta',))"
    assert repr(vp.get("hill", learn="n")) == "hill_activator(K=1, n=2, learn=('n',))"
    layer = vp.get("softplus", learn=["beta"])
    with torch.no_grad():
        layer.log_beta += math.log(3)
    assert repr(layer) == "softplus(beta=3, learn=('beta',))"


# ---------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.bool, torch.complex64, torch.complex128], ids=str)
def test_tensors_that_are_not_floating_point_are_refused(dtype):
    layer = vp.get("relu")
    with pytest.raises(TypeError, match=r"floating-point.*x\.float\(\)"):
        layer(torch.ones(3, dtype=dtype))
    with pytest.raises(TypeError, match="floating-point"):
        layer.derivatives(torch.ones(3, dtype=dtype), 1)


@pytest.mark.parametrize("value", ["abc", [1.0], "1.0x", torch.ones(2), max], ids=lambda v: type(v).__name__)
def test_parameters_that_are_no_number_are_refused(value):
    with pytest.raises(TypeError, match=r"softplus: beta must be a finite number > 0, got"):
        vp.get("softplus", beta=value)


@pytest.mark.parametrize("value", [None, 1j])
def test_none_and_complex_are_refused(value):
    with pytest.raises(TypeError, match="softplus: beta must be"):
        vp.get("softplus", beta=value)


@pytest.mark.parametrize(
    "value", [-1, 0, -0.0, math.nan, math.inf, -math.inf, True, False, 10**400], ids=lambda v: str(v)[:8]
)
def test_numbers_outside_the_range_are_refused(value):
    with pytest.raises(ValueError, match=r"softplus: beta must be a finite number > 0, got"):
        vp.get("softplus", beta=value)


def test_unknown_parameters_are_refused_with_the_known_ones():
    with pytest.raises(TypeError, match=r"softplus has no parameter 'gamma'; it takes beta=1"):
        vp.get("softplus", gamma=1)
    with pytest.raises(TypeError, match="relu has no parameter 'alpha'; it takes no parameters"):
        vp.get("relu", alpha=1)


def test_unknown_parameters_are_not_learned():
    with pytest.raises(TypeError, match="softplus has no parameter 'gamma' to learn; it has beta"):
        vp.get("softplus", learn=["gamma"])
    with pytest.raises(TypeError, match="relu has no parameter 'alpha' to learn; it has no parameters"):
        vp.get("relu", learn="alpha")


def test_whole_numbers_are_not_learned():
    whole = [(name, p.name) for name in vp.names() for p in vp.get(name).definition.parameters if p.constraint.whole]
    assert whole, "the catalogue has activations with a whole-numbered parameter"
    for name, parameter in whole:
        with pytest.raises(ValueError, match=f"{name}: {parameter} is a whole number and cannot be learned"):
            vp.get(name, learn=[parameter])
        with pytest.raises(ValueError, match=f"{name}: {parameter} must be a whole number"):
            vp.get(name, **{parameter: 1.5})


def test_parameters_at_the_edge_of_their_range_are_not_learned():
    closed = [
        (name, p)
        for name in vp.names()
        for p in vp.get(name).definition.parameters
        if p.constraint.closed and not p.constraint.whole
    ]
    assert closed
    for name, parameter in closed:
        edge = parameter.constraint.lower
        assert math.isfinite(edge)
        vp.get(name, **{parameter.name: edge})
        with pytest.raises(ValueError, match=f"{parameter.name} must start inside its range to be learned"):
            vp.get(name, learn=[parameter.name], **{parameter.name: edge})


def test_every_parameter_of_the_catalogue_can_be_learned():
    x = torch.linspace(-2.03, 2.113, 9, dtype=torch.float64)  # off every kink
    for name in vp.names():
        for parameter in vp.get(name).definition.parameters:
            inside = parameter.constraint.lower < parameter.default < parameter.constraint.upper
            if parameter.constraint.whole or not inside:
                continue
            layer = vp.get(name, learn=[parameter.name]).double()
            (raw,) = layer.parameters()
            assert layer.numbers()[parameter.name] == pytest.approx(parameter.default, rel=1e-6, abs=1e-6)
            ours = torch.autograd.grad(layer(x).sum(), raw, materialize_grads=True, allow_unused=True)[0]
            theirs = plain_formula(layer, x).sum()
            if not theirs.requires_grad:  # it has no say on these x
                assert ours == 0
                continue
            theirs = torch.autograd.grad(theirs, raw, materialize_grads=True, allow_unused=True)[0]
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")


# ------------------------------------------------------------------------------------- parameters that vary by element


def test_a_parameter_for_each_row():
    formula = vp.get("softplus", learn=["beta"]).formula
    x = torch.linspace(-3, 3, 12, dtype=torch.float64).reshape(3, 4)
    beta = torch.tensor([[0.5], [1.0], [4.0]], dtype=torch.float64)
    got = pointwise(formula, x, beta)
    for row, value in enumerate(beta.flatten().tolist()):
        torch.testing.assert_close(got[row], vp.get("softplus", beta=value)(x[row]), rtol=1e-14, atol=0)


def test_gradients_by_a_parameter_for_each_row():
    formula = vp.get("softplus", learn=["beta"]).formula
    x = torch.linspace(-2.1, 2.3, 12, dtype=torch.float64).reshape(3, 4).requires_grad_()
    for shape in [(3, 1), (4,), (1, 4), (3, 4), (1, 1), ()]:
        beta = torch.linspace(0.5, 2, math.prod(shape), dtype=torch.float64).reshape(shape).requires_grad_()
        assert torch.autograd.gradcheck(lambda x, b: pointwise(formula, x, b), (x, beta), check_forward_ad=True)
        assert torch.autograd.gradgradcheck(lambda x, b: pointwise(formula, x, b), (x, beta))


def test_the_result_keeps_the_shape_of_x():
    formula = vp.get("softplus", learn=["beta"]).formula
    with pytest.raises(ValueError, match=r"beta of shape \(3, 1\) does not broadcast to x of shape \(4,\)"):
        pointwise(formula, torch.ones(4), torch.ones(3, 1))
    with pytest.raises(ValueError, match="does not broadcast"):
        pointwise(formula, torch.ones(4), torch.ones(3))
