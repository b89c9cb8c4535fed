"""Attention in eval mode, for bounds: softmax of scores with masks, its heads, and transformer layers made of it."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .composites import layer_norm, masked_softmax
from .contractions import einsum, linear
from .nodes import Interval, Node

if TYPE_CHECKING:
    from .crown import Pass
    from .graph import Reader

# A fused kernel may compute exponentials to 20 units in the last place, and rescale them now and then.
_FUSED = 64


def scaled_dot_product_attention(
    reader: Reader,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Node:
    """softmax(query keyᵀ·scale + mask)·value over the last two dimensions; of a boolean mask True takes part."""
    if dropout_p:
        reader.refuse("attention with dropout")
    query, key, value = (_held(reader, t) for t in (query, key, value))
    if enable_gqa:
        key, value = (_shared(reader, query, t) for t in (key, value))
    kept = _causal(_shape(query)[-2], _shape(key)[-2]) if is_causal else None
    return _attended(reader, query, key, value, *_mask(reader, attn_mask, kept), scale)[0]


def _held(reader: Reader, value: Any) -> Any:
    return reader.converted(value) if isinstance(value, Tensor) else reader.node_of(value)


def _shape(value: Any) -> tuple[int, ...]:
    """Of one sample."""
    return value.shape if isinstance(value, Node) else tuple(value.shape[1:])


def _shared(reader: Reader, query: Any, value: Any) -> Any:
    """Keys or values repeated for the queries' heads that share them."""
    times, rest = divmod(_shape(query)[-3], _shape(value)[-3])
    if rest:
        reader.refuse(f"attention of {_shape(query)[-3]} heads that share {_shape(value)[-3]}")
    if isinstance(value, Tensor):
        return value.repeat_interleave(times, -3)
    return reader.moved("repeat_interleave", (value, times), {"dim": -3})


def _causal(queries: int, keys: int) -> Tensor:
    return torch.ones(queries, keys, dtype=torch.bool).tril()


def _mask(reader: Reader, mask: Any, kept: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Which scores take part, and what is added to them."""
    if mask is None:
        return kept, None
    if not isinstance(mask, Tensor):
        reader.refuse("attention with a mask that depends on the input")
    if mask.dtype is torch.bool:
        return (mask if kept is None else mask & kept), None
    own = mask > -torch.inf
    return (own if kept is None else own & kept), reader.converted(mask.masked_fill(~own, 0.0))


def _attended(
    reader: Reader, query: Any, key: Any, value: Any, kept: Tensor | None, shift: Tensor | None, scale: float | None
) -> tuple[Node, Node]:
    """What attention gives, and its weights."""
    if len({_shape(t)[:-2] for t in (query, key, value)}) > 1 or len(_shape(query)) < 2:
        reader.refuse(f"attention between shapes {', '.join(str(_shape(t)) for t in (query, key, value))} of a sample")
    lead = string.ascii_lowercase[: len(_shape(query)) - 1]
    scale_by = torch.tensor(_shape(query)[-1] ** -0.5 if scale is None else scale, dtype=reader.number.dtype)
    scores = reader.scaled(einsum(reader, f"{lead}yz,{lead}xz->{lead}yx", query, key), scale_by, 4)
    if shift is not None:
        scores = reader.shifted(scores, shift)
    weights = masked_softmax(reader, scores, kept, _FUSED)
    found = einsum(reader, f"{lead}yx,{lead}xz->{lead}yz", weights, value)
    found.hull = lambda run: _between(run, weights, value, reader)
    return found, weights


def _between(run: Pass, weights: Node, value: Any, reader: Reader) -> Interval:
    """Weights are not negative and sum to 1: the result lies between the least and the largest value."""
    number = run.number
    low, high = run.rough(value) if isinstance(value, Node) else (value, value)
    taking = torch.ones(weights.shape[-2], 1, dtype=low.dtype, device=low.device)
    least, most = low.amin(-2, keepdim=True), high.amax(-2, keepdim=True)
    slack = torch.maximum(least.abs(), most.abs()) * number.gamma(weights.shape[-1] + 2 * _FUSED) if number.sound else 0
    return (least - slack) * taking, (most + slack) * taking


# ------------------------------------------------------------------------------------------------ modules


def multi_head(
    reader: Reader,
    m: nn.MultiheadAttention,
    query: Any,
    key: Any,
    value: Any,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Node, Node | None]:
    """nn.MultiheadAttention: projections, heads side by side, a projection. Of a boolean mask True is left out."""
    _check(reader, m)
    inputs = [_node(reader, t) for t in (query, key, value)]
    if any(len(t.shape) != 2 for t in inputs):
        reader.refuse(f"attention of an input of shape {inputs[0].shape} for each sample, not (tokens, features),")
    queries, keys, values = (
        _heads(reader, m, linear(reader, t, *part)) for t, part in zip(inputs, _projections(m), strict=True)
    )
    kept, shift = _masks(reader, m, key_padding_mask, attn_mask)
    found, weights = _attended(reader, queries, keys, values, kept, shift, None)
    beside = reader.reshaped("flatten", (reader.moved("transpose", (found, 1, 2), {}), 2), {})
    out = linear(reader, beside, m.out_proj.weight, m.out_proj.bias)
    if not need_weights:
        return out, None
    if not average_attn_weights:
        return out, weights
    return out, reader.linear_map(weights, _mean, _mean, None, m.num_heads + 4)


def _mean(z: Tensor) -> Tensor:
    return z.mean(1)


def _check(reader: Reader, m: Any) -> None:
    """Refuse what a fused layer may hold that has no meaning here."""
    if any(part._forward_hooks or part._forward_pre_hooks for part in m.modules()):
        reader.refuse("a module with hooks")
    if any(getattr(part, "training", False) for part in m.modules()):
        reader.refuse("attention in training mode")
    for part in m.modules():
        if isinstance(part, nn.MultiheadAttention):
            if not part.batch_first:
                reader.refuse("attention with the tokens before the samples (use batch_first=True)")
            if part.bias_k is not None or part.add_zero_attn:
                reader.refuse("attention with add_bias_kv or add_zero_attn")


def _projections(m: Any) -> list[tuple[Tensor, Tensor | None]]:
    """Weights and biases of queries, keys and values."""
    if m.in_proj_weight is None:
        weights = [m.q_proj_weight, m.k_proj_weight, m.v_proj_weight]
    else:
        weights = list(m.in_proj_weight.chunk(3))
    biases = [None] * 3 if m.in_proj_bias is None else list(m.in_proj_bias.chunk(3))
    return list(zip(weights, biases, strict=True))


def _node(reader: Reader, value: Any) -> Node:
    """A node also for a constant: the input times 0, and the constant."""
    if not isinstance(value, Tensor):
        return reader.node_of(value)
    held, first = reader.converted(value), reader.nodes[0]
    if not bool((held == held[:1]).all()):
        reader.refuse("attention with a constant that differs from sample to sample")

    def none(z: Tensor) -> Tensor:
        return z.new_zeros(len(z), *held.shape[1:])

    return reader.linear_map(first, none, none, held[0], 1, lambda a: a.new_zeros(len(a), *first.shape))


def _heads(reader: Reader, m: nn.MultiheadAttention, value: Node) -> Node:
    """(batch, tokens, features) -> (batch, heads, tokens, features of one)."""
    parts = (m.num_heads, value.shape[-1] // m.num_heads)
    return reader.moved("transpose", (reader.reshaped("unflatten", (value, -1, parts), {}), 1, 2), {})


def _masks(reader: Reader, m: nn.MultiheadAttention, padding: Any, mask: Any) -> tuple[Tensor | None, Tensor | None]:
    """Both masks of nn.MultiheadAttention as `_mask` gives them."""
    kept, shift = _mask(reader, _turned(mask, m, reader), None)
    if padding is None:
        return kept, shift
    own, added = _mask(reader, _turned(padding, m, reader), None)
    assert own is not None
    if len(own) != len(reader.x) or not bool((own == own[:1]).all()):
        reader.refuse("attention with a padding mask that differs from sample to sample")
    if added is not None:
        if not bool((added == added[:1]).all()):
            reader.refuse("attention with a padding mask that differs from sample to sample")
        shift = added[0].expand(1, -1) if shift is None else shift + added[0]
    return (own[0].expand(1, -1) if kept is None else kept & own[0]), shift


def _turned(mask: Any, m: nn.MultiheadAttention, reader: Reader) -> Any:
    """A boolean mask as F.scaled_dot_product_attention has it: True takes part."""
    if isinstance(mask, Tensor) and mask.dim() > 2:
        reader.refuse("attention with a mask for each sample and head")
    return ~mask if isinstance(mask, Tensor) and mask.dtype is torch.bool else mask


def encoder_layer(
    reader: Reader,
    m: nn.TransformerEncoderLayer,
    src: Any,
    src_mask: Tensor | None = None,
    src_key_padding_mask: Tensor | None = None,
    is_causal: bool = False,
) -> Node:
    """nn.TransformerEncoderLayer: attention and two linear layers, each around a residual, with norms."""
    _check(reader, m)
    x = reader.node_of(src)

    def attended(z: Node) -> Node:
        return multi_head(reader, m.self_attn, z, z, z, src_key_padding_mask, False, src_mask)[0]

    def spread(z: Node) -> Node:
        inner = linear(reader, z, m.linear1.weight, m.linear1.bias)
        return linear(reader, reader.node_of(reader.called(m.activation, inner)), m.linear2.weight, m.linear2.bias)

    for part, norm in ((attended, m.norm1), (spread, m.norm2)):
        if m.norm_first:
            x = reader.node_of(reader.sum_of(x, part(_normed(reader, norm, x)), 1))
        else:
            x = _normed(reader, norm, reader.node_of(reader.sum_of(x, part(x), 1)))
    return x


def _normed(reader: Reader, m: Any, value: Any) -> Node:
    return reader.node_of(layer_norm(reader, value, m.normalized_shape, m.weight, m.bias, m.eps))


def encoder(
    reader: Reader,
    m: nn.TransformerEncoder,
    src: Any,
    mask: Tensor | None = None,
    src_key_padding_mask: Tensor | None = None,
    is_causal: bool | None = None,
) -> Any:
    """nn.TransformerEncoder: its layers in order, and a norm."""
    _check(reader, m)
    x = src
    for layer in m.layers:
        if not isinstance(layer, nn.TransformerEncoderLayer):
            reader.refuse(f"a layer {type(layer).__name__} in nn.TransformerEncoder")
        x = encoder_layer(reader, layer, x, mask, src_key_padding_mask)
    return x if m.norm is None else reader.called(m.norm, x)


MODULES: dict[Any, Callable[..., Any]] = {
    nn.MultiheadAttention: multi_head,
    nn.TransformerEncoderLayer: encoder_layer,
    nn.TransformerEncoder: encoder,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {"scaled_dot_product_attention": scaled_dot_product_attention}
