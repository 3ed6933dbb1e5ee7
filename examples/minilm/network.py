"""The network of all-MiniLM-L6-v2 in JAX: a 6-layer BERT encoder, mean pooling, L2 normalisation.

Written from the BERT paper (Devlin et al. 2019) and the model's own configuration files: 384 wide, 12
heads, exact GELU, layer norm after each residual sum with epsilon 1e-12, learned absolute positions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LAYERS = 6
HEADS = 12
LAYER_NORM_EPSILON = 1e-12

Params = dict[str, Any]


def params_from(tensor: Callable[[str], np.ndarray]) -> Params:
    """Parameters for :func:`embed` from the published weights, read by their names there.

    Dense kernels become ``[in, out]``. Query, key and value of a layer are joined into one kernel, and the
    embedding of token type 0, the only one used, is added to the positions.
    """

    def dense(*names: str) -> Params:
        return {
            "kernel": np.concatenate([tensor(f"{name}.weight").T for name in names], axis=1),
            "bias": np.concatenate([tensor(f"{name}.bias") for name in names]),
        }

    def norm(name: str) -> Params:
        return {"scale": tensor(f"{name}.weight"), "bias": tensor(f"{name}.bias")}

    layers = []
    for index in range(LAYERS):
        layer = f"encoder.layer.{index}"
        attention = f"{layer}.attention.self"
        layers.append(
            {
                "qkv": dense(*(f"{attention}.{part}" for part in ("query", "key", "value"))),
                "mixed": dense(f"{layer}.attention.output.dense"),
                "attention_norm": norm(f"{layer}.attention.output.LayerNorm"),
                "inner": dense(f"{layer}.intermediate.dense"),
                "outer": dense(f"{layer}.output.dense"),
                "output_norm": norm(f"{layer}.output.LayerNorm"),
            }
        )
    types = tensor("embeddings.token_type_embeddings.weight")
    return {
        "words": tensor("embeddings.word_embeddings.weight"),
        "positions": tensor("embeddings.position_embeddings.weight") + types[0],
        "norm": norm("embeddings.LayerNorm"),
        "layers": layers,
    }


def embed(params: Params, input_ids: jax.Array, attention_mask: jax.Array) -> jax.Array:
    """Sentence embeddings.

    Args:
        params: See :func:`params_from`.
        input_ids: ``[n, s]`` INT32 token ids, padded at the end.
        attention_mask: ``[n, s]`` INT32, 1 for a token and 0 for padding.

    Returns:
        ``[n, 384]`` FP32, each row of length 1.
    """
    mask = attention_mask > 0
    x = params["words"][input_ids] + params["positions"][: input_ids.shape[1]]
    x = _norm(params["norm"], x)
    for layer in params["layers"]:
        x = _norm(layer["attention_norm"], x + _attend(layer, x, mask))
        inner = jax.nn.gelu(_dense(layer["inner"], x), approximate=False)
        x = _norm(layer["output_norm"], x + _dense(layer["outer"], inner))
    weights = mask[:, :, None].astype(x.dtype)
    mean = (x * weights).sum(axis=1) / jnp.maximum(weights.sum(axis=1), 1e-9)
    length = jnp.sqrt((mean * mean).sum(axis=-1, keepdims=True))
    return mean / jnp.maximum(length, 1e-12)


def _attend(layer: Params, x: jax.Array, mask: jax.Array) -> jax.Array:
    rows, length, width = x.shape
    size = width // HEADS
    qkv = _dense(layer["qkv"], x).reshape(rows, length, 3, HEADS, size)
    query, key, value = (qkv[:, :, part].swapaxes(1, 2) for part in range(3))
    scores = query @ key.swapaxes(2, 3) / np.sqrt(size).astype(np.float32)
    # Finite, so that a row without any token gives numbers rather than NaN.
    scores = jnp.where(mask[:, None, None, :], scores, jnp.finfo(scores.dtype).min)
    mixed = jax.nn.softmax(scores, axis=-1) @ value
    return _dense(layer["mixed"], mixed.swapaxes(1, 2).reshape(rows, length, width))


def _dense(layer: Params, x: jax.Array) -> jax.Array:
    return x @ layer["kernel"] + layer["bias"]


def _norm(layer: Params, x: jax.Array) -> jax.Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return centred / jnp.sqrt(variance + LAYER_NORM_EPSILON) * layer["scale"] + layer["bias"]
