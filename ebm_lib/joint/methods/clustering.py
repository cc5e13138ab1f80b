"""Methods whose targets are clusters, DeepCluster and SwAV, and the supervised baseline, whose targets are labels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ebm_lib.joint.architecture import SmallEncoder, head
from ebm_lib.joint.clustering import Classified, Prototypes, Swapped, assign, deepcluster, swav
from ebm_lib.joint.methods.base import Method
from ebm_lib.joint.probes import represent, require_labels
from ebm_lib.nn import init_
from ebm_lib.require import require_count


class DeepCluster(Method):
    """Cluster the whole data set before each epoch, then learn to classify into the clusters.

    Args:
        encoder: with an attribute ``width``.
        N: samples of the data set.
        K: clusters.
        hidden: width of the hidden layer between the representation and the classifier.
        balanced: weigh samples as if each cluster were equally large.
        generator: where the weights come from.

    Attributes:
        codes: each sample's cluster, (N,).
        counts: samples of each cluster, (K,).

    Raises:
        ValueError: sizes out of range; when called, as the criterion.

    Source: Caron, Bojanowski, Joulin and Douze, Deep Clustering for Unsupervised Learning of Visual Features (ECCV
        2018).

    >>> g = torch.Generator().manual_seed(0)
    >>> method = DeepCluster(SmallEncoder((8, 8), generator=g), 60, K=4, generator=g)
    >>> method.begin_epoch(torch.rand(60, 3, 16, 16, generator=g), g)
    >>> views = [torch.rand(8, 3, 16, 16, generator=g), torch.rand(8, 3, 16, 16, generator=g)]
    >>> method(views, torch.arange(8), g)._fields
    ('loss', 'positive', 'negative')
    """

    def __init__(
        self,
        encoder: SmallEncoder,
        N: int,
        *,
        K: int = 100,
        hidden: int = 256,
        balanced: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head((encoder.width, hidden, K), generator=generator)
        self.register_buffer("codes", torch.zeros(require_count("N", N), dtype=torch.long))
        self.register_buffer("counts", torch.zeros(K, dtype=torch.long))
        self.balanced = balanced

    def begin_epoch(self, images: Tensor, generator: torch.Generator | None = None) -> None:
        """Cluster anew, and start the classifier anew: the clusters' numbers mean nothing from epoch to epoch."""
        if len(images) != len(self.codes):
            raise ValueError(f"images must be the data set's {len(self.codes)}, got {len(images)}")
        features = represent(self.encoder, images.to(self.codes.device))
        found = assign(features, len(self.counts), generator=generator)
        self.codes.copy_(found.codes)
        self.counts.copy_(found.counts)
        init_(self.head[-1], generator)

    def forward(self, views: Sequence[Tensor], rows: Tensor, generator: torch.Generator | None = None) -> Classified:
        """Cross-entropy of all views together."""
        logits = torch.cat([self.head(self.encoder(view)) for view in views])
        codes = self.codes[rows].repeat(len(views))
        return deepcluster(logits, codes, self.counts if self.balanced else None)


class SwAV(Method):
    """Predict from each view the prototypes that the large views were assigned to by Sinkhorn–Knopp.

    Args:
        encoder: with an attribute ``width``.
        D: dimensions of the embedding.
        K: prototypes.
        hidden: width of the head's hidden layer.
        assigned: how many of the first views are assigned.
        temperature: τ.
        epsilon: of the assignment.
        iterations: of Sinkhorn–Knopp.
        generator: where the weights come from.

    Raises:
        ValueError: sizes out of range; when called, as the criterion.

    Source: Caron et al., Unsupervised Learning of Visual Features by Contrasting Cluster Assignments (NeurIPS 2020).

    >>> g = torch.Generator().manual_seed(0)
    >>> method = SwAV(SmallEncoder((8, 8), generator=g), generator=g)
    >>> views = [torch.rand(8, 3, 16, 16, generator=g), torch.rand(8, 3, 16, 16, generator=g)]
    >>> method(views, torch.arange(8), g)._fields
    ('loss', 'entropy', 'divergence')
    """

    def __init__(
        self,
        encoder: SmallEncoder,
        *,
        D: int = 64,
        K: int = 100,
        hidden: int = 256,
        assigned: int = 2,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        iterations: int = 3,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head((encoder.width, hidden, D), generator=generator)
        self.prototypes = Prototypes(D, K, generator=generator)
        self.options = {"assigned": assigned, "temperature": temperature, "epsilon": epsilon, "iterations": iterations}

    def forward(self, views: Sequence[Tensor], rows: Tensor, generator: torch.Generator | None = None) -> Swapped:
        """Swapped prediction."""
        return swav([self.prototypes(self.head(self.encoder(view))) for view in views], **self.options)


class Supervised(Method):
    """The baseline that is told the labels: what the same encoder can do.

    Args:
        encoder: with an attribute ``width``.
        labels: of the whole data set, (N,).
        generator: where the classifier's weights come from.

    Raises:
        ValueError: sizes out of range; when called, as the criterion.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Joint Embedding" (the
        supervised linear head), with the encoder trained too.

    >>> g = torch.Generator().manual_seed(0)
    >>> method = Supervised(SmallEncoder((8, 8), generator=g), torch.arange(60) % 3, generator=g)
    >>> views = [torch.rand(8, 3, 16, 16, generator=g), torch.rand(8, 3, 16, 16, generator=g)]
    >>> method(views, torch.arange(8), g)._fields
    ('loss', 'positive', 'negative')
    """

    def __init__(self, encoder: SmallEncoder, labels: Tensor, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = init_(nn.Linear(encoder.width, require_labels("labels", labels)), generator)
        self.register_buffer("labels", labels.long())

    def forward(self, views: Sequence[Tensor], rows: Tensor, generator: torch.Generator | None = None) -> Classified:
        """Cross-entropy of all views together."""
        logits = torch.cat([self.classifier(self.encoder(view)) for view in views])
        return deepcluster(logits, self.labels[rows].repeat(len(views)))
