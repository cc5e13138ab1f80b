"""µ-law codes: a waveform's samples in eight bits each."""

import math

import torch
from torch import Tensor

from ebm_lib.require import has_values, require_finite


def mulaw_decode(codes: Tensor) -> Tensor:
    r"""Waveform of µ-law codes, which hold a sample's logarithm in eight bits.

    .. math:: x = \operatorname{sign}(m)\,\frac{256^{|m|} - 1}{255}, \qquad m = \frac{u - 128}{127}

    Args:
        codes: u from 1 to 255, any shape, uint8.

    Returns:
        x in [-1, 1], same shape, float32.

    Raises:
        ValueError: ``codes`` not uint8, or one of them 0, which stands for no sample.

    Source: the µ = 255 companding law of ITU-T G.711, as a formula rather than its table of segments.

    >>> mulaw_decode(torch.tensor([1, 128, 255], dtype=torch.uint8)).tolist()
    [-1.0, 0.0, 1.0]
    """
    if codes.dtype != torch.uint8:
        raise ValueError(f"codes must be uint8, got {codes.dtype}")
    if has_values(codes) and (codes == 0).any():
        raise ValueError("codes must lie in 1..255, got a 0, which stands for no sample")
    m = (codes.to(torch.float32) - 128) / 127
    return m.sign() * torch.expm1(m.abs() * math.log(256)) / 255


def mulaw_encode(x: Tensor) -> Tensor:
    r"""µ-law codes of a waveform: its logarithm, so that soft and loud samples are off by the same fraction.

    .. math:: u = 128 + \operatorname{round}\left(127\,\operatorname{sign}(x)\,
        \frac{\log(1 + 255|x|)}{\log 256}\right)

    Decoded again, a sample is off by at most :math:`(256^{1/254} - 1)(|x| + 1/255)`, about 2.2 % where it is loud.

    Args:
        x: samples in [-1, 1], any shape, floating point.

    Returns:
        u from 1 to 255, same shape, uint8.

    Raises:
        ValueError: ``x`` not floating point, not finite, or outside [-1, 1].

    Source: as :func:`mulaw_decode`.

    >>> mulaw_encode(torch.tensor([-1.0, 0.0, 1.0])).tolist()
    [1, 128, 255]
    """
    if not x.is_floating_point():
        raise ValueError(f"x must be floating point, got {x.dtype}")
    require_finite("x", x)
    if has_values(x) and x.numel() and x.abs().max() > 1:
        raise ValueError(f"x must lie in [-1, 1], got magnitude {x.abs().max().item():.4g}")
    m = x.sign() * torch.log1p(255 * x.abs()) / math.log(256)
    return (128 + (127 * m).round()).to(torch.uint8)
