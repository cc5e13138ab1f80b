"""What all joint-embedding methods have in common, and the way they are trained."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ebm_lib.joint._require import require_weight
from ebm_lib.require import require_count, require_positive
from ebm_lib.train import History, fit

MakeViews = Callable[[Tensor, torch.Generator | None], Sequence[Tensor]]


class Method(nn.Module):
    """A way to train an encoder: what is evaluated afterwards is ``encoder``, all else is scaffolding.

    A subclass sets ``encoder`` and defines :meth:`forward`, which maps views of a batch to a criterion, a named tuple
    with ``loss`` and its terms. What else it needs (predictor, momentum copy, queue, clusters) it owns as modules and
    buffers, so that a checkpoint holds all of it.

    Attributes:
        encoder: pictures to representations.
        steps: updates done, a scalar int64.
    """

    encoder: nn.Module

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, views: Sequence[Tensor], rows: Tensor, generator: torch.Generator | None = None) -> NamedTuple:
        """The criterion of a batch: its views, and which rows of the data set they are of."""
        raise NotImplementedError

    def begin_epoch(self, images: Tensor, generator: torch.Generator | None = None) -> None:
        """What happens before each pass through the data set; nothing by default."""

    def finish_step(self, progress: float) -> None:
        """What happens after each update, ``progress`` being the share of training done; nothing by default."""


def learn(
    method: Method,
    images: Tensor,
    views: MakeViews,
    *,
    epochs: int,
    batch_size: int = 256,
    lr: float = 2e-3,
    weight_decay: float = 1e-4,
    warmup: float = 0.05,
    generator: torch.Generator | None = None,
    progress: bool = True,
    **options: Any,
) -> History:
    r"""Train a method on pictures, by the course's one loop.

    .. math:: w \leftarrow w - \eta_t\, g\big(\nabla_w \mathcal L(T_1(x), T_2(x), \dots)\big)

    with AdamW for g, and a learning rate that rises linearly for the first part of training and falls to 0 along half
    a cosine. Views are drawn anew at each step. The schedule starts at its beginning whatever the method went through
    before, unless a checkpoint is resumed.

    Args:
        method: trained in place.
        images: (N, C, height, width).
        views: a function of (images, generator) that returns views, such as :class:`~ebm_lib.joint.augment.Views`.
        epochs: passes through the data.
        batch_size: at most N; an incomplete last batch is left out.
        lr: η at its highest.
        weight_decay: AdamW's, on matrices and kernels; biases and normalisation layers are left alone.
        warmup: share of training in which η rises.
        generator: all randomness: batches, views, and what the method draws.
        progress: show a bar.
        options: more of :func:`ebm_lib.train.fit`'s, such as ``checkpoint``.

    Returns:
        The history: the loss and its terms at each step.

    Raises:
        ValueError: as :func:`ebm_lib.train.fit`; options out of range.

    >>> from ebm_lib.joint import SimCLR, SmallEncoder
    >>> g = torch.Generator().manual_seed(0)
    >>> method = SimCLR(SmallEncoder((8, 8), generator=g), generator=g)
    >>> jitter = lambda x, g: [x + 0.1 * torch.randn(x.shape, generator=g) for _ in range(2)]
    >>> learn(method, torch.rand(64, 3, 8, 8, generator=g), jitter, epochs=2, batch_size=32, generator=g,
    ...       progress=False).steps
    4
    """
    require_positive("lr", lr)
    require_weight("weight_decay", weight_decay)
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup must be in [0, 1), got {warmup}")
    if not 1 <= require_count("batch_size", batch_size) <= len(images):
        raise ValueError(f"batch_size must be at most the {len(images)} samples, got {batch_size}")
    per_epoch = len(images) // batch_size
    total = require_count("epochs", epochs) * per_epoch
    method.steps.zero_()  # a checkpoint that is resumed brings its own
    trained = [p for p in method.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=lr)
    rise = max(1, round(warmup * total))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return (1 + math.cos(math.pi * (step - rise) / max(1, total - rise))) / 2

    def loss(method: Method, batch: Tensor, rows: Tensor) -> dict[str, Tensor]:
        if int(method.steps) % per_epoch == 0:
            method.begin_epoch(images, generator)
        return method(views(batch, generator), rows, generator)._asdict()

    def after(history: History) -> None:
        method.finish_step(min(1.0, history.steps / total))
        method.steps.fill_(history.steps)

    return fit(
        method, loss, (images, torch.arange(len(images))), steps=total, batch_size=batch_size, optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.LambdaLR(optimizer, factor), generator=generator, callback=after,
        progress=progress, **options,
    )  # fmt: skip
