"""Colour statistics of an image, and an image given the colours of another."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diga.ops.precision import full, no_autocast

ROUNDING = (1 / 255) ** 2 / 12  # variance of rounding to 8 bits: colours that vary less than this say nothing


def statistics(image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (B, 3) and covariance (B, 3, 3) of the colours of image (B, 3, H, W)."""
    x = full(image).flatten(2)
    mean = x.mean(2)
    centred = x - mean[..., None]
    with no_autocast(x):
        return mean, centred @ centred.mT / x.shape[2]


def transfer(image: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """T (x - mu) + mean: image (B, 3, H, W) with its colours given another mean and covariance, moved least.

    T = A^-1/2 (A^1/2 C A^1/2)^1/2 A^-1/2, where A is the image's covariance and C = `covariance`
    (B, 3, 3): the Monge-Kantorovich map between Gaussians (Pitie and Kokaram, 2007).  A direction
    in which the image's colours do not vary cannot be made to.  Clamped to [0, 1].
    """
    mu, A = statistics(image)
    with no_autocast(image):
        root, inverse = _power(A, 0.5), _power(A, -0.5, least=ROUNDING)
        T = inverse @ _power(root @ covariance.to(A) @ root, 0.5) @ inverse
        x = T @ (full(image).flatten(2) - mu[..., None]) + mean.to(mu)[..., None]
    return x.clamp(0, 1).view_as(image)


def channel_statistics(image: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(x - mu) std / sigma + mean of each channel alone: image (B, 3, H, W), mean and std (B, 3).

    A channel that does not vary cannot be made to.  Clamped to [0, 1].
    """
    x = full(image)
    centred = x - x.mean((2, 3), keepdim=True)
    sigma = centred.square().mean((2, 3)).sqrt()
    gain = (std.to(sigma) / sigma).where(sigma > ROUNDING**0.5, 0)
    return centred.mul_(gain[..., None, None]).add_(mean.to(x)[..., None, None]).clamp_(0, 1)


def fourier(image: Tensor, style: Tensor, beta: float) -> Tensor:
    """`image` with the low frequencies' amplitudes of `style`, both (B, 3, H, W): FDA (Yang and Soatto, CVPR 2020).

    Low is up to b = floor(beta min(H, W)) periods an image either way: a centred square of 2 b + 1
    frequencies.  Phases stay; clamped to [0, 1].  Raises ValueError where the sizes differ.
    """
    if image.shape != style.shape:
        raise ValueError(
            f"fourier: found a style of {tuple(style.shape)} (expected {tuple(image.shape)}, as the image)"
        )
    H, W = image.shape[-2:]
    b = math.floor(beta * min(H, W) + 1e-9)
    waves, others = torch.fft.rfft2(full(image)), torch.fft.rfft2(full(style))
    # Of real images the frequencies -v are those of v: half the columns tell all.
    for rows in (slice(0, b + 1), slice(max(b + 1, H - b), H)):
        low = (..., rows, slice(0, b + 1))
        waves[low] = torch.polar(others[low].abs(), waves[low].angle())
    translated: Tensor = torch.fft.irfft2(waves, (H, W))
    return translated.clamp_(0, 1)


def _power(matrix: Tensor, exponent: float, least: float = 0) -> Tensor:
    """Power of a symmetric positive matrix (..., n, n), zero along eigenvalues up to `least`."""
    values, vectors = torch.linalg.eigh(matrix)
    powers = torch.where(values > least, values.clamp(min=torch.finfo(values.dtype).tiny).pow(exponent), 0)
    power: Tensor = (vectors * powers[..., None, :]) @ vectors.mT
    return power
