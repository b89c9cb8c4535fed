"""ONNX files as torch models: `load_onnx(path)` gives a module of plain torch operations that `vp.bounds` can read.

The whole of an ONNX input is one sample. Where its first dimension is 1, or has a name, that is the batch's: the model
takes (batch, ...). An input without such a dimension, of shape (5,) say, gets one in front: the model takes (batch, 5).

Whatever does not depend on the input is computed here, once, by ONNX's own reference implementation.
"""

from __future__ import annotations

import gzip
import importlib
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import fx, nn
from torch.fx.node import map_arg

from .nodes import UncertifiedOperation
from .onnx_operators import OPERATORS, Constant, Operand, Operator, Shape, Value, batched, of_sample

_MISSING = "ONNX files need the package onnx: pip install 'varphi[onnx]'"
_DOMAINS = ("", "ai.onnx")
_FLOATS: dict[int, torch.dtype] = {1: torch.float32, 11: torch.float64}


class OnnxModel(NamedTuple):
    """An ONNX file, read.

    Attributes:
        model: in eval mode; its weights take no gradients.
        shape: of one sample of its input.
        onnx_shape: the same as the file has it, names replaced by 1.
        output: the shape of one sample of its output.
        dtype: of its input.
        name: of its input.
        content: the file's bytes, unpacked.
    """

    model: nn.Module
    shape: Shape
    onnx_shape: Shape
    output: Shape
    dtype: torch.dtype
    name: str
    content: bytes


def load_onnx(path: str | Path) -> nn.Module:
    """A torch model from an ONNX file, of the operations that `vp.bounds` reads.

    Args:
        path: an .onnx file, or one packed by gzip, .onnx.gz.

    Returns:
        The model in eval mode. Its input is (batch, ...), with the shape of the file's input: (1, 3, 32, 32) in the
        file is (batch, 3, 32, 32). Its weights are parameters that take no gradients.

    Raises:
        ImportError: the package onnx is missing.
        FileNotFoundError: no such file.
        ValueError: what is no ONNX file; several inputs or outputs; numbers other than float32 and float64.
        UncertifiedOperation: an operator that is not supported, with the name of its node.

    Example:
        >>> model = varphi.bounds.load_onnx("net.onnx")
        >>> lower, upper = vp.bounds(model, torch.zeros(1, 5), radius=0.1)
    """
    return read_onnx(path).model


def read_onnx(path: str | Path) -> OnnxModel:
    """An ONNX file as a torch model, with what the file says of its input and output."""
    onnx = _package()
    content = read_packed(path)
    try:
        proto = onnx.load_from_string(content)
    except Exception as error:  # protobuf's own
        raise ValueError(f"{str(path)!r} is no ONNX model ({error})") from error
    if not proto.graph.output or not proto.opset_import:
        raise ValueError(f"{str(path)!r} is no ONNX model (it has no outputs, or names no operator set)")
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in proto.graph.initializer):
        proto = _with_external(onnx, path)
    with torch.no_grad():
        return Builder(onnx, proto, str(path)).built(content)


def read_packed(path: str | Path) -> bytes:
    """The bytes of a file, unpacked if it was packed by gzip, whatever its name says.

    A name without ".gz" finds the packed file beside it, as VNN-COMP's lists of instances mean it.
    """
    path = Path(path)
    if not path.exists() and path.with_name(path.name + ".gz").exists():
        path = path.with_name(path.name + ".gz")
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {str(path)!r}") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{str(path)!r} is a directory, not a file") from None
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise ValueError(f"{str(path)!r} is packed by gzip and cannot be unpacked ({error})") from None


def _package() -> Any:
    try:
        return importlib.import_module("onnx")
    except ImportError:
        raise ImportError(_MISSING) from None


def _with_external(onnx: Any, path: str | Path) -> Any:
    try:
        return onnx.load(str(path))
    except Exception as error:
        raise ValueError(f"the weights of {str(path)!r} lie in other files, which cannot be read ({error})") from error


class Builder:
    """One reading of a file.

    Args:
        onnx: the package.
        proto: the model.
        path: for messages.
    """

    def __init__(self, onnx: Any, proto: Any, path: str) -> None:
        self.onnx, self.proto, self.path = onnx, proto, path
        self.opset = max((s.version for s in proto.opset_import if s.domain in _DOMAINS), default=1)
        self.graph, self.root = fx.Graph(), nn.Module()
        self.values: dict[str, Operand] = {"": None}
        self.used: dict[str, int] = {}
        self.place = ""
        self._kept: dict[int, tuple[Any, str]] = {}

    def built(self, content: bytes) -> OnnxModel:
        graph = self.proto.graph
        for tensor in graph.initializer:
            self.values[tensor.name] = self.onnx.numpy_helper.to_array(tensor)
        if graph.sparse_initializer:
            raise UncertifiedOperation(f"{self.path}: sparse initialisers are not supported")
        name, dtype, shape = self._input()
        self.values[name] = self._placeholder(shape, dtype)
        if len(graph.output) != 1:
            raise ValueError(f"{self.path} has {len(graph.output)} outputs; models with one are supported")
        for node in graph.node:
            for used in node.input:
                self.used[used] = self.used.get(used, 0) + 1
        last = graph.output[0].name
        self.used[last] = self.used.get(last, 0) + 1
        for number, node in enumerate(graph.node):
            self._add(node, node.name or f"node {number}")
        output = self.values.get(last)
        if not isinstance(output, Value):
            raise ValueError(f"the output of {self.path} does not depend on its input")
        if not of_sample(output.shape):
            output = self.reshaped(output, (1, 1))
        self.graph.output(output.node)
        self.graph.eliminate_dead_code()
        model = fx.GraphModule(self.root, self.graph, class_name="OnnxModel").eval()
        if not list(model.parameters()):  # a model's format is that of its parameters
            model.register_parameter("format", nn.Parameter(torch.empty(0, dtype=dtype), requires_grad=False))
        return OnnxModel(model, of_sample(shape), shape, of_sample(output.shape), dtype, name, content)

    def _input(self) -> tuple[str, torch.dtype, Shape]:
        inputs = [i for i in self.proto.graph.input if i.name not in self.values]
        if len(inputs) != 1:
            names = ", ".join(i.name for i in inputs) or "none"
            raise ValueError(f"{self.path} has {len(inputs)} inputs ({names}); models with one are supported")
        kind = inputs[0].type.tensor_type
        if kind.elem_type not in _FLOATS:
            named = self.onnx.TensorProto.DataType.Name(kind.elem_type)
            raise ValueError(f"the input of {self.path} is of {named}; models of FLOAT and DOUBLE are supported")
        dimensions = list(kind.shape.dim)
        shape = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else 1 for d in dimensions)
        named = [d.dim_param or "?" for d, n in zip(dimensions[1:], shape[1:], strict=True) if d.dim_value != n]
        if named:
            raise ValueError(
                f"the input of {self.path} has dimensions without a size besides the first: {', '.join(named)}; "
                "export the model with fixed sizes"
            )
        if not shape:
            raise ValueError(f"the input of {self.path} has no dimensions; models of tensors are supported")
        return inputs[0].name, _FLOATS[kind.elem_type], shape

    def _placeholder(self, shape: Shape, dtype: torch.dtype) -> Value:
        node = self.graph.placeholder("x")
        node.meta["example"] = torch.empty(1, *of_sample(shape), dtype=dtype, device="meta")
        return Value(node, shape)

    # ---------------------------------------------------------------------------------------- nodes of the file

    def _add(self, node: Any, name: str) -> None:
        if node.domain not in _DOMAINS:
            raise UncertifiedOperation(f"{name} ({node.domain}.{node.op_type}): operators of that domain are not known")
        missing = [i for i in node.input if i not in self.values]
        if missing:
            raise ValueError(f"{self.path}: {name} uses {missing[0]!r}, which no earlier node gives")
        inputs = [self.values[i] for i in node.input]
        attributes = {a.name: self.onnx.helper.get_attribute_value(a) for a in node.attribute}
        operator = Operator(node.op_type, name, inputs, attributes, list(node.input), list(node.output), self)
        self.place = str(operator)
        if node.op_type in ("Shape", "Size") and isinstance(inputs[0], Value):
            found: Any = self._sizes(operator, inputs[0])
        elif any(isinstance(i, Value) for i in inputs):
            found = self._operated(operator)
        else:
            found = self._folded(node, operator)
        results = found if isinstance(found, list) else [found]
        for output, result in zip(node.output, results, strict=False):
            self.values[output] = result

    def _operated(self, operator: Operator) -> Any:
        rule = OPERATORS.get(operator.kind)
        if rule is None:
            raise UncertifiedOperation(f"{operator}: the operator {operator.kind} is not supported")
        try:
            return rule(operator)
        except (RuntimeError, TypeError, IndexError) as error:  # torch, of shapes that do not fit
            reason = str(error).partition("\n")[0]
            raise ValueError(f"{self.path}: {operator} cannot be computed as written ({reason})") from error

    @staticmethod
    def _sizes(operator: Operator, value: Value) -> Constant:
        if operator.kind == "Size":
            return np.array(math.prod(value.shape), dtype=np.int64)
        start, end = operator.attributes.get("start", 0), operator.attributes.get("end")
        return np.array(value.shape[start:end], dtype=np.int64)

    def _folded(self, node: Any, operator: Operator) -> list[Constant]:
        """What a node gives that does not depend on the input."""
        onnx = self.onnx
        pairs = zip(node.input, operator.inputs, strict=True)
        given = {n: v for n, v in pairs if isinstance(v, np.ndarray)}
        kinds = [
            onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for n, v in given.items()
        ]
        outputs = [onnx.ValueInfoProto(name=n) for n in node.output if n]
        graph = onnx.helper.make_graph([node], "constant", kinds, outputs)
        model = onnx.helper.make_model(graph, opset_imports=list(self.proto.opset_import))
        try:
            evaluator = importlib.import_module("onnx.reference").ReferenceEvaluator(model)
            return [np.asarray(v) for v in evaluator.run(None, given)]
        except Exception as error:  # of the reference implementation
            reason = str(error).partition("\n")[0]
            raise UncertifiedOperation(f"{operator}: cannot be computed ({type(error).__name__}: {reason})") from error

    # ---------------------------------------------------------------------------------------- torch's graph

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """One torch operation on nodes, constants and plain numbers."""
        given = [self._argument(a) for a in args]
        named = {k: self._argument(v) for k, v in kwargs.items()}
        node = self.graph.call_function(function, tuple(given), named)
        node.meta["nn_module_stack"] = {self.place: (self.place, "")}  # named in refusals
        self.refresh(node)
        return node

    def refresh(self, node: fx.Node) -> None:
        """Work out the shape that a node gives."""
        args, kwargs = map_arg((node.args, node.kwargs), lambda n: n.meta["example"])
        node.meta["example"] = node.target(*args, **kwargs)  # pyright: ignore[reportCallIssue]

    def _argument(self, argument: Any) -> Any:
        if isinstance(argument, Value):
            return argument.node
        if isinstance(argument, np.ndarray):
            return self.kept(argument)
        if isinstance(argument, (list, tuple)):
            return type(argument)(self._argument(a) for a in argument)
        return argument

    def kept(self, array: Constant) -> fx.Node:
        """A constant as a tensor of the module: a parameter if it holds real numbers, else a buffer."""
        if id(array) in self._kept:
            return self._attribute(self._kept[id(array)][1])
        if array.dtype.name not in ("float32", "float64", "int64", "int32", "bool"):
            raise UncertifiedOperation(f"{self.place}: numbers of {array.dtype} are not supported")
        if not np.isfinite(array).all():
            raise ValueError(f"{self.path}: {self.place} has a constant with NaN or inf")
        tensor = torch.from_numpy(np.array(array))  # of its own memory
        stem = re.sub(r"\W+", "_", self.place.partition(" (")[0]).strip("_") or "constant"
        name = next(n for i in range(2**31) if not hasattr(self.root, n := f"{stem}_{i}" if i else f"c_{stem}"))
        if tensor.is_floating_point():
            self.root.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
        else:
            self.root.register_buffer(name, tensor)
        self._kept[id(array)] = (array, name)  # the array too, so that its id is not given again
        return self._attribute(name)

    def _attribute(self, name: str) -> fx.Node:
        node = self.graph.get_attr(name)
        node.meta["example"] = getattr(self.root, name).detach().to("meta")
        return node

    def result(self, node: fx.Node, batch: bool) -> Value:
        """A node as a value whose ONNX shape begins with the batch's 1, or does not."""
        sizes = tuple(node.meta["example"].shape[1:])
        return self.stored(node, (1, *sizes) if batch else sizes, batch)

    def stored(self, node: fx.Node, shape: Shape, batch: bool) -> Value:
        """A node that torch has with or without ONNX's leading 1, brought into the one form."""
        if batched(shape) == batch:
            return Value(node, shape)
        return Value(self.call(torch.reshape, node, (-1, *of_sample(shape))), shape)

    def reshaped(self, value: Value, shape: Shape) -> Value:
        """The same numbers in the same order, in another ONNX shape."""
        if math.prod(shape) != math.prod(value.shape):
            raise ValueError(f"{self.path}: {self.place} reshapes {value.shape} into {shape}")
        if of_sample(shape) == of_sample(value.shape):
            return Value(value.node, shape)
        return Value(self.call(torch.reshape, value, (-1, *of_sample(shape))), shape)

    def free(self, value: Value) -> fx.Node:
        """Torch's tensor with all of ONNX's dimensions behind the batch's."""
        if not batched(value.shape):
            return value.node
        return self.call(torch.reshape, value, (-1, *value.shape))

    def aligned(self, operands: Sequence[Value | Constant]) -> tuple[list[Any], Shape]:
        """Operands that torch broadcasts as ONNX does, and the ONNX shape of the result."""
        shape = tuple(np.broadcast_shapes(*(o.shape for o in operands)))
        return [self._aligned(o, shape) for o in operands], shape

    def _aligned(self, operand: Value | Constant, shape: Shape) -> Any:
        missing = (1,) * (len(shape) - len(operand.shape))
        if isinstance(operand, Value):
            whole = (*missing, *operand.shape)
            inner = whole[1:] if batched(shape) else whole
            if inner == of_sample(operand.shape):
                return operand.node
            return self.call(torch.reshape, operand, (-1, *inner))
        if operand.size == 1 and operand.dtype.kind in "fi":
            return operand.reshape(()).item()
        inner = (*missing, *operand.shape)[1 if batched(shape) else 0 :]
        return operand.reshape(inner)

    def pointwise(self, function: Callable[..., Any], *operands: Value | Constant) -> Value:
        """An elementwise operation of operands that broadcast."""
        given, shape = self.aligned(operands)
        return Value(self.call(function, *given), shape)

    def biased(self, product: Value, bias: Constant) -> Value | None:
        """A matrix product with a bias put into it, if nothing else uses the product."""
        node = product.node
        size = product.shape[-1] if product.shape else 0
        fits = node.target is torch.nn.functional.linear and len(node.args) == 2 and bias.size == size
        if not fits or not bias.shape or bias.shape[-1] != size or len(bias.shape) > len(product.shape):
            return None
        with self.graph.inserting_before(node):
            held = self.kept(np.ascontiguousarray(bias.reshape(size)))
        node.args = (*node.args, held)
        return product
