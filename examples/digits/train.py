"""Trains the digits classifier and exports it as the bundle that is committed beside this file.

    .cache/venv/bin/python examples/digits/train.py

The model is a small network (64 pixels, one hidden layer, 10 classes) on scikit-learn's copy of the
UCI digits: 1 797 images of 8 x 8 pixels with values 0 to 16. A fifth of them, drawn with a fixed seed
and stratified by class, is held out; it is written to ``heldout.safetensors`` and the accuracy on it
to ``report.json``, which ``client_classify.py`` and the tests compare with what a server answers.
"""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from reactant_export import Input, export_jax
from safetensors.numpy import save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HERE = Path(__file__).parent
SEED = 20
HIDDEN = 64
STEPS = 600
BATCH = 128
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 1e-3

Params = dict[str, dict[str, jax.Array]]


def initial_params(key: jax.Array) -> Params:
    """He-normal weights and zero biases."""
    params: Params = {}
    for name, size_in, size_out in (("hidden", 64, HIDDEN), ("classes", HIDDEN, 10)):
        key, own = jax.random.split(key)
        scale = np.sqrt(2.0 / size_in)
        params[name] = {
            "kernel": scale * jax.random.normal(own, (size_in, size_out), jnp.float32),
            "bias": jnp.zeros((size_out,), jnp.float32),
        }
    return params


def logits(params: Params, image: jax.Array) -> jax.Array:
    """Unnormalised class scores ``[n, 10]`` of images ``[n, 64]`` with pixels 0 to 16."""
    x = image / 16.0 - 0.5
    x = jax.nn.relu(x @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    return x @ params["classes"]["kernel"] + params["classes"]["bias"]


def classify(params: Params, image: jax.Array) -> dict[str, jax.Array]:
    """What the bundle computes: the digit, and the probability of every digit."""
    scores = logits(params, image)
    return {
        "digit": jnp.argmax(scores, axis=-1).astype(jnp.int32),
        "probabilities": jax.nn.softmax(scores, axis=-1),
    }


def loss(params: Params, image: jax.Array, label: jax.Array) -> jax.Array:
    """Mean cross-entropy plus weight decay on the kernels."""
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits(params, image)), label[:, None], axis=-1)
    decay = sum(jnp.sum(layer["kernel"] ** 2) for layer in params.values())
    return -jnp.mean(chosen) + WEIGHT_DECAY * decay


@jax.jit
def adam_step(
    params: Params, state: tuple[Params, Params], step: int, image: jax.Array, label: jax.Array
) -> tuple[Params, tuple[Params, Params]]:
    """One step of Adam (Kingma and Ba 2015, algorithm 1, with its default moments)."""
    gradient = jax.grad(loss)(params, image, label)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, state[0], gradient)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, state[1], gradient)
    scale = LEARNING_RATE * jnp.sqrt(1 - 0.999**step) / (1 - 0.9**step)
    params = jax.tree.map(lambda p, m, v: p - scale * m / (jnp.sqrt(v) + 1e-8), params, first, second)
    return params, (first, second)


def train(image: np.ndarray, label: np.ndarray) -> Params:
    """Trains on random batches, every draw from SEED."""
    params = initial_params(jax.random.key(SEED))
    zeros = jax.tree.map(jnp.zeros_like, params)
    state = (zeros, zeros)
    random = np.random.default_rng(SEED)
    for step in range(1, STEPS + 1):
        rows = random.choice(len(image), BATCH, replace=False)
        params, state = adam_step(params, state, step, image[rows], label[rows])
    return params


def main() -> None:
    """Trains, measures on the held-out fifth, and writes bundle, held-out set and report."""
    pixels, labels = load_digits(return_X_y=True)
    image, held_image, label, held_label = train_test_split(
        pixels.astype(np.float32), labels, test_size=0.2, random_state=SEED, stratify=labels
    )
    params = train(image, label)
    found = np.asarray(jax.jit(classify)(params, held_image)["digit"])
    accuracy = float(np.mean(found == held_label))
    print(f"held-out accuracy {accuracy:.4f} ({np.sum(found == held_label)} of {len(held_label)})")
    if accuracy < 0.95:
        raise SystemExit("accuracy below 0.95: nothing written")

    export_jax(
        classify,
        params,
        HERE / "bundle" / "digits",
        inputs=[Input("image", "f32", ("n", 64), low=0, high=16)],
        outputs=["digit", "probabilities"],
        batch_sizes=[1, 8, 32],
        description="Handwritten digits: 8 x 8 pixels, values 0 to 16, row by row.",
        provenance_extra={"data": "scikit-learn load_digits (UCI optical recognition of handwritten digits)"},
        reproducible=True,
        overwrite=True,
    )
    save_file(
        {"image": held_image.astype(np.uint8), "label": held_label.astype(np.uint8)},
        HERE / "heldout.safetensors",
    )
    report = {
        "accuracy": accuracy,
        "correct": int(np.sum(found == held_label)),
        "images": len(held_label),
    }
    (HERE / "report.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
