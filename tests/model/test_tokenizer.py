"""The tokenizer against open_clip's, and its own promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from helpers import KINDS, import_open_clip
from mfclip.errors import InputError
from mfclip.labels import FAMILIES, MANIPULATIONS, Labels
from mfclip.model.ftg import prompts
from mfclip.model.tokenizer import END_ID, VOCAB_SIZE, tokenize

STRINGS = [
    "a photo of a real face",
    "A Photo Of A FAKE Face",
    "don't won't we'll they've I'm he'd it's x'S",
    "1234 5 67.8 ½ ² ٣ ①②",
    "café naïve Ångström STRASSE ß",
    "cafe\u0301 e\u0301\u0323",  # accents apart from their letters
    "日本語 顔 привет мир مرحبا हिन्दी ไทย",
    "Σίσυφος ΟΔΟΣ İstanbul",
    "😀 👩\u200d👩\u200d👧 🇩🇪 \U0001d518\U0001d52b",
    "!!! ... ,;:--__ #$%^*()[]{}",
    "  tabs\tand\nnew   lines \u00a0 and \u2003 wide spaces  ",
    "StyleGAN3 DDPM LatDiff-v1.5 FSLSD/x",
    "<|endoftext|> <|startoftext|>",  # written out, they are no special ids
    "a" * 300,
    "a long sentence that goes on and on " * 20,
    "",
]


@pytest.fixture(scope="module")
def reference() -> Any:
    return import_open_clip("tokenizer").SimpleTokenizer()


@pytest.mark.parametrize("text", STRINGS)
def test_ids_equal_open_clips(text: str, reference: Any) -> None:
    assert reference.vocab_size == VOCAB_SIZE == 49_408
    for length in (77, 16):
        torch.testing.assert_close(
            tokenize([[text]], length)[0], reference([text], context_length=length)
        )


def test_every_prompt_that_can_arise_equals_open_clips(reference: Any) -> None:
    labels = [Labels(False), *(Labels(True, m, f, "DDIM") for m in MANIPULATIONS for f in FAMILIES)]
    texts = [prompts(label) for label in labels]
    expected = torch.stack([reference(sentences) for sentences in texts])
    torch.testing.assert_close(tokenize(texts), expected)


def test_known_ids_by_hand() -> None:
    # the ids published with CLIP: start, "a", "photo", "of", "a", "cat", end
    ids = tokenize([["a photo of a cat"]], 9)
    assert ids.tolist() == [[[49406, 320, 1125, 539, 320, 2368, 49407, 0, 0]]]


def test_a_long_sentence_is_cut_and_keeps_its_end() -> None:
    ids = tokenize([["face " * 100]], 10)[0, 0]
    assert ids.tolist() == [49406, *[1710] * 8, END_ID]


def test_missing_levels_are_all_zero_and_the_rest_is_untouched() -> None:
    both = tokenize([["one", "two", "three"], ["four"]])
    assert both.shape == (2, 3, 77)
    assert both[1, 1:].eq(0).all()
    torch.testing.assert_close(both[1, :1], tokenize([["four"]])[0])
    torch.testing.assert_close(both[:1], tokenize([["one", "two", "three"]]))


def test_a_sentence_does_not_depend_on_its_neighbours() -> None:
    sentences = [prompts(kind)[0] for kind in KINDS]
    together = tokenize([[sentence] for sentence in sentences])
    alone = torch.cat([tokenize([[sentence]]) for sentence in sentences])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("wrong", [[], [[]], [["fine"], []], ["a photo"]])
def test_texts_without_nesting_or_sentences_are_refused(wrong: list[object]) -> None:
    with pytest.raises(InputError, match="expected a list of lists of sentences"):
        tokenize(wrong)
