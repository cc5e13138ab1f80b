"""Perception for worlds of a few things: an encoder that says where they are."""

import torch
from torch import Tensor, nn

from ebm_lib.nn import init_
from ebm_lib.require import require_count, require_positive


class Keypoints(nn.Module):
    r"""Features, a softmax over places for each, and the places' means: an encoder for things that have a place.

    .. math::

        p_k(i, j) = \operatorname*{softmax}_{i, j} \beta\, (w_k * x)(i, j), \qquad
        u_k = \sum_{i, j} p_k(i, j) \begin{pmatrix} x_j \\ y_i \end{pmatrix}, \qquad
        s = 2 W (u_1, \dots, u_K) + b

    with coordinates x_j, y_i from −1 to 1. One convolution, of each channel by itself, and no hidden layer: the softmax
    is the only non-linearity. What it cannot see is how many things there are, or where there is none.

    Args:
        channels: C, of the pictures.
        D: dimensions of s.
        maps: features of each channel.
        kernel: side of the convolution's window in pixels, odd.
        stride: pixels between its places.
        sharpness: β.
        generator: where the weights come from.

    Raises:
        ValueError: sizes out of range, an even kernel; when called, pictures of another number of channels.

    Source: Levine, Finn, Darrell and Abbeel, End-to-End Training of Deep Visuomotor Policies (JMLR 17, 2016), section
        5.1, "spatial softmax" and "expected position".

    >>> encoder = Keypoints(2, 4, generator=torch.Generator().manual_seed(0))
    >>> encoder(torch.zeros(5, 3, 2, 28, 28)).shape
    torch.Size([5, 3, 4])
    """

    def __init__(
        self,
        channels: int,
        D: int,
        *,
        maps: int = 8,
        kernel: int = 5,
        stride: int = 2,
        sharpness: float = 10.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.channels, self.D = require_count("channels", channels), require_count("D", D)
        self.sharpness = require_positive("sharpness", sharpness)
        if require_count("kernel", kernel) % 2 == 0:
            raise ValueError(f"kernel must be odd, to have a middle, got {kernel}")
        places = channels * require_count("maps", maps)
        options = {"stride": require_count("stride", stride), "padding": kernel // 2, "groups": channels}
        self.features = init_(nn.utils.skip_init(nn.Conv2d, channels, places, kernel, **options), generator)
        self.mix = init_(nn.utils.skip_init(nn.Linear, 2 * places, D), generator)

    def keypoints(self, x: Tensor) -> Tensor:
        """u, (..., K, 2), x then y, from −1 to 1: pictures (..., C, height, width)."""
        if x.ndim < 3 or x.shape[-3] != self.channels:
            raise ValueError(f"x must be pictures (..., {self.channels}, height, width), got shape {tuple(x.shape)}")
        scores = self.sharpness * self.features(x.flatten(0, -4) if x.ndim > 3 else x[None])
        shares = scores.flatten(-2).softmax(-1).view_as(scores)
        axes = (torch.linspace(-1, 1, n, dtype=x.dtype, device=x.device) for n in (shares.shape[-1], shares.shape[-2]))
        across, down = (shares.sum(dim) @ axis for dim, axis in zip((-2, -1), axes, strict=True))
        return torch.stack([across, down], -1).view(*x.shape[:-3], self.features.out_channels, 2)

    def forward(self, x: Tensor) -> Tensor:
        """s, (..., D), of pictures (..., C, height, width)."""
        return self.mix(2 * self.keypoints(x).flatten(-2))  # in a square, a mean place has a deviation of about a half

    def extra_repr(self) -> str:
        """Show the sharpness, which no layer shows."""
        return f"sharpness={self.sharpness:g}"
