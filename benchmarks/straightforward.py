"""The same model run the straightforward way: the reference that speed is measured against.

fp32, default memory layout, one scikit-image co-occurrence matrix a patch, every sample's prompt
encoded at its full padded length. The weights are those of the fast model, and so are the results,
up to rounding: `tests/test_straightforward.py` holds that.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from skimage.feature import graycomatrix, graycoprops
from torch import Tensor
from torch.nn import functional

from mfclip.baselines.recce import GraphReasoning
from mfclip.batch import Batch
from mfclip.labels import Labels
from mfclip.layers.verdict import cross_entropy_loss
from mfclip.model.fle import FineGrainedLanguageEncoder
from mfclip.model.ftg import prompts
from mfclip.model.losses import kl_loss
from mfclip.model.mfclip import MFCLIP
from mfclip.model.srm import noise_residual
from mfclip.model.tokenizer import END_ID, tokenize


def richest_patches(images: Float[Tensor, "b 3 h w"], size: int) -> Float[Tensor, "b 3 p p"]:
    """Pick each image's richest patch, one matrix after the other."""
    levels = (images * 255).round()
    weighted = levels * torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    greys = (weighted.sum(1) + 0.5).to(torch.uint8)
    chosen = []
    for image, grey in zip(images, greys.numpy(), strict=True):
        scores = {}
        for top in range(0, grey.shape[0] - size + 1, size):
            for left in range(0, grey.shape[1] - size + 1, size):
                patch = grey[top : top + size, left : left + size]
                matrix = graycomatrix(patch, [1], [0], levels=256, symmetric=True, normed=True)
                scores[top, left] = graycoprops(matrix, "homogeneity")[0, 0]
        top, left = min(scores, key=lambda place: scores[place])
        chosen.append(image[:, top : top + size, left : left + size])
    return torch.stack(chosen)


def encode_image(model: MFCLIP, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
    """Compute the vision features."""
    encoder = model.vision_encoder
    assert encoder.image_encoder is not None
    assert encoder.noise_encoder is not None
    noise = noise_residual(richest_patches(images, encoder.patch_size), encoder.pixel_scale)
    features = encoder.image_encoder(images * 2 - 1) + encoder.noise_encoder(noise)
    return functional.normalize(features, dim=-1)


def encode_text(encoder: FineGrainedLanguageEncoder, labels: Sequence[Labels]) -> Tensor:
    """Compute the language features of every sample at full length, padding masked out."""
    texts = [prompts(label, encoder.max_levels) for label in labels]
    ids = tokenize(texts, encoder.context_length)
    used = (ids == END_ID).flip(-1).cumsum(-1).flip(-1).bool().flatten(1)
    n = used.shape[1]
    tokens = encoder.token_embedding(ids.flatten(1)) + encoder.positions[:n]
    causal = torch.ones(n, n, dtype=torch.bool).tril()
    mask = (causal & used[:, None, :]) | torch.eye(n, dtype=torch.bool)
    for block in encoder.transformer.blocks:
        attention = block.attention
        q, k, v = (
            part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
            for part in attention.in_proj(block.norm1(tokens)).chunk(3, dim=-1)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None])
        tokens = tokens + attention.out_proj(mixed.transpose(1, 2).flatten(2))
        tokens = tokens + block.mlp(block.norm2(tokens))
    last = (used * torch.arange(n)).argmax(1)
    features: Tensor = encoder.projection(encoder.norm(tokens[torch.arange(len(tokens)), last]))
    return features


def reason_place_by_place(
    reasoning: GraphReasoning, values: Float[Tensor, "b c h w"], finer: tuple[Tensor, Tensor]
) -> Float[Tensor, "b c h w"]:
    """Walk over the places of RECCE's map, all pictures at once, as its authors do."""
    centre = reasoning.centre(values)
    parts = []
    for ask, cells in zip(reasoning.finer, finer, strict=True):
        r, asked = ask.ratio, torch.zeros_like(centre)
        for y in range(centre.shape[2]):
            for x in range(centre.shape[3]):
                own = centre[:, :, y, x]
                inside = cells[:, :, y * r : (y + 1) * r, x * r : (x + 1) * r]
                embedded = ask.embed(inside.flatten(2).transpose(1, 2))  # b rr e
                pairs = torch.cat([own[:, None].expand_as(embedded), embedded], dim=-1)
                weights = ask.weigh(pairs).relu().softmax(1)
                asked[:, :, y, x] = (weights * embedded).sum(1)
        parts.append(asked * (1 - ask.gate(values).sigmoid()))
    out: Tensor = reasoning.project(torch.cat([*parts, centre], dim=1).sigmoid())
    return out


def consistency_row_by_row(
    attention: Float[Tensor, "b p p"],
    target: Int[Tensor, " b"],
    forged: Bool[Tensor, "b p"],
    same_out: Tensor,
    same_in: Tensor,
    across: Tensor,
) -> Float[Tensor, ""]:
    """Fill UIA-ViT's target of each picture patch by patch, as its authors do."""
    p = attention.shape[1]
    sums, counts = [attention.new_zeros(()), attention.new_zeros(())], [0, 0]
    for picture, is_fake, mask in zip(attention, target.tolist(), forged, strict=True):
        rows = []
        for patch in range(p):
            if not is_fake:
                row = same_out.expand(p).clone()
                row[patch] = 1.0
            elif mask[patch]:
                row = torch.where(mask, same_in, across)
            else:
                row = torch.where(mask, across, same_out)
            rows.append(row)
        sums[is_fake] = sums[is_fake] + (picture - torch.stack(rows)).abs().sum() / (p * p - p)
        counts[is_fake] += 1
    return sum((s / max(1, n) for s, n in zip(sums, counts, strict=True)), start=sums[0] * 0)


def loss(model: MFCLIP, batch: Batch) -> Tensor:
    """Compute the sum of the three losses, without shared targets."""
    assert model.language_encoder is not None
    assert model.contrastive is not None
    assert model.predictor is not None
    vision = encode_image(model, batch.images)
    language = encode_text(model.language_encoder, batch.labels)
    terms = [
        cross_entropy_loss(model.classify(vision), batch.target),
        model.contrastive(vision, functional.normalize(language, dim=-1), model.logit_scale),
        kl_loss(model.predictor(vision), language),
    ]
    return torch.stack(terms).sum()
