"""The PyTorch exporter, against PyTorch's own numbers; run by ``deno task test:torch``."""

from __future__ import annotations

import json
import subprocess
import tempfile
import unittest
from pathlib import Path

import numpy as np
import torch
import yaml
from reactant_export import ExportError, Input, export_torch
from safetensors import safe_open
from torch import nn

ROOT = Path(__file__).resolve().parent.parent.parent


class ConvNet(nn.Module):
    """Convolutions, batch norm, pooling, a residual sum and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(8, 5)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        x = torch.relu(self.norm(self.stem(image)))
        x = self.pool(x + nn.functional.gelu(self.depthwise(x)))
        features = x.mean(dim=(2, 3))
        scores = self.head(features).softmax(dim=-1)
        return {"features": features, "scores": scores, "label": scores.argmax(dim=-1)}


class TextNet(nn.Module):
    """Embedding, transformer encoder with a padding mask, masked mean: several sequence lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(40, 16)
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        padding = ids == 0
        x = self.encoder(self.words(ids), src_key_padding_mask=padding)
        kept = (~padding).unsqueeze(-1).to(x.dtype)
        return (x * kept).sum(1) / kept.sum(1).clamp(min=1.0)


class TorchExport(unittest.TestCase):
    def setUp(self) -> None:
        torch.manual_seed(3)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def assert_server_agrees(self, directory: Path) -> None:
        """Compiles and runs the bundle as the server would, against PyTorch's numbers."""
        command = [
            ROOT / "scripts" / "deno",
            "run",
            "-A",
            "--quiet",
            "main.ts",
            "bundle",
            "validate",
            directory,
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        print(done.stdout)

    def test_convolutional_network(self) -> None:
        module = ConvNet()
        module.norm.running_mean.normal_()
        module.norm.running_var.uniform_(0.5, 2.0)
        image = Input("image", "f32", ("n", 3, 16, 16))
        directory = export_torch(module, self.folder / "convnet", inputs=[image], batch_sizes=[1, 4])
        manifest = yaml.safe_load((directory / "manifest.yaml").read_text())
        shapes = {tensor["name"]: tensor["shape"] for tensor in manifest["executable_outputs"]}
        self.assertEqual(shapes, {"features": "na", "scores": "na", "label": "n"})
        self.assertEqual(manifest["provenance"]["torch"], torch.__version__.split("+")[0])
        with safe_open(directory / "weights.safetensors", "numpy") as file:
            order = json.loads(file.metadata()["argument_order"])
            self.assertNotIn("norm.num_batches_tracked", order)
            self.assertEqual(file.get_tensor("head.weight").shape, (5, 8))
        with safe_open(directory / "golden.safetensors", "numpy") as file:
            given = torch.from_numpy(file.get_tensor("b4/input/image"))
            with torch.inference_mode():
                expected = module(given)["scores"].numpy()
            np.testing.assert_array_equal(file.get_tensor("b4/output/scores"), expected)
        self.assert_server_agrees(directory)

    def test_transformer_with_variants_and_int64_ids(self) -> None:
        ids = Input("ids", "i64", ("n", "s"), low=0, high=40)
        directory = export_torch(
            TextNet(),
            self.folder / "text",
            inputs=[ids],
            outputs=["embedding"],
            batch_sizes=[1, 3],
            variants=[{"s": 5}, {"s": 12}],
        )
        self.assert_server_agrees(directory)

    def test_bfloat16_linear_layer(self) -> None:
        directory = export_torch(
            nn.Linear(6, 4).to(torch.bfloat16),
            self.folder / "bf16",
            inputs=[Input("x", "bf16", ("n", 6))],
            batch_sizes=[2],
            # A unit in the last place of numbers up to 2.
            atol=2**-7,
        )
        self.assert_server_agrees(directory)

    def test_mistakes_are_named(self) -> None:
        x = Input("x", "f32", ("n", 6))

        class Branch(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return x if x.sum() > 0 else -x

        for module, inputs, message in (
            (lambda x: x, [x], "expected a torch.nn.Module, got a function"),
            (Branch(), [x], "torch.export cannot capture"),
            (nn.Linear(5, 2), [x], "torch.export cannot capture"),
            (nn.Linear(6, 2), [Input("x", "f32", ("n", "n"))], "two axes"),
        ):
            with self.assertRaisesRegex(ExportError, message):
                export_torch(module, self.folder / "bad", inputs=inputs, batch_sizes=[1])
        self.assertEqual(list(self.folder.iterdir()), [])


if __name__ == "__main__":
    unittest.main()
