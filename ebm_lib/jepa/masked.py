r"""JEPA on masked pictures: predict the representations of hidden patches from those of the patches that are seen.

.. math::

    E(x, y, z) = \frac1{|z|} \sum_{k \in z} \frac1D \big\lVert \text{Pred}(s_x)_k - s_{y,k} \big\rVert^2, \qquad
    s_x = \text{Enc}(\text{context of } x), \quad s_y = \text{Enc}_y(y)

The target encoder sees the whole picture, so that a target says what a patch means where it stands.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ebm_lib.jepa.information import Information
from ebm_lib.jepa.masking import Masks
from ebm_lib.jepa.model import JEPA, JEPATerms
from ebm_lib.require import require_points


class MaskedJEPA(JEPA):
    r"""A JEPA whose x is the seen part of a picture and whose y is the whole: z says what is seen, and what is asked.

    .. math:: E(x, y, z_m) = \frac1{|z_m|} \sum_{k \in z_m} \frac1D \big\lVert \text{Pred}(s_x)_k - s_{y,k} \big\rVert^2

    z is known and not inferred: :class:`~ebm_lib.jepa.Masks`. x and y are pictures, as a rule the same one; with
    another y the energy tells whether its content would fit. With ``target=Pixels(...)`` this is a masked auto-encoder.

    Information is asked for at each place by itself: the term gets representations less their mean, over the batch, at
    that place. Otherwise "where am I" would be information enough, and the easiest to predict: ``by_place=False``.

    Args:
        encoder: a :class:`PatchEncoder`.
        predictor: a :class:`PatchPredictor`, or another function of (s_x, context).
        target: as :class:`JEPA`.
        information_x: I_x, of the seen patches of x.
        information_y: I_y, of all patches of y.
        prediction: λ ≥ 0.
        stop_gradient: as :class:`JEPA`.
        by_place: see above.

    Raises:
        ValueError: as :class:`JEPA`; masks that do not fit the pictures.

    Source: Assran and others, Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture
        (CVPR 2023), with the information terms of LeCun, From Machine Learning to Autonomous Intelligence, lecture 3
        (Les Houches 2022), "Training a JEPA (non contrastively)".

    >>> from ebm_lib.jepa import PatchEncoder, PatchPredictor, block_masks, variance_covariance
    >>> g = torch.Generator().manual_seed(0)
    >>> encoder, predictor = PatchEncoder(4, 2, 8, 2, 1, generator=g), PatchPredictor(4, 8, width=8, generator=g)
    >>> model = MaskedJEPA(encoder, predictor, information_y=variance_covariance)
    >>> y = torch.rand(6, 3, 8, 8, generator=g)
    >>> model.energy(y, y, block_masks(6, 4, blocks=2, generator=g)).shape
    torch.Size([6, 2])
    """

    def __init__(
        self,
        encoder: nn.Module,
        predictor: nn.Module,
        *,
        target: nn.Module | None = None,
        information_x: Information | None = None,
        information_y: Information | None = None,
        prediction: float = 1.0,
        stop_gradient: bool = False,
        by_place: bool = True,
    ) -> None:
        super().__init__(
            encoder, predictor, target=target, information_x=information_x, information_y=information_y,
            prediction=prediction, stop_gradient=stop_gradient,
        )  # fmt: skip
        self.by_place = by_place

    def represent(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """s_x, (N, T, D), of pictures of which ``context``, (N, T) bool, is seen; zeros elsewhere."""
        return require_points("s_x", self.encoder(x, context))

    def compare(self, s_x: Tensor, s_y: Tensor, z: Masks) -> Tensor:
        """E of representations, (N, M): a mean over the patches of each target."""
        asked = z.targets.to(s_y)
        wrong = self.surprise(s_x, s_y, z)
        if asked.ndim != 3 or asked.shape[::2] != wrong.shape:
            raise ValueError(f"targets must be ({len(wrong)}, M, {wrong.shape[1]}), got shape {tuple(asked.shape)}")
        return (asked @ wrong.unsqueeze(-1)).squeeze(-1) / asked.sum(-1).clamp(min=1)

    def surprise(self, s_x: Tensor, s_y: Tensor, z: Masks) -> Tensor:
        """How badly each patch is predicted, (N, T), whether asked for or not."""
        predicted = self.predictor(s_x, z.context)
        if predicted.shape != s_y.shape:
            raise ValueError(f"predictor must return {tuple(s_y.shape)}, as s_y, got {tuple(predicted.shape)}")
        return (predicted - s_y).square().mean(-1)

    def energy(self, x: Tensor, y: Tensor, z: Masks) -> Tensor:
        """E(x, y, z), (N, M): how badly each target block of y is predicted from the context of x."""
        return self.compare(self.represent(x, z.context), self.represent_target(y), z)

    free_energy = energy  # z is known: there is nothing to minimise over

    def criterion(self, x: Tensor, y: Tensor, z: Masks, generator: torch.Generator | None = None) -> JEPATerms:
        """The terms of a batch; that of a latent variable is 0."""
        return self.terms(self.represent(x, z.context), self.represent_target(y), z, generator)

    def terms(self, s_x: Tensor, s_y: Tensor, z: Masks, generator: torch.Generator | None = None) -> JEPATerms:
        """The criterion for representations, (N, T, D)."""
        aim = s_y.detach() if self.stop_gradient else s_y
        parts = (
            self.prediction * self.compare(s_x, aim, z).mean(),
            self._information(self.information_x, s_x, z.context, generator),
            self._information(self.information_y, s_y, torch.ones_like(z.context), generator),
            s_x.new_zeros(()),
        )
        return JEPATerms(sum(parts), *parts)

    def forward(self, views: Sequence, rows: Tensor, generator: torch.Generator | None = None) -> JEPATerms:
        """The criterion, as :func:`ebm_lib.joint.learn` calls it: views are x, y and z."""
        x, y, z = views
        return self.criterion(x, y, z, generator)

    def _information(
        self, term: Information | None, s: Tensor, seen: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        if term is None:
            return s.new_zeros(())
        return term(place_free(s, seen) if self.by_place else s[seen], generator=generator)


def place_free(s: Tensor, seen: Tensor | None = None) -> Tensor:
    r"""What representations of patches say beyond where they are.

    .. math:: s_{ik} - \langle s_{jk} \rangle_j

    Args:
        s: (N, T, D).
        seen: (N, T) bool, which of them count; all if None.

    Returns:
        (number of those seen, D): from each, the mean over the pictures in which its place is seen is subtracted.

    Raises:
        ValueError: shapes that do not fit.

    >>> place_free(torch.tensor([[[1.0], [5.0]], [[3.0], [5.0]]])).flatten()
    tensor([-1.,  0.,  1.,  0.])
    """
    if s.ndim != 3:
        raise ValueError(f"s must be (N, T, D), got shape {tuple(s.shape)}")
    if seen is None:
        return (s - s.mean(0)).flatten(0, 1)
    if seen.shape != s.shape[:2] or seen.dtype != torch.bool:
        raise ValueError(f"seen must be bool {tuple(s.shape[:2])}, got {seen.dtype} {tuple(seen.shape)}")
    counts = seen.to(s).unsqueeze(-1)
    return (s - (counts * s).sum(0) / counts.sum(0).clamp(min=1))[seen]
