"""Which label a target pixel is learnt by, and how much it counts: a label rule is a function here.

Every rule reads the opinions it needs; the others may be None.  All take the stage's own target crop.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from diga.ops import pseudo
from diga.ops.losses import upsample
from diga.ops.prototypes import affinity
from diga.settings import Trust
from diga.types import IGNORE, Prediction


class Opinions(NamedTuple):
    """What is known of target images (B, 3, H, W) when their labels are chosen."""

    warm: Tensor  # (B, H, W) int64: labels the warm-up network left, train ids or IGNORE
    seen: Prediction  # of the mean teacher on the target images
    distances: Tensor | None  # (B, K, h, w): ||f - rho_k||, infinite where a class has no centroid
    confidence: Tensor | None  # (B, H, W) in [0, 1]: the warm-up network's in its label
    probabilities: Tensor | None  # (B, K, h', w'): the warm-up network's
    thresholds: Tensor | None  # (K,): `pseudo.class_thresholds`
    trust: Trust
    align_corners: bool


class Chosen(NamedTuple):
    """Labels to learn, and pixel weights of their cross-entropy."""

    label: Tensor  # (B, H, W) int64, train ids or IGNORE
    weight: Tensor | None = None  # (B, H, W) float; none: one everywhere


def consensus(opinions: Opinions) -> Chosen:
    """y_warm where the nearest centroid says the same, IGNORE elsewhere: DiGA's bilateral consensus (eq. 8)."""
    return Chosen(pseudo.consensus(opinions.warm, feature(opinions).label))


def feature(opinions: Opinions) -> Chosen:
    """The nearest centroid alone: argmax_k of softmax_k(-||f - rho_k||), resized to pixels."""
    assert opinions.distances is not None
    return Chosen(pseudo.nearest(affinity(opinions.distances), opinions.warm, opinions.align_corners))


def warm_up(opinions: Opinions) -> Chosen:
    """y_warm alone."""
    return Chosen(opinions.warm)


def bdl(opinions: Opinions) -> Chosen:
    """y_warm where its confidence reaches its class's threshold, IGNORE elsewhere (Li et al., CVPR 2019)."""
    assert opinions.confidence is not None and opinions.thresholds is not None
    classes = len(opinions.thresholds)
    least = opinions.thresholds[opinions.warm.clamp(max=classes - 1)]
    # Both were 8 bits: a threshold that is met exactly must not be missed by the rounding of a quotient.
    return Chosen(opinions.warm.masked_fill(opinions.confidence < least - 1e-6, IGNORE))


def proda(opinions: Opinions) -> Chosen:
    """argmax_k of w_k p0_k, with w = softmax_k(-tau (d_k - min_j d_j)) at cells (Zhang et al., CVPR 2021).

    p0, the warm-up network's probabilities, is resized to the cells of d; w p0 is renormalised there and
    resized to pixels.  A class without centroid has no weight.
    """
    assert opinions.distances is not None and opinions.probabilities is not None
    p = upsample(opinions.probabilities, opinions.distances, opinions.align_corners)
    # As softmax(-(tau d - log p0)): products of small numbers could be zero for every class, and mean the first.
    surprise = p.clamp(min=torch.finfo(p.dtype).tiny).log_().neg_()
    rectified = affinity(surprise.add_(opinions.distances, alpha=opinions.trust.temperature))
    return Chosen(pseudo.nearest(rectified, opinions.warm, opinions.align_corners))


def fraction(opinions: Opinions) -> Chosen:
    """The teacher's own label everywhere, counting as much as the share of the image's pixels it is sure of.

    Sure is a probability of `trust.threshold` or more: DACS (Tranheden et al., WACV 2021), DDB.  Their
    share is of the batch; an image's own does not depend on how many workers share a batch.
    """
    label, p = pseudo.confident([opinions.seen.logits], opinions.warm, opinions.align_corners)
    share = (p >= opinions.trust.threshold).to(p).mean((1, 2), keepdim=True)
    return Chosen(label, share.expand_as(p))
