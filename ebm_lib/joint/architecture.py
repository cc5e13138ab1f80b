r"""What joint-embedding methods are put together from: encoder, head, momentum copy.

.. math:: x \to \text{Enc}(x) = h \;\text{(representation)} \to \text{head}(h) = z \;\text{(embedding)}
"""

import copy
import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ebm_lib.nn import init_
from ebm_lib.require import require_count, require_points


class SmallEncoder(nn.Module):
    r"""A convolutional encoder for small pictures: each layer halves them, and the last is averaged over places.

    .. math:: h_{l} = \text{relu}(\text{BN}(W_l * h_{l-1})), \qquad \text{Enc}(x) = \langle h_L \rangle_{\text{places}}

    Kernels of 3 × 3, stride 2, no biases, which batch normalisation makes idle. The features are averaged, so where
    something is cannot be read off them: a random encoder gives the probe little.

    Args:
        channels: of each layer; the last is the width of the representation.
        inputs: colours of the pictures.
        batch_norm: False leaves the normalisation out, and gives the convolutions biases.
        generator: where the weights come from (see :func:`ebm_lib.nn.init_`).
        device: where they live.
        dtype: their dtype.

    Attributes:
        width: dimensions of the representation.

    Raises:
        ValueError: no layer, sizes below 1; when called, pictures of other colours, or not finite.

    Source: Ioffe and Szegedy, Batch Normalization (ICML 2015); LeCun et al., Gradient-based learning applied to
        document recognition (Proceedings of the IEEE 86, 1998).

    >>> encoder = SmallEncoder(generator=torch.Generator().manual_seed(0))
    >>> encoder(torch.zeros(2, 3, 32, 32)).shape, sum(p.numel() for p in encoder.parameters())
    (torch.Size([2, 128]), 241184)
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 128, 128),
        *,
        inputs: int = 3,
        batch_norm: bool = True,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not channels:
            raise ValueError("channels must hold at least one layer's width, got none")
        sizes = (require_count("inputs", inputs), *channels)
        for position, size in enumerate(channels):
            require_count(f"channels[{position}]", size)
        self.width = channels[-1]
        kind = {"device": device, "dtype": dtype}
        layers = []
        for before, after in itertools.pairwise(sizes):
            layers.append(nn.utils.skip_init(nn.Conv2d, before, after, 3, 2, 1, bias=not batch_norm,
                                             **kind | {"device": device or torch.get_default_device()}))  # fmt: skip
            layers += [nn.BatchNorm2d(after, **kind)] if batch_norm else []
            layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers)
        self.inputs = inputs
        init_(self, generator)

    def forward(self, images: Tensor) -> Tensor:
        """Representations (N, width) of pictures (N, C, height, width)."""
        if images.ndim != 4 or images.shape[1] != self.inputs:
            raise ValueError(f"images must be (N, {self.inputs}, height, width), got shape {tuple(images.shape)}")
        require_points("images", images)
        # The same numbers in another order in memory, in which convolutions on a CPU take half the time
        return self.layers(images.contiguous(memory_format=torch.channels_last)).mean((2, 3))


def head(
    sizes: Sequence[int],
    *,
    batch_norm: bool = True,
    norm_output: bool = False,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Sequential:
    r"""A projection, expander or prediction head: linear layers with batch normalisation and relu between them.

    .. math:: \text{head}(h) = W_L\, \text{relu}(\text{BN}(W_{L-1} \cdots \text{relu}(\text{BN}(W_1 h))))

    As published: two layers for SimCLR, MoCo v2, BYOL (whose predictor is one more of these); three for Barlow Twins
    and VICReg; three with ``norm_output`` for SimSiam, whose predictor has two and a narrow middle.

    Args:
        sizes: widths from input to output, at least two.
        batch_norm: normalise between the layers.
        norm_output: normalise the output as well, without a learned scale.
        generator: where the weights come from (see :func:`ebm_lib.nn.init_`).
        device: where they live.
        dtype: their dtype.

    Returns:
        The layers.

    Raises:
        ValueError: fewer than two sizes, a size below 1.

    Source: Chen, Kornblith, Norouzi and Hinton, A Simple Framework for Contrastive Learning of Visual Representations
    (ICML 2020), section 4.2; LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022),
    "VICReg: Variance-Invariance-Covariance Regularization" (expanders).

    >>> [type(layer).__name__ for layer in head((128, 256, 64))]
    ['Linear', 'BatchNorm1d', 'ReLU', 'Linear']
    """
    if len(sizes) < 2:
        raise ValueError(f"sizes must hold at least the input's and the output's, got {tuple(sizes)}")
    for position, size in enumerate(sizes):
        require_count(f"sizes[{position}]", size)
    kind = {"device": device, "dtype": dtype}
    layers: list[nn.Module] = []
    for position, (before, after) in enumerate(itertools.pairwise(sizes)):
        last = position == len(sizes) - 2
        normed = norm_output if last else batch_norm
        layers.append(nn.utils.skip_init(nn.Linear, before, after, bias=not normed,
                                         **kind | {"device": device or torch.get_default_device()}))  # fmt: skip
        layers += [nn.BatchNorm1d(after, affine=not last, **kind)] if normed else []
        layers += [] if last else [nn.ReLU()]
    return init_(nn.Sequential(*layers), generator)


class Momentum(nn.Module):
    r"""A copy of a network whose weights follow the original's as a moving average.

    .. math:: \xi \leftarrow m\,\xi + (1 - m)\,\theta

    The copy's weights get no gradient; optimizers that take ``requires_grad`` parameters leave it alone. Its buffers
    (batch normalisation's statistics) are its own, kept up by its own forward passes, as in the papers' code.

    Args:
        online: the network to follow; it is copied.
        momentum: m in [0, 1], if :meth:`update` is not told otherwise; 0 makes it the network itself.

    Attributes:
        copy: the network.

    Raises:
        ValueError: m outside [0, 1]; in :meth:`update`, a network of other parameters.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Distillation Methods"; He, Fan, Wu,
        Xie and Girshick, Momentum Contrast (CVPR 2020), eq. 2; Grill et al., Bootstrap Your Own Latent (NeurIPS 2020).

    >>> online = nn.Linear(1, 1)
    >>> slow = Momentum(online, momentum=0.75)
    >>> before = slow.copy.weight.clone()
    >>> with torch.no_grad():
    ...     _ = online.weight.add_(4.0)
    >>> slow.update(online)
    >>> (slow.copy.weight - before).item()
    1.0
    """

    def __init__(self, online: nn.Module, *, momentum: float = 0.99) -> None:
        super().__init__()
        self.momentum = _share("momentum", momentum)
        self.copy = copy.deepcopy(online).requires_grad_(False)

    @torch.no_grad()
    def forward(self, *inputs: Tensor) -> Tensor:
        """What the copy returns, without gradient."""
        return self.copy(*inputs)

    @torch.no_grad()
    def update(self, online: nn.Module, momentum: float | None = None) -> None:
        """Move the copy towards ``online``: call it once after each step of the optimizer."""
        m = self.momentum if momentum is None else _share("momentum", momentum)
        mine, theirs = dict(self.copy.named_parameters()), dict(online.named_parameters())
        if {k: p.shape for k, p in mine.items()} != {k: p.shape for k, p in theirs.items()}:
            raise ValueError("online must have the parameters of the network that was copied, by name and shape")
        for name, slow in mine.items():
            slow.lerp_(theirs[name].to(slow), 1 - m)


def momentum_schedule(progress: float, start: float = 0.99, end: float = 1.0) -> float:
    r"""The momentum at a given point of training: from ``start`` to ``end`` along half a cosine.

    .. math:: m = m_1 - (m_1 - m_0)\,\tfrac12 \big(1 + \cos \pi p\big)

    Args:
        progress: p from 0 to 1, the share of training that is done.
        start: m₀, in [0, 1]; 0.996 in the paper, for long training.
        end: m₁.

    Returns:
        m.

    Raises:
        ValueError: a number outside [0, 1].

    Source: Grill et al., Bootstrap Your Own Latent (NeurIPS 2020), section 3.2.

    >>> [momentum_schedule(p, 0.9) for p in (0.0, 0.5, 1.0)]
    [0.9, 0.95, 1.0]
    """
    for name, value in (("progress", progress), ("start", start), ("end", end)):
        _share(name, value)
    return end - (end - start) * (1 + math.cos(math.pi * progress)) / 2


def _share(name: str, value: float) -> float:
    if isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be from 0 to 1, got {value}")
    return value
