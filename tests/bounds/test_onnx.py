"""ONNX files as torch models: every operator against onnxruntime, shapes, refusals."""

import gzip
import sys

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import varphi as vp
from varphi.bounds import UncertifiedOperation, load_onnx
from varphi.bounds.onnx import read_onnx

from .graphs import chain, graph, node, run, saved

RNG = np.random.default_rng(0)


def numbers(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def whole(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def assert_same(model: onnx.ModelProto, shape: tuple[int, ...], path, positive: bool = False) -> nn.Module:
    """The torch model gives what onnxruntime gives, for one sample and for each of a batch."""
    read = read_onnx(saved(model, path / "m.onnx"))
    samples = [numbers(*shape) for _ in range(3)]
    samples = [np.abs(s) + 0.1 if positive else s for s in samples]
    wanted = np.stack([run(model, s).reshape(read.output) for s in samples])
    batch = torch.from_numpy(np.stack([s.reshape(read.shape) for s in samples]))
    with torch.no_grad():
        given = read.model(batch).numpy()
    assert given.shape == wanted.shape
    np.testing.assert_allclose(given, wanted, rtol=2e-5, atol=2e-6)
    return read.model


PLAIN = (
    "Relu Sigmoid Tanh Exp Sin Cos Neg Abs Erf Sign Atan Softsign Softplus Identity Elu Selu LeakyRelu HardSigmoid "
    "Sinh Cosh Tan Floor Celu ThresholdedRelu"
)
POINTWISE = [
    *[(name, {}) for name in PLAIN.split()],
    ("Elu", {"alpha": 0.5}),
    ("Selu", {"alpha": 1.5, "gamma": 0.7}),
    ("LeakyRelu", {"alpha": 0.2}),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
    ("Celu", {"alpha": 2.0}),
    ("ThresholdedRelu", {"alpha": 0.3}),
]


@pytest.mark.parametrize(("kind", "attributes"), POINTWISE)
def test_a_pointwise_operator(kind, attributes, tmp_path):
    assert_same(graph([node(kind, **attributes)], (1, 3, 4)), (1, 3, 4), tmp_path)


@pytest.mark.parametrize("kind", ["Log", "Sqrt", "Reciprocal"])
def test_a_pointwise_operator_of_positive_numbers(kind, tmp_path):
    assert_same(graph([node(kind)], (1, 5)), (1, 5), tmp_path, positive=True)


@pytest.mark.parametrize(
    ("kind", "opset", "attributes"),
    [("Gelu", 20, {}), ("Gelu", 20, {"approximate": "tanh"}), ("Mish", 18, {}), ("HardSwish", 14, {})],
)
def test_a_newer_pointwise_operator(kind, opset, attributes, tmp_path):
    assert_same(graph([node(kind, **attributes)], (1, 5), opset=opset), (1, 5), tmp_path)


W = numbers(4, 3)
# What each is: nodes, input shape, constants, operator set.
OTHERS = {
    "matmul": ([node("MatMul", "x w")], (1, 4), {"w": W}, 17),
    "matmul and bias": ([node("MatMul", "x w", "h"), node("Add", "h b")], (1, 4), {"w": W, "b": numbers(3)}, 17),
    "bias before": ([node("MatMul", "x w", "h"), node("Add", "b h")], (1, 4), {"w": W, "b": numbers(1, 3)}, 17),
    "a product used twice": (
        [node("MatMul", "x w", "h"), node("Add", "h b", "k"), node("Mul", "h k")],
        (1, 4),
        {"w": W, "b": numbers(3)},
        17,
    ),
    "matmul of a matrix": ([node("MatMul", "x w")], (1, 5, 4), {"w": W}, 17),
    "matmul of a vector": ([node("MatMul", "x w")], (4,), {"w": W}, 17),
    "matmul by a vector": ([node("MatMul", "x w")], (1, 5, 4), {"w": numbers(4)}, 17),
    "matmul from the left": ([node("MatMul", "w x")], (3, 2), {"w": W}, 17),
    "a vector from the left": ([node("MatMul", "w x")], (3,), {"w": W}, 17),
    "gemm": ([node("Gemm", "x w b")], (1, 4), {"w": W, "b": numbers(3)}, 17),
    "gemm, scaled": ([node("Gemm", "x w b", transB=1, alpha=0.5, beta=2.0)], (1, 3), {"w": W, "b": numbers(1, 4)}, 17),
    "gemm without bias": ([node("Gemm", "x w", transB=1)], (1, 3), {"w": W}, 17),
    "gemm of the transposed": ([node("Gemm", "x w b", transA=1)], (4, 2), {"w": W, "b": numbers(3)}, 17),
    "conv": (
        [node("Conv", "x w b", pads=[1, 2, 1, 2], strides=[2, 1], dilations=[1, 2])],
        (1, 2, 7, 8),
        {"w": numbers(4, 2, 3, 3), "b": numbers(4)},
        17,
    ),
    "conv, groups": ([node("Conv", "x w", group=2)], (1, 4, 6, 6), {"w": numbers(4, 2, 3, 3)}, 17),
    "conv, one dimension": ([node("Conv", "x w b")], (1, 2, 9), {"w": numbers(3, 2, 4), "b": numbers(3)}, 17),
    "conv, uneven": ([node("Conv", "x w", pads=[0, 1, 2, 0])], (1, 2, 6, 6), {"w": numbers(3, 2, 3, 3)}, 17),
    "conv, same": (
        [node("Conv", "x w", auto_pad="SAME_UPPER", strides=[2, 2])],
        (1, 2, 7, 8),
        {"w": numbers(3, 2, 4, 3)},
        17,
    ),
    "conv, same lower": (
        [node("Conv", "x w", auto_pad="SAME_LOWER", strides=[2, 1])],
        (1, 2, 7, 8),
        {"w": numbers(3, 2, 4, 2)},
        17,
    ),
    "conv transpose": (
        [node("ConvTranspose", "x w b", strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1], group=2)],
        (1, 4, 4, 5),
        {"w": numbers(4, 3, 3, 3), "b": numbers(6)},
        17,
    ),
    "batch norm": (
        [node("BatchNormalization", "x s b m v", epsilon=0.01)],
        (1, 3, 4, 4),
        {"s": numbers(3), "b": numbers(3), "m": numbers(3), "v": np.abs(numbers(3))},
        17,
    ),
    "max pool": ([node("MaxPool", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 0])], (1, 2, 7, 6), {}, 17),
    "average pool": (
        [node("AveragePool", kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 1, 1])],
        (1, 2, 7, 6),
        {},
        17,
    ),
    "average pool, padding counted": (
        [node("AveragePool", kernel_shape=[2, 2], pads=[1, 0, 0, 1], count_include_pad=1)],
        (1, 2, 6, 6),
        {},
        17,
    ),
    "global average": ([node("GlobalAveragePool")], (1, 2, 5, 4), {}, 17),
    "global max": ([node("GlobalMaxPool")], (1, 2, 5, 4), {}, 17),
    "reshape": ([node("Reshape", "x s")], (1, 2, 6), {"s": whole(0, -1, 3)}, 17),
    "reshape to no batch": ([node("Reshape", "x s")], (1, 2, 6), {"s": whole(4, 3)}, 17),
    "flatten": ([node("Flatten")], (1, 2, 3, 4), {}, 17),
    "flatten, axis 2": ([node("Flatten", axis=2)], (1, 2, 3, 4), {}, 17),
    "flatten, axis 0": ([node("Flatten", axis=0)], (1, 2, 3), {}, 17),
    "squeeze": ([node("Squeeze", "x a")], (1, 1, 3, 1), {"a": whole(1, -1)}, 17),
    "squeeze the batch": ([node("Squeeze", "x a")], (1, 3, 2), {"a": whole(0)}, 17),
    "squeeze, old": ([node("Squeeze", axes=[1])], (1, 1, 3), {}, 11),
    "unsqueeze": ([node("Unsqueeze", "x a")], (1, 3), {"a": whole(0, 2)}, 17),
    "transpose": ([node("Transpose", perm=[0, 2, 1])], (1, 2, 3), {}, 17),
    "transpose of the batch": ([node("Transpose", perm=[2, 0, 1])], (1, 2, 3), {}, 17),
    "transpose, default": ([node("Transpose")], (2, 3), {}, 17),
    "concat": ([node("Relu", output="h"), node("Concat", "x h x", axis=-1)], (1, 2, 3), {}, 17),
    "concat of the batch": ([node("Relu", output="h"), node("Concat", "x h", axis=0)], (1, 4), {}, 17),
    "concat with constants": ([node("Concat", "c x c", axis=1)], (1, 2, 3), {"c": numbers(1, 2, 3)}, 17),
    "slice": (
        [node("Slice", "x s e a t")],
        (1, 4, 8),
        {"s": whole(1, -1), "e": whole(100, -(2**62)), "a": whole(1, 2), "t": whole(1, -3)},
        17,
    ),
    "slice, old": ([node("Slice", starts=[0, 1], ends=[1, 3], axes=[0, 1])], (1, 4, 2), {}, 9),
    "split": ([node("Split", "x s", "a b", axis=1), node("Mul", "a b")], (1, 6), {"s": whole(3, 3)}, 17),
    "split, old": ([node("Split", "x", "a b", axis=1), node("Sub", "a b")], (1, 6), {}, 11),
    "gather": ([node("Gather", "x i", axis=2)], (1, 2, 5), {"i": np.array([[0, -1], [3, 3]])}, 17),
    "gather one": ([node("Gather", "x i", axis=1)], (1, 5), {"i": np.array(2)}, 17),
    "gather the batch": ([node("Gather", "x i", axis=0)], (1, 5), {"i": np.array(0)}, 17),
    "pad": ([node("Pad", "x p c")], (1, 2, 3), {"p": whole(0, 1, 0, 0, 0, 2), "c": np.float32(1.5)}, 17),
    "reduce mean": ([node("ReduceMean", axes=[1, -1], keepdims=0)], (1, 3, 2, 4), {}, 17),
    "reduce sum": ([node("ReduceSum", "x a")], (1, 3, 4), {"a": whole(2)}, 17),
    "reduce sum of all": ([node("ReduceSum", keepdims=0)], (1, 3, 4), {}, 17),
    "reduce without a batch": ([node("ReduceMean", axes=[0])], (3, 4), {}, 17),
    "add": ([node("Add", "x c")], (1, 2, 3), {"c": numbers(2, 1)}, 17),
    "sub": ([node("Sub", "c x")], (1, 2, 3), {"c": numbers(1, 3)}, 17),
    "mul": ([node("Mul", "x c")], (1, 2, 3), {"c": np.float32(0.3)}, 17),
    "div": ([node("Div", "x c")], (1, 2, 3), {"c": numbers(3)}, 17),
    "div by the input": (
        [node("Exp", output="h"), node("Div", "c h", "k"), node("Div", "k h")],
        (1, 3),
        {"c": np.float32(2.5)},
        17,
    ),
    "sum": ([node("Relu", output="h"), node("Sum", "x h c")], (1, 3), {"c": numbers(3)}, 17),
    "max": ([node("Neg", output="h"), node("Max", "c x h d")], (1, 3), {"c": numbers(3), "d": np.float32(0.1)}, 17),
    "min": ([node("Sin", output="h"), node("Min", "x h c")], (1, 3), {"c": numbers(3)}, 17),
    "clip": ([node("Clip", "x _ c")], (1, 5), {"c": np.float32(0.5)}, 17),
    "clip, old": ([node("Clip", min=-0.5, max=0.7)], (1, 5), {}, 9),
    "pow": ([node("Pow", "x c")], (1, 5), {"c": np.float32(3)}, 17),
    "prelu": ([node("PRelu", "x c")], (1, 3, 4), {"c": numbers(3, 1)}, 17),
    "where": ([node("Greater", "x z", "g"), node("Where", "g x z")], (1, 5), {"z": np.float32(0.2)}, 17),
    "dropout": ([node("Dropout")], (1, 5), {}, 17),
    "cast": ([node("Cast", to=1)], (1, 5), {}, 17),
    "constants and shapes": (
        [
            node("Shape", output="s"),
            node("Gather", "s i", "n"),
            node("Unsqueeze", "n a", "u"),
            node("Concat", "o u", "w", axis=0),
            node("Reshape", "x w"),
        ],
        (1, 2, 6),
        {"i": np.array(2), "a": whole(0), "o": whole(-1)},
        17,
    ),
    "upsample": ([node("Upsample", "x c")], (1, 2, 3, 3), {"c": np.array([1, 1, 2, 2], np.float32)}, 9),
    "resize": (
        [node("Resize", "x _ c", coordinate_transformation_mode="asymmetric", nearest_mode="floor")],
        (1, 2, 3, 3),
        {"c": np.array([1, 1, 2, 1.5], np.float32)},
        17,
    ),
    "resize to sizes": ([node("Resize", "x _ _ n")], (1, 2, 4, 3), {"n": whole(1, 2, 7, 2)}, 17),
    "log softmax": ([node("LogSoftmax")], (1, 3, 4), {}, 17),
    "softmax, old": ([node("Softmax")], (1, 4), {}, 11),
    "layer norm": (
        [node("LayerNormalization", "x s b", axis=-2, epsilon=0.01)],
        (1, 2, 3, 4),
        {"s": numbers(3, 4), "b": numbers(3, 4)},
        17,
    ),
    "instance norm": ([node("InstanceNormalization", "x s b")], (1, 3, 2, 4), {"s": numbers(3), "b": numbers(3)}, 17),
    "softmax": ([node("Softmax", axis=1)], (1, 3, 4), {}, 17),
    "two tensors' product": ([node("Transpose", output="h", perm=[0, 2, 1]), node("MatMul", "x h")], (1, 3, 4), {}, 17),
}


@pytest.mark.parametrize("what", OTHERS)
def test_an_operator(what, tmp_path):
    nodes, shape, constants, opset = OTHERS[what]
    assert_same(graph(nodes, shape, constants, opset), shape, tmp_path)


@pytest.mark.parametrize("what", OTHERS)
def test_bounds_hold_for_every_operator(what, tmp_path):
    nodes, shape, constants, opset = OTHERS[what]
    read = read_onnx(saved(graph(nodes, shape, constants, opset), tmp_path / "m.onnx"))
    x = torch.from_numpy(numbers(2, *read.shape))
    lower, upper = vp.bounds(read.model, x, 0.1)
    with torch.no_grad():
        for _ in range(20):
            y = read.model(x + 0.1 * (2 * torch.rand(x.shape) - 1))
            assert (lower <= y).all()
            assert (y <= upper).all()


def test_the_bounds_of_a_loaded_model_are_those_of_its_original(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    loaded = load_onnx(saved(chain(model, 4), tmp_path / "m.onnx"))
    x = torch.randn(2, 4)
    torch.testing.assert_close(loaded(x), model(x))
    for name, own in zip(("lower", "upper"), vp.bounds(loaded, x, 0.1), strict=True):
        torch.testing.assert_close(own, getattr(vp.bounds(model, x, 0.1), name), rtol=1e-5, atol=1e-5)


class Exported(nn.Module):
    """What torch's exporter spells out: an activation by erf, a residual connection, a pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4)
        self.first, self.second = nn.Linear(16, 6), nn.Linear(6, 6)

    def forward(self, x):
        h = nn.functional.avg_pool2d(nn.functional.gelu(self.norm(self.conv(x))), 2)
        h = nn.functional.silu(self.first(h.flatten(1)))
        return self.second(h) + h


@pytest.mark.filterwarnings("ignore")
def test_a_model_exported_by_torch(tmp_path):
    torch.manual_seed(0)
    model, x = Exported().eval(), torch.randn(2, 1, 8, 8)
    torch.onnx.export(model, (x[:1],), str(tmp_path / "m.onnx"), dynamo=False, opset_version=17)
    loaded = load_onnx(tmp_path / "m.onnx")
    torch.testing.assert_close(loaded(x), model(x))
    for name, own in zip(("lower", "upper"), vp.bounds(loaded, x, 0.01), strict=True):
        torch.testing.assert_close(own, getattr(vp.bounds(model, x, 0.01), name), rtol=1e-4, atol=1e-4)


def test_a_packed_file_is_unpacked(tmp_path):
    proto = graph([node("Relu")], (1, 3))
    (tmp_path / "m.onnx.gz").write_bytes(gzip.compress(proto.SerializeToString()))
    assert load_onnx(tmp_path / "m.onnx.gz")(torch.tensor([[-1.0, 0.0, 2.0]])).tolist() == [[0.0, 0.0, 2.0]]
    assert load_onnx(tmp_path / "m.onnx")(torch.ones(2, 3)).shape == (2, 3)  # beside it, as lists of instances mean it


def test_a_named_batch_is_a_batch(tmp_path):
    loaded = load_onnx(saved(graph([node("Relu")], ("batch", 3)), tmp_path / "m.onnx"))
    assert loaded(torch.ones(5, 3)).shape == (5, 3)


def test_a_model_of_float64(tmp_path):
    proto = graph([node("MatMul", "x w")], (1, 2), {"w": np.array([[0.1], [0.2]])}, kind=np.float64)
    loaded = load_onnx(saved(proto, tmp_path / "m.onnx"))
    assert loaded(torch.ones(1, 2, dtype=torch.float64)).item() == pytest.approx(0.3, rel=1e-15)


def test_weights_take_no_gradients(tmp_path):
    loaded = load_onnx(saved(graph([node("MatMul", "x w")], (1, 4), {"w": W}), tmp_path / "m.onnx"))
    assert [p.requires_grad for p in loaded.parameters()] == [False]
    assert not loaded.training


REFUSED = {
    "an unknown operator": ([node("ArgMax", axis=1)], (1, 3), {}, r"the_argmax \(ArgMax\): the operator ArgMax"),
    "a product over the batch": ([node("MatMul", "w x")], (1, 3, 2), {"w": numbers(2, 4, 3)}, "batch dimension"),
    "an exponent": ([node("Pow", "x c")], (1, 3), {"c": numbers(3)}, "not one constant number"),
    "a conversion": ([node("Cast", output="h", to=11), node("Cast", "h", to=1)], (1, 3), {}, "from float32 to float64"),
    "reflected padding": (
        [node("Pad", "x p", mode="reflect")],
        (1, 5),
        {"p": whole(0, 1, 0, 1)},
        "padding of mode 'reflect'",
    ),
    "cubic": (
        [node("Resize", "x _ c", mode="linear")],
        (1, 1, 2, 2),
        {"c": np.array([1, 1, 2, 2], np.float32)},
        "'linear'",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_supported_is_refused_by_name(what, tmp_path):
    nodes, shape, constants, message = REFUSED[what]
    with pytest.raises(UncertifiedOperation, match=message):
        load_onnx(saved(graph(nodes, shape, constants), tmp_path / "m.onnx"))


def test_a_refusal_of_the_bounds_names_the_node(tmp_path):
    loaded = load_onnx(saved(graph([node("Floor")], (1, 3)), tmp_path / "m.onnx"))
    with pytest.raises(UncertifiedOperation, match=r"the_floor \(Floor\): floor has no rule"):
        vp.bounds(loaded, torch.zeros(1, 3), 0.1)


def test_files_that_are_no_models_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*missing\.onnx"):
        load_onnx(tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ValueError, match="is no ONNX model"):
        load_onnx(tmp_path / "text.onnx")
    (tmp_path / "half.onnx.gz").write_bytes(gzip.compress(b"hello")[:-4])
    with pytest.raises(ValueError, match="cannot be unpacked"):
        load_onnx(tmp_path / "half.onnx.gz")
    whole_numbers = graph([node("Relu")], (1, 3))
    whole_numbers.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    with pytest.raises(ValueError, match="is of INT64"):
        load_onnx(saved(whole_numbers, tmp_path / "int.onnx"))
    with pytest.raises(ValueError, match="dimensions without a size besides the first: length"):
        load_onnx(saved(graph([node("Relu")], (1, "length")), tmp_path / "named.onnx"))
    two = graph([node("Add", "x z")], (1, 3))
    two.graph.input.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, (1, 3)))
    with pytest.raises(ValueError, match=r"2 inputs \(x, z\)"):
        load_onnx(saved(two, tmp_path / "two.onnx"))
    with pytest.raises(ValueError, match="NaN or inf"):
        load_onnx(saved(graph([node("Add", "x c")], (1, 2), {"c": np.array([np.nan, 1], np.float32)}), tmp_path / "n"))


def test_without_onnx_the_refusal_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'varphi\[onnx\]'"):
        load_onnx("m.onnx")
