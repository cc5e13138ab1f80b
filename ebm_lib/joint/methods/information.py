"""Methods that keep the embedding informative by a term of the loss: Barlow Twins, VICReg, SIGReg."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ebm_lib.joint.architecture import SmallEncoder, head
from ebm_lib.joint.gaussian import LeJEPATerms, lejepa
from ebm_lib.joint.information import BarlowTerms, VICRegTerms, barlow_twins, vicreg
from ebm_lib.joint.methods.base import Method


class BarlowTwins(Method):
    """The cross-correlation of the two views' embeddings is pulled to the identity.

    Args:
        encoder: with an attribute ``width``.
        D: dimensions of the embedding.
        hidden: width of the head's hidden layers.
        redundancy: λ.
        generator: where the head's weights come from.

    Raises:
        ValueError: sizes out of range; when called, as the criterion.

    Source: Zbontar, Jing, Misra, LeCun and Deny, Barlow Twins (ICML 2021).

    >>> g = torch.Generator().manual_seed(0)
    >>> method = BarlowTwins(SmallEncoder((8, 8), generator=g), generator=g)
    >>> views = [torch.rand(8, 3, 16, 16, generator=g), torch.rand(8, 3, 16, 16, generator=g)]
    >>> method(views, torch.arange(8), g)._fields
    ('loss', 'invariance', 'redundancy')
    """

    def __init__(
        self,
        encoder: SmallEncoder,
        *,
        D: int = 512,
        hidden: int = 512,
        redundancy: float = 0.005,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head((encoder.width, hidden, hidden, D), generator=generator)
        self.redundancy = redundancy

    def forward(self, views: Sequence[Tensor], rows: Tensor, generator: torch.Generator | None = None) -> BarlowTerms:
        """Barlow Twins' criterion."""
        z1, z2 = (self.head(self.encoder(view)) for view in views)
        return barlow_twins(z1, z2, redundancy=self.redundancy)


class VICReg(Method):
    """Invariance, variance and covariance. The branches may differ, in weights, architecture and what they see.

    Args:
        encoder: with an attribute ``width``.
        D: dimensions of the embedding.
        hidden: width of the expander's hidden layers.
        invariance: λ.
        variance: μ.
        covariance: ν.
        batch_norm: normalise between the expander's layers.
        other: the second branch's encoder, with an attribute ``width``; None shares the first one.
        share_head: whether the second branch shares the expander.
        generator: where the expanders' weights come from.

    Raises:
        ValueError: sizes out of range; when called, as the criterion.

    Source: Bardes, Ponce and LeCun, VICReg (ICLR 2022); LeCun, From Machine Learning to Autonomous Intelligence,
        lecture 3 (Les Houches 2022), "VICReg: No need for weight sharing between the branches!".

    >>> g = torch.Generator().manual_seed(0)
    >>> method = VICReg(SmallEncoder((8, 8), generator=g), generator=g)
    >>> views = [torch.rand(8, 3, 16, 16, generator=g), torch.rand(8, 3, 16, 16, generator=g)]
    >>> method(views, torch.arange(8), g)._fields
    ('loss', 'invariance', 'variance', 'covariance')
    """

    def __init__(
        self,
        encoder: SmallEncoder,
        *,
        D: int = 512,
        hidden: int = 512,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        batch_norm: bool = True,
        other: nn.Module | None = None,
        share_head: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.other = encoder, encoder if other is None else other
        if share_head and self.other.width != encoder.width:
            raise ValueError(
                f"other must have width {encoder.width} to share the head, got {self.other.width}: or share_head=False"
            )
        expander = {"batch_norm": batch_norm, "generator": generator}
        self.head = head((encoder.width, hidden, hidden, D), **expander)
        self.other_head = self.head if share_head else head((self.other.width, hidden, hidden, D), **expander)
        self.weights = {"invariance": invariance, "variance": variance, "covariance": covariance}

    def forward(self, views: Sequence[Tensor], rows: Tensor, generator: torch.Generator | None = None) -> VICRegTerms:
        """VICReg's criterion, one branch for each view."""
        first, second = views
        return vicreg(self.head(self.encoder(first)), self.other_head(self.other(second)), **self.weights)


class SIGReg(Method):
    """LeJEPA's criterion: views near their mean, embeddings Gaussian in random directions. Any number of views.

    Args:
        encoder: with an attribute ``width``.
        D: dimensions of the embedding.
        hidden: width of the head's hidden layers.
        weight: λ.
        slices: directions a step.
        targets: how many of the first views make the mean; None takes all.
        generator: where the head's weights come from.

    Raises:
        ValueError: sizes out of range; when called, as the criterion.

    Source: Balestriero and LeCun, LeJEPA (arXiv:2511.08544, 2025).

    >>> g = torch.Generator().manual_seed(0)
    >>> method = SIGReg(SmallEncoder((8, 8), generator=g), generator=g)
    >>> views = [torch.rand(8, 3, 16, 16, generator=g), torch.rand(8, 3, 16, 16, generator=g)]
    >>> method(views, torch.arange(8), g)._fields
    ('loss', 'prediction', 'gaussianity')
    """

    def __init__(
        self,
        encoder: SmallEncoder,
        *,
        D: int = 64,
        hidden: int = 512,
        weight: float = 0.05,
        slices: int = 256,
        targets: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head((encoder.width, hidden, hidden, D), generator=generator)
        self.options = {"weight": weight, "slices": slices, "targets": targets}

    def forward(self, views: Sequence[Tensor], rows: Tensor, generator: torch.Generator | None = None) -> LeJEPATerms:
        """LeJEPA's criterion."""
        z = [self.head(self.encoder(view)) for view in views]
        return lejepa(z, generator=generator, **self.options)
