"""Methods that need negatives: Siamese networks, SimCLR, MoCo, PIRL."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ebm_lib.joint.architecture import Momentum, SmallEncoder, head
from ebm_lib.joint.contrastive import Contrast, PIRLTerms, moco, nt_xent, pirl
from ebm_lib.joint.memory import MemoryBank, Queue
from ebm_lib.joint.methods.base import Method
from ebm_lib.joint.siamese import mine, siamese_square_square


class Siamese(Method):
    """Two branches with shared weights; a sample's views are a positive pair, and one view of another a negative one.

    Args:
        encoder: with an attribute ``width``.
        D: dimensions of the embedding.
        hidden: width of the head's hidden layer.
        margin: m.
        mining: how negatives are chosen in the batch (see :func:`ebm_lib.joint.mine`).
        generator: where the head's weights come from.

    Raises:
        ValueError: sizes out of range; when called, as the criterion.

    Source: Chopra, Hadsell and LeCun, Learning a Similarity Metric Discriminatively (CVPR 2005); Hadsell, Chopra and
        LeCun, Dimensionality Reduction by Learning an Invariant Mapping (CVPR 2006).

    >>> g = torch.Generator().manual_seed(0)
    >>> method = Siamese(SmallEncoder((8, 8), generator=g), generator=g)
    >>> views = [torch.rand(8, 3, 16, 16, generator=g), torch.rand(8, 3, 16, 16, generator=g)]
    >>> method(views, torch.arange(8), g)._fields
    ('loss', 'positive', 'negative')
    """

    def __init__(
        self,
        encoder: SmallEncoder,
        *,
        D: int = 64,
        hidden: int = 256,
        margin: float = 1.0,
        mining: str = "random",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head((encoder.width, hidden, D), norm_output=True, generator=generator)
        self.margin, self.mining = margin, mining
        self.scale = D**-0.5  # of the normalised output: vectors of length about 1

    def forward(self, views: Sequence[Tensor], rows: Tensor, generator: torch.Generator | None = None) -> Contrast:
        """The square-square loss of as many negative pairs as positive ones."""
        z1, z2 = (self.scale * self.head(self.encoder(view)) for view in views)
        others = ~torch.eye(len(z1), dtype=torch.bool, device=z1.device)
        negative = z2[mine(z1, z2, z2, others, self.mining, generator=generator)]
        same = torch.arange(2 * len(z1), device=z1.device) < len(z1)
        return siamese_square_square(torch.cat([z1, z1]), torch.cat([z2, negative]), same, margin=self.margin)


class SimCLR(Method):
    """All other views in the batch are negatives.

    Args:
        encoder: with an attribute ``width``.
        D: dimensions of the embedding.
        hidden: width of the head's hidden layer.
        temperature: τ.
        generator: where the head's weights come from.

    Raises:
        ValueError: sizes out of range; when called, as the criterion.

    Source: Chen, Kornblith, Norouzi and Hinton, A Simple Framework for Contrastive Learning of Visual Representations
        (ICML 2020).

    >>> g = torch.Generator().manual_seed(0)
    >>> method = SimCLR(SmallEncoder((8, 8), generator=g), generator=g)
    >>> views = [torch.rand(8, 3, 16, 16, generator=g), torch.rand(8, 3, 16, 16, generator=g)]
    >>> method(views, torch.arange(8), g)._fields
    ('loss', 'positive', 'negative')
    """

    def __init__(
        self,
        encoder: SmallEncoder,
        *,
        D: int = 64,
        hidden: int = 256,
        temperature: float = 0.2,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head((encoder.width, hidden, D), generator=generator)
        self.temperature = temperature

    def forward(self, views: Sequence[Tensor], rows: Tensor, generator: torch.Generator | None = None) -> Contrast:
        """NT-Xent."""
        z1, z2 = (self.head(self.encoder(view)) for view in views)
        return nt_xent(z1, z2, temperature=self.temperature)


class MoCo(Method):
    """Negatives from a queue of earlier keys, made by a momentum encoder.

    Args:
        encoder: with an attribute ``width``.
        D: dimensions of the embedding.
        hidden: width of the head's hidden layer.
        size: of the queue.
        temperature: τ.
        momentum: m of the key encoder.
        generator: where the head's weights and the first queue come from.

    Raises:
        ValueError: sizes out of range; when called, as the criterion.

    Source: He, Fan, Wu, Xie and Girshick, Momentum Contrast for Unsupervised Visual Representation Learning (CVPR
        2020).

    >>> g = torch.Generator().manual_seed(0)
    >>> method = MoCo(SmallEncoder((8, 8), generator=g), generator=g)
    >>> views = [torch.rand(8, 3, 16, 16, generator=g), torch.rand(8, 3, 16, 16, generator=g)]
    >>> method(views, torch.arange(8), g)._fields
    ('loss', 'positive', 'negative')
    """

    def __init__(
        self,
        encoder: SmallEncoder,
        *,
        D: int = 64,
        hidden: int = 256,
        size: int = 2048,
        temperature: float = 0.2,
        momentum: float = 0.99,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head((encoder.width, hidden, D), generator=generator)
        self.slow = Momentum(nn.Sequential(self.encoder, self.head), momentum=momentum)
        self.queue = Queue(size, D, generator=generator)
        self.temperature = temperature

    def forward(self, views: Sequence[Tensor], rows: Tensor, generator: torch.Generator | None = None) -> Contrast:
        """InfoNCE against the queue, which takes the new keys afterwards."""
        first, second = views
        query, key = self.head(self.encoder(first)), self.slow(second)
        criterion = moco(query, key, self.queue.values, temperature=self.temperature)
        self.queue.push(key)
        return criterion

    def finish_step(self, progress: float) -> None:
        """Move the key encoder."""
        self.slow.update(nn.Sequential(self.encoder, self.head))


class PIRL(Method):
    """A picture and its jigsaw both agree with the picture's entry in a memory bank. Views: picture, patches.

    Args:
        encoder: with an attribute ``width``.
        N: samples of the data set.
        D: dimensions of the embedding.
        patches: of the jigsaw.
        negatives: entries of the bank that each batch is contrasted with.
        temperature: τ.
        weight: λ.
        momentum: of the bank.
        generator: where the heads' weights and the first bank come from.

    Raises:
        ValueError: sizes out of range; when called, as the criterion.

    Source: Misra and van der Maaten, Self-Supervised Learning of Pretext-Invariant Representations (CVPR 2020).

    >>> g = torch.Generator().manual_seed(0)
    >>> method = PIRL(SmallEncoder((8, 8), generator=g), 60, patches=1, negatives=8, generator=g)
    >>> views = [torch.rand(8, 3, 16, 16, generator=g), torch.rand(8, 1, 3, 16, 16, generator=g)]
    >>> method(views, torch.arange(8), g)._fields
    ('loss', 'transformed', 'image')
    """

    def __init__(
        self,
        encoder: SmallEncoder,
        N: int,
        *,
        D: int = 64,
        patches: int = 4,
        negatives: int = 1024,
        temperature: float = 0.2,
        weight: float = 0.5,
        momentum: float = 0.5,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head((encoder.width, D), generator=generator)
        self.patch_head = head((encoder.width, D), generator=generator)
        self.join_head = head((patches * D, D), generator=generator)
        self.bank = MemoryBank(N, D, momentum=momentum, generator=generator)
        self.patches, self.negatives, self.temperature, self.weight = patches, negatives, temperature, weight

    def forward(self, views: Sequence[Tensor], rows: Tensor, generator: torch.Generator | None = None) -> PIRLTerms:
        """PIRL's two contrasts; the bank follows afterwards."""
        image, patches = views
        if patches.ndim != 5 or patches.shape[:2] != (len(image), self.patches):
            shape = f"({len(image)}, {self.patches}, C, height, width)"
            raise ValueError(f"views must be pictures and their patches, {shape}, got shape {tuple(patches.shape)}")
        f = self.head(self.encoder(image))
        g = self.join_head(self.patch_head(self.encoder(patches.flatten(0, 1))).view(len(f), -1))
        negatives = self.bank.negatives(rows, self.negatives, generator=generator)
        own = self.bank.values[rows]
        criterion = pirl(own, f, g, negatives, temperature=self.temperature, weight=self.weight)
        self.bank.update(rows, f)
        return criterion
