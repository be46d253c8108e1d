"""The three losses of MFCLIP: contrastive, KL, cross-entropy.

Source: paper Sec. III-F, Eq. 11-14. Everything is computed in float32, or float64 if given so.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from mfclip.layers.collectives import join_over_processes
from mfclip.model.spa import SamplePairAttention

MAX_LOGIT_SCALE = 100.0
"""Largest 1 / tau, as in CLIP."""


def pair_targets(
    sentences: Int[Tensor, "n levels"], beta: float = math.inf
) -> Float[Tensor, "n n"]:
    r"""Share each row's target among the samples whose prompts are related.

    .. math:: y_{ij} \propto \exp(\beta \, e_{ij})

    where e_ij is the share of the levels of the longer prompt on which both say the same. The
    paper wants related negatives not to be pushed away and puts that into SPA; a target says it
    without telling the gate which pairs are positive.

    Args:
        sentences: see `mfclip.model.ftg.number_sentences`.
        beta: inf shares among equal prompts only; 0 shares among all.

    Returns:
        Rows that sum to 1.

    Example:
        >>> pair_targets(torch.tensor([[7, 1], [7, 1], [3, 2]])).tolist()
        [[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    """
    present = sentences >= 0
    longer = torch.maximum(present.sum(1)[:, None], present.sum(1)[None])
    same = (sentences[:, None] == sentences[None]) & present[:, None] & present[None]
    share = same.sum(-1) / longer
    if math.isinf(beta):
        equal = (share == 1).float()
        return equal / equal.sum(1, keepdim=True)
    return (beta * share).softmax(1)


def contrastive_loss(
    logits: Float[Tensor, "n n"], target: Float[Tensor, "n n"] | None = None
) -> Float[Tensor, ""]:
    r"""Return the mean of both directions' cross-entropy (Eq. 11-12, L_cmc).

    .. math:: \mathcal{L}_{cmc} = (\mathcal{L}_{v2l} + \mathcal{L}_{l2v}) / 2

    Args:
        logits: weighted similarities; row = image, column = text.
        target: distribution over the columns; the diagonal if omitted. Its transpose, scaled to
            sums of 1, is that over the rows.

    Example:
        >>> round(contrastive_loss(torch.zeros(4, 4)).item(), 4)  # log 4
        1.3863
    """
    logits = _full_precision(logits)
    if target is None:
        target = torch.eye(len(logits), device=logits.device)
    target = target.to(logits.dtype)
    rows = functional.cross_entropy(logits, target)
    columns = functional.cross_entropy(logits.T, target.T / target.T.sum(1, keepdim=True))
    return (rows + columns) / 2


def kl_loss(
    predicted: Float[Tensor, "b d"], language: Float[Tensor, "b d"], temperature: float = 0.5
) -> Float[Tensor, ""]:
    r"""Return the divergence of the predicted from the true language features (Eq. 13).

    .. math:: \frac{1}{b} \sum_i \delta(T^i)^\top \log \frac{\delta(T^i)}{\delta(T^i_{pre})}

    where :math:`\delta` is the softmax over the d features at a temperature.

    Args:
        predicted: predictor's output.
        language: language features as the encoder gives them. On the unit sphere the softmax is
            all but flat and at most 0.0028 nats are left to learn.
        temperature: of both softmaxes; the paper's is 0.5.
    """
    true = (_full_precision(language) / temperature).log_softmax(1)
    guess = (_full_precision(predicted) / temperature).log_softmax(1)
    return functional.kl_div(guess, true, reduction="batchmean", log_target=True)


def alignment_loss(features: Float[Tensor, "n d"], target: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    r"""Return the mean squared distance of two samples of one class; 0 without such a pair.

    .. math:: \frac{1}{|P|} \sum_{(i, j) \in P} \lVert f_i - f_j \rVert^2

    Source: Wang and Isola, "Understanding contrastive representation learning through alignment
    and uniformity on the hypersphere", ICML 2020; with the classes as pairs: arXiv 2508.06248.

    Args:
        features: L2-normalised.
        target: class of each.
    """
    squares = _squared_distances(features)
    same = (target[:, None] == target[None]).triu(1)
    return (squares * same).sum() / same.sum().clamp_min(1)


def uniformity_loss(features: Float[Tensor, "n d"], sharpness: float = 2.0) -> Float[Tensor, ""]:
    r"""Return the log of the mean closeness of two samples; lower is more evenly spread.

    .. math:: \log \operatorname{mean}_{i < j} \exp(-t \lVert f_i - f_j \rVert^2)

    Args:
        features: L2-normalised, two or more.
        sharpness: t.
    """
    rows, columns = torch.triu_indices(len(features), len(features), 1)
    closeness = -sharpness * _squared_distances(features)[rows, columns]
    return closeness.logsumexp(0) - math.log(len(rows))


def _squared_distances(features: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Squared distances on the unit sphere, with a slope everywhere."""
    features = _full_precision(features)
    return 2 - 2 * features @ features.T


def _full_precision(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Raise half precision to float32; float64 stays."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class ContrastiveLoss(nn.Module):
    """CLIP's loss over the batches of all processes, plain or with SPA (Eq. 7-12).

    It is called as open_clip's `ClipLoss` is: image features, text features, logit scale.
    In several processes every process must hold equally many samples; the loss is that of the
    joined batch in each of them, and averaging gradients over processes gives its gradient.

    Args:
        attention: SPA; None for plain CLIP.
        beta: of `pair_targets`, which MFCLIP then gives its prompts' sentences; None for one
            target a row, as in the paper.
        literal: weight the probabilities behind the softmax, as Eq. 9-12 are printed. Then
            -log p_ii splits from -log sigmoid(A_ii): the features see plain InfoNCE, weights off
            the diagonal never enter, and A_ii only grows. Kept as an ablation.
    """

    def __init__(
        self,
        attention: SamplePairAttention | None = None,
        *,
        beta: float | None = None,
        literal: bool = False,
    ) -> None:
        super().__init__()
        self.attention = attention
        self.beta = beta
        self.literal = literal

    def forward(
        self,
        image_features: Float[Tensor, "b d"],
        text_features: Float[Tensor, "b d"],
        logit_scale: Float[Tensor, ""] | float,
        sentences: Int[Tensor, "b levels"] | None = None,
    ) -> Float[Tensor, ""]:
        """Return the loss of the joined batch.

        Args:
            image_features: L2-normalised.
            text_features: L2-normalised, same order.
            logit_scale: 1 / tau.
            sentences: of the prompts, see `pair_targets`; without them, or without `beta`, every
                other sample is a negative, as in the paper.
        """
        with torch.autocast(image_features.device.type, enabled=False):
            images = join_over_processes(_full_precision(image_features))
            texts = join_over_processes(_full_precision(text_features))
            target = None
            if sentences is not None and self.beta is not None:
                target = pair_targets(join_over_processes(sentences), self.beta)
            if self.attention is None or self.literal:
                loss = contrastive_loss(logit_scale * images @ texts.T, target)
            else:
                loss = contrastive_loss(self.attention(images, texts, logit_scale), target)
            if self.attention is not None and self.literal:
                own = self.attention.relevance(images, texts).diagonal()
                loss = loss - functional.logsigmoid(own).mean()
            return loss
