"""Attention written out in operations that have rules: softmax(q kᵀ) v, with one head and with several."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def scaled_dot_product(
    func: Any,
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """`F.scaled_dot_product_attention`; a mask of bool has True where attention is paid."""
    if enable_gqa:
        key, value = (x.repeat_interleave(query.shape[-3] // x.shape[-3], -3) for x in (key, value))
    if is_causal:
        attn_mask = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
    bias = _added(None if attn_mask is None or attn_mask.dtype is not torch.bool else ~attn_mask, query.dtype)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    weights = _weights(query * scale, key, attn_mask if bias is None else bias)
    return F.dropout(weights, dropout_p) @ value


def multi_head(
    func: Any,
    query: Any,
    key: Any,
    value: Any,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Any,
    in_proj_bias: Any,
    bias_k: Any,
    bias_v: Any,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Any,
    out_proj_bias: Any,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Any = None,
    k_proj_weight: Any = None,
    v_proj_weight: Any = None,
    static_k: Any = None,
    static_v: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Any, Any]:
    """`F.multi_head_attention_forward`, what `nn.MultiheadAttention` calls; a mask of bool has True where none is paid.

    `is_causal` is torch's hint that the mask is the causal one: the mask is used as it is.
    """
    if is_causal and attn_mask is None:
        raise ValueError("is_causal=True is a hint about attn_mask, and there is none: give the causal mask with it")
    if not query.dim() == key.dim() == value.dim() or query.dim() not in (2, 3):
        shapes = ", ".join(str(tuple(x.shape)) for x in (query, key, value))
        raise ValueError(f"query, key and value are all (length, features) or (length, batch, features), got {shapes}")
    is_batched = query.dim() == 3
    inputs = [x if is_batched else x.unsqueeze(1) for x in (query, key, value)]
    projections = (q_proj_weight, k_proj_weight, v_proj_weight) if use_separate_proj_weight else in_proj_weight.chunk(3)
    biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
    q, k, v = (F.linear(x, w, b) for x, w, b in zip(inputs, projections, biases, strict=True))
    q, k, v = (x.unflatten(-1, (num_heads, -1)).permute(1, 2, 0, 3) for x in (q, k, v))  # (batch, heads, length, ...)
    k, v = (x if given is None else given.unflatten(0, q.shape[:2]) for x, given in ((k, static_k), (v, static_v)))
    k, v = _with_bias(k, bias_k), _with_bias(v, bias_v)
    if add_zero_attn:
        k, v = (torch.cat([x, torch.zeros_like(x[..., :1, :])], -2) for x in (k, v))
    bias = _masks(attn_mask, key_padding_mask, q, k)
    weights = F.dropout(_weights(q / math.sqrt(q.shape[-1]), k, bias), dropout_p, training)
    result = F.linear((weights @ v).permute(2, 0, 1, 3).flatten(-2), out_proj_weight, out_proj_bias)
    told = (weights.mean(1) if average_attn_weights else weights) if need_weights else None
    if is_batched:
        return result, told
    return result.squeeze(1), None if told is None else told.squeeze(0)


def _weights(q: Any, k: Any, bias: Tensor | None) -> Any:
    scores = q @ k.transpose(-2, -1)
    return torch.softmax(scores if bias is None else scores + bias, -1)


def _with_bias(x: Any, bias: Any) -> Any:
    """One more place that is attended to, the same for all samples: (1, 1, features) of it."""
    if bias is None:
        return x
    more = bias.view(1, x.shape[1], 1, -1).expand(x.shape[0], -1, -1, -1)
    return torch.cat([x, more], -2)


def _masks(attn_mask: Tensor | None, padding: Tensor | None, q: Any, k: Any) -> Tensor | None:
    """What is added to the scores (batch, heads, queries, keys)."""
    attention, padded = _added(attn_mask, q.dtype), _added(padding, q.dtype)
    if attention is not None and attention.dim() == 3:
        attention = attention.unflatten(0, q.shape[:2])
    if padded is not None:
        padded = padded.view(-1, 1, 1, padded.shape[-1])
    given = [m for m in (attention, padded) if m is not None]
    if not given:
        return None
    total = sum(given[1:], given[0])
    # The places that were added to the keys are open to all.
    return F.pad(total, (0, k.shape[-2] - total.shape[-1]))


def _added(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A mask as numbers to add: -∞ where no attention is paid."""
    if mask is None or mask.dtype is not torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, -math.inf)
