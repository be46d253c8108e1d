"""Tokenizer: prompts to ids, by CLIP's byte-pair encoding.

Source: paper Sec. III-D, which uses the tokenizer of Radford et al., "Learning transferable visual
models from natural language supervision", 2021. `assets/clip_merges.txt.gz` is the used part of the
vocabulary that OpenAI published with CLIP (MIT licence); the `tokenizers` library does the work.
"""

from __future__ import annotations

import functools
import gzip
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

import torch
from jaxtyping import Int
from torch import Tensor

from mfclip.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VOCAB_SIZE = 49_408
START = "<|startoftext|>"
END = "<|endoftext|>"
END_ID = VOCAB_SIZE - 1

_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def tokenize(
    texts: Sequence[Sequence[str]], context_length: int = 77
) -> Int[Tensor, "b levels context"]:
    """Turn hierarchical prompts into ids.

    Differs from open_clip: HTML entities, ligatures and curly quotes are taken as they stand.

    Args:
        texts: for each sample its sentences, coarse to fine; at least one.
        context_length: ids a sentence; a longer sentence is cut and still ends with `END`.

    Returns:
        int64 ids: start, words, end, then zeros. Samples with fewer sentences than the longest
        have all-zero levels at their end.

    Raises:
        InputError: no sample, a sample without a sentence, or sentences given without nesting.

    Example:
        >>> tokenize([["a real face"]])[0, 0, :6].tolist()
        [49406, 320, 1532, 1710, 49407, 0]
    """
    if not texts or any(isinstance(sample, str) or not sample for sample in texts):
        raise InputError(
            "expected a list of lists of sentences, at least one each, such as "
            f"[['a photo of a real face']], but got {texts!r}"
        )
    ids = torch.zeros(len(texts), max(map(len, texts)), context_length, dtype=torch.long)
    for row, sample in zip(ids, texts, strict=True):
        for slot, sentence in zip(row, sample, strict=False):
            words = _tokenizer().encode(sentence.lower(), add_special_tokens=False).ids
            words = [VOCAB_SIZE - 2, *words[: context_length - 2], END_ID]
            slot[: len(words)] = torch.tensor(words)
    return ids


@functools.cache
def _tokenizer() -> Tokenizer:
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers  # noqa: PLC0415

    packed = files("mfclip").joinpath("assets/clip_merges.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode().split("\n")
    merges = [(left, right) for left, right in map(str.split, lines)]
    letters = _byte_letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), START, END]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={word: number for number, word in enumerate(words)},
            merges=merges,
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def _byte_letters() -> list[str]:
    """One printable letter a byte, in the order of CLIP's vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [*map(chr, printable), *(chr(256 + i) for i in range(len(others)))]
