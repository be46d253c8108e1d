"""Fine-grained language encoder (FLE): ids to language features.

Source: paper Sec. III-D, Eq. 6.
Axes: b prompts, levels sentences a prompt, context ids a sentence, n tokens in all, d width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mfclip.config import REAL_PROMPTS
from mfclip.errors import InputError
from mfclip.layers.transformer import Transformer
from mfclip.model.tokenizer import END_ID, VOCAB_SIZE


@dataclass(frozen=True, slots=True)
class PackedPrompts:
    """Prompts without their padding.

    Attributes:
        ids: the words of all levels in a row, padded only up to the longest prompt.
        positions: place of each id among the levels x context places of the full layout.
        last: place in `ids` of each prompt's last end-of-text id.
    """

    ids: Int[Tensor, "b n"]
    positions: Int[Tensor, "b n"]
    last: Int[Tensor, " b"]

    def to(self, device: torch.device) -> PackedPrompts:
        """Move the tensors."""
        return PackedPrompts(
            *(part.to(device, non_blocking=True) for part in (self.ids, self.positions, self.last))
        )


def pack_prompts(ids: Int[Tensor, "b levels context"]) -> PackedPrompts:
    """Drop the padding behind each sentence's end-of-text id.

    Raises:
        InputError: a prompt holds no end-of-text id.
    """
    is_end = ids == END_ID
    # a place is used if the sentence's end-of-text id stands at it or behind it
    used = is_end.flip(-1).cumsum(-1).flip(-1).bool().flatten(1)
    lengths = used.sum(1)
    if not bool((lengths > 0).all()):
        raise InputError("a prompt holds no end-of-text id; make ids with mfclip.tokenize")
    # used places first, in order
    order = (~used).to(torch.uint8).argsort(dim=1, stable=True)[:, : int(lengths.max())]
    return PackedPrompts(ids.flatten(1).gather(1, order), order, lengths - 1)


class FineGrainedLanguageEncoder(nn.Module):
    """Causal transformer over the sentences of all levels (FLE, Sec. III-D).

    The output is taken at the end-of-text id of the *last* level present, which has seen every
    level before it. Differs from the released code, which reads level 1 and so ignores the others.
    Differs from the paper: padding between the sentences is left out, so it costs nothing and
    says nothing; every word keeps the position it has in the padded layout.

    Args:
        embed_dim: d, width of embeddings and features.
        max_levels: sentences a prompt at most.
        context_length: ids a sentence.
        depth: L, transformer blocks.
        num_heads: attention heads.
        mlp_ratio: hidden width of the transformer's perceptron over d.
        real_prompts: what real faces say, a sentence a level.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        max_levels: int,
        context_length: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
        real_prompts: Sequence[str] = REAL_PROMPTS,
    ) -> None:
        super().__init__()
        self.real_prompts = tuple(real_prompts)
        self.max_levels = max_levels
        self.context_length = context_length
        self.token_embedding = nn.Embedding(VOCAB_SIZE, embed_dim)
        self.positions = nn.Parameter(torch.randn(max_levels * context_length, embed_dim) * 0.01)
        self.transformer = Transformer(
            depth, embed_dim, num_heads=num_heads, mlp_ratio=mlp_ratio, causal=True
        )
        self.norm = nn.LayerNorm(embed_dim)
        self.projection = nn.Linear(embed_dim, embed_dim, bias=False)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.projection.weight, std=embed_dim**-0.5)

    def forward(self, ids: Int[Tensor, "b levels context"]) -> Float[Tensor, "b d"]:
        """Encode ids from `tokenize`.

        Raises:
            InputError: more levels or another sentence length than the encoder was built for.
        """
        _, levels, context = ids.shape
        if levels > self.max_levels or context != self.context_length:
            message = (
                f"expected ids (b, 1..{self.max_levels}, {self.context_length}), "
                f"but got {tuple(ids.shape)}"
            )
            raise InputError(message)
        return self.encode_packed(pack_prompts(ids))

    def encode_packed(self, prompts: PackedPrompts) -> Float[Tensor, "b d"]:
        """Encode prompts whose padding has been dropped."""
        tokens = self.token_embedding(prompts.ids) + self.positions[prompts.positions]
        tokens = self.transformer(tokens)
        rows = torch.arange(len(tokens), device=tokens.device)
        out: Tensor = self.projection(self.norm(tokens[rows, prompts.last]))
        return out
