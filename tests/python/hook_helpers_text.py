"""Cases for the text helpers: a small BERT vocabulary and what the Rust `tokenizers` package makes of texts.

    hook_helpers_text.py OUTPUT.json [SEED]
"""

import json
import random
import sys
import unicodedata

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = """the of and to in a is that for it as was with be by on not he his but at are this have from or had
an they which one you were all her she there would their we him been has when who will no more if out so up
play player run runner work house water naive cafe resume uber strasse angstrom sigma 2 10 19 2024""".split()
PIECES = """##s ##ing ##ed ##er ##est ##ly ##ness ##ment ##tion ##able ##un ##re ##pre ##x ##y ##z ##water ##1
##0 ##24""".split()
# Each of them is a word of its own, whether the vocabulary has it or not.
IDEOGRAPHS = "中文字日本語漢\U00020000\U0002a700"
UNUSUAL = [
    "\0", "\ufffd", "\u200b", "\ufeff", "\xad", "\u0007", "\x7f", "\ue000", "\U000f0000", "\U0010fffd",  # dropped
    " ", "\t", "\n", "\r", "\xa0", "\u2003", "\u3000", "\u2028", "\u1680", "\x0b", "\x0c", "\x85",  # spaces and not
    "\u0301", "\u0308", "\u0327", "\u20d0", "\u093e", "\u0903",  # marks, of several kinds
    "Σ", "ΟΔΟΣ", "ς", "İ", "ı", "ß", "ẞ", "Å", "\u212b", "ﬁ", "Ǆ", "ÀÉÎÕÜ", "ñ", "가각", "ｆｕｌｌ", "\u1e9b\u0323",
    "\u037e", "\u1fef", "\u2000", "\uf900", "\U0002f800", "\u3042", "\u30ab\u3099", "١٢", "עִבְרִית", "हिन्दी", "ไทย",
    "😀", "👩\u200d💻", "🏳\ufe0f\u200d🌈", "€", "°", "№", "½", "«", "»", "—", "…", "¿", "、", "。", "「", "॥", "·",
    "[", "]", "[CLS", "CLS]", "[cls]", "[[SEP]]", "[UNK]", "[MASK]", "[PAD]", "[SEP]", "[CLS]", "##", "##s", "$", "+",
    "a" * 100, "a" * 101, "the" * 33 + "s", "é" * 100, "é" * 101, "\U00010400" * 100, "\U00010400" * 101,
]


def vocabulary():
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1) if chr(c) not in "qj"]
    digits = list("0123456789")
    punctuation = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~«—…、。")
    other = list("中文日σς가ᄀαοδ😀€°あß\U00010428") + ["##σ", "##ς", "##ο", "##😀", "##ᅡ", "##\U00010428"]
    tokens = SPECIAL + letters + ["##" + c for c in letters] + digits + ["##" + c for c in digits]
    tokens += punctuation + other + WORDS + PIECES
    return list(dict.fromkeys(tokens))


def random_text(rng):
    parts = []
    for _ in range(rng.choice([0, 1, 2, 3, 8, 20, 60])):
        kind = rng.random()
        if kind < 0.35:
            part = rng.choice(WORDS)
        elif kind < 0.45:
            part = rng.choice(WORDS) + "".join(p[2:] for p in rng.choices(PIECES, k=rng.randrange(4)))
        elif kind < 0.7:
            part = rng.choice(UNUSUAL)
        elif kind < 0.75:
            part = rng.choice(IDEOGRAPHS)
        elif kind < 0.85:
            part = "".join(rng.choices("abcdefghijklmnopqrstuvwxyzABC'-.,0123", k=rng.randrange(1, 12)))
        else:
            part = "".join(known_character(rng) for _ in range(rng.randrange(1, 4)))
        part = part.upper() if rng.random() < 0.1 else part
        parts.append(part + (" " if rng.random() < 0.6 else ""))
    return "".join(parts)


def known_character(rng):
    """A character whose category has not changed since the package's tables were made."""
    while True:
        code = rng.choice([rng.randrange(0x250), rng.randrange(0x3000), rng.randrange(0x10000), rng.randrange(0x30000)])
        if is_settled(code):
            return chr(code)


def is_settled(code):
    # The package's category tables are of about Unicode 8: what was assigned in 3.2 has the same category in
    # both, but for four characters that changed it.
    changed = (0x166D, 0x1734, 0x1885, 0x1886)
    return unicodedata.ucd_3_2_0.category(chr(code)) not in ("Cn", "Cs") and code not in changed


def settled_characters():
    """All of them, but of the large blocks whose members are all alike only some."""
    alike = [(0x3400, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xF8FF), (0x20000, 0x2A6DF), (0xF0000, 0x10FFFF)]
    for code in range(0x110000):
        if any(low + 16 < code < high - 16 and code % 97 for low, high in alike):
            continue
        if not 0xD800 <= code < 0xE000 and is_settled(code):
            yield chr(code)


def main():
    output, seed = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
    rng = random.Random(seed)
    tokens = vocabulary()
    ids = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.normalizer = BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=True, lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))

    def encode(a, b=None, max_len=None):
        if max_len is None:
            tokenizer.no_truncation()
        else:
            tokenizer.enable_truncation(max_len, strategy="longest_first")
        found = tokenizer.encode(a, b)
        return {"ids": found.ids, "typeIds": found.type_ids}

    texts = ["", " ", "\t\n", *UNUSUAL, *(random_text(rng) for _ in range(6000))]
    words = []
    for character in settled_characters():
        normal = tokenizer.normalizer.normalize_str(f"a{character}B")
        split = tokenizer.pre_tokenizer.pre_tokenize_str(normal)
        words.append([f"a{character}B", normal, [word for word, _ in split]])
    singles = []
    for _ in range(500):
        text, max_len = random_text(rng), rng.choice([2, 3, 4, 8, 16, 64])
        singles.append({"text": text, "maxLen": max_len, **encode(text, max_len=max_len)})
    pairs = []
    for _ in range(1500):
        a, b, max_len = random_text(rng), random_text(rng) or "x", rng.choice([3, 4, 5, 6, 7, 8, 13, 32, 128])
        pairs.append({"a": a, "b": b, "maxLen": max_len, **encode(a, b, max_len)})
    # Every way two lengths and a limit can stand to each other.
    for la in range(7):
        for lb in range(1, 7):
            for max_len in range(3, 16):
                a, b = " ".join("abcdef"[:la]), " ".join("uvwxyz"[:lb])
                pairs.append({"a": a, "b": b, "maxLen": max_len, **encode(a, b, max_len)})
    with open(output, "w", encoding="utf-8") as file:
        json.dump(
            {
                "vocabulary": "".join(f"{token}\n" for token in tokens),
                "texts": [{"text": text, **encode(text)} for text in texts],
                "words": words,
                "singles": singles,
                "pairs": pairs,
            },
            file,
        )


main()
