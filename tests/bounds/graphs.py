"""ONNX graphs for tests, built node by node, and what onnxruntime says of them."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from torch import nn

KINDS = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float64): TensorProto.DOUBLE}


def graph(
    nodes: list[Any],
    shape: tuple[int | str, ...],
    constants: dict[str, Any] | None = None,
    opset: int = 17,
    kind: Any = np.float32,
) -> onnx.ModelProto:
    """A model from `x` to `y`."""
    number = KINDS[np.dtype(kind)]
    held = [numpy_helper.from_array(np.asarray(v), name=n) for n, v in (constants or {}).items()]
    made = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", number, shape)],
        [helper.make_tensor_value_info("y", number, None)],
        held,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    return model


def node(kind: str, inputs: str = "x", output: str = "y", **attributes: Any) -> Any:
    """One node; its inputs separated by blanks, `_` for one left out."""
    names = ["" if n == "_" else n for n in inputs.split()]
    return helper.make_node(
        kind,
        names,
        output.split(),
        name=f"the_{kind.lower()}_{output}" if output != "y" else f"the_{kind.lower()}",
        **attributes,
    )


def saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, str(path))
    return path


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """What onnxruntime gives."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def chain(model: nn.Sequential, inputs: int, kind: Any = np.float32) -> onnx.ModelProto:
    """An ONNX model of linear layers and activations with ONNX's own operators."""
    nodes, constants, last = [], {}, "x"
    layers = list(model)
    for i, layer in enumerate(layers):
        output = "y" if i == len(layers) - 1 else f"h{i}"
        if isinstance(layer, nn.Linear):
            constants[f"w{i}"] = layer.weight.detach().numpy().astype(kind)
            constants[f"b{i}"] = layer.bias.detach().numpy().astype(kind)
            nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [output], transB=1))
        else:
            name = {"ReLU": "Relu", "ELU": "Elu"}.get(type(layer).__name__, type(layer).__name__)
            nodes.append(helper.make_node(name, [last], [output]))
        last = output
    return graph(nodes, (1, inputs), constants, kind=kind)
