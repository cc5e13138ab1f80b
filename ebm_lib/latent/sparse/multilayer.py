"""Convolutional sparse coding in layers: codes of codes, inferred together."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ebm_lib.latent.model import require_data, require_last
from ebm_lib.latent.sparse.convolutional import ConvSparseCoding, conv_norm
from ebm_lib.latent.sparse.proximal import proximal_gradient
from ebm_lib.require import require_count, require_positive
from ebm_lib.train import History, fit


class ConvSparseStack(nn.Module):
    r"""Layers of convolutional sparse coding, each of which explains the codes of the one below.

    .. math:: E(y, z_1, \dots, z_L) = \sum_{l=1}^L \kappa_l \Big( \lVert z_{l-1} - W_l * z_l \rVert^2
        + \lambda_l \lVert z_l \rVert_1 \Big), \qquad z_0 = y

    The code is all layers' codes side by side, z = (z₁, …, z_L). The energy is convex in all of them at once, so
    inference is one descent in which what is above helps to decide what is below.

    Args:
        layers: the models, from the picture up: the ``shape`` of each is the ``code_shape`` of the one below.
        weights: κ > 0 of each; 1 if None.

    Attributes:
        layers: an ``nn.ModuleList``.
        weights: a tuple.

    Raises:
        ValueError: no layer, shapes that do not fit, as many weights as layers not given or not positive. In every
            method, another last dimension or values that are not finite.

    Source: LeCun, Energy-Based Models, part 1 (NYU Deep Learning, spring 2020), "Multilayer Convolutional Sparse
    Modeling"; Zeiler, Krishnan, Taylor and Fergus, Deconvolutional Networks (CVPR 2010).

    >>> g = torch.Generator().manual_seed(0)
    >>> below = ConvSparseCoding((1, 8, 8), 4, 3, lam=0.1, generator=g)
    >>> stack = ConvSparseStack([below, ConvSparseCoding(below.code_shape, 6, 4, lam=0.1, stride=2, generator=g)])
    >>> [maps.shape for maps in stack.split(stack.infer(torch.ones(1, 64)))]
    [torch.Size([1, 400]), torch.Size([1, 294])]
    """

    def __init__(self, layers: Sequence[ConvSparseCoding], weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if not layers:
            raise ValueError("layers must hold at least one model, got none")
        for position in range(1, len(layers)):
            if layers[position].shape != layers[position - 1].code_shape:
                raise ValueError(
                    f"layers[{position}] must explain the codes below, of shape {layers[position - 1].code_shape}, "
                    f"got one for {layers[position].shape}"
                )
        self.layers = nn.ModuleList(layers)
        self.weights = (1.0,) * len(layers) if weights is None else tuple(weights)
        if len(self.weights) != len(layers):
            raise ValueError(f"weights must be one per layer, {len(layers)}, got {len(self.weights)}")
        for position, weight in enumerate(self.weights):
            require_positive(f"weights[{position}]", weight)

    @property
    def code_sizes(self) -> tuple[int, ...]:
        """How many code units each layer has."""
        return tuple(math.prod(layer.code_shape) for layer in self.layers)

    def split(self, z: Tensor) -> tuple[Tensor, ...]:
        """Cut a code (..., Σ Kₗ·hₗ·wₗ) into those of the layers, from the picture up."""
        return require_last("z", z, sum(self.code_sizes)).split(self.code_sizes, -1)

    def reconstruct(self, z: Tensor) -> tuple[Tensor, ...]:
        """Pictures from each layer's code alone, decoded down through all layers below, each (..., C · H · W)."""
        pictures = []
        for level, code in enumerate(self.split(z)):
            for layer in reversed(self.layers[: level + 1]):
                code = layer.decode(code)
            pictures.append(code)
        return tuple(pictures)

    def decode(self, z: Tensor) -> Tensor:
        """ȳ = W₁ ∗ z₁, (..., C · H · W): the first of :meth:`reconstruct`."""
        return self.layers[0].decode(self.split(z)[0])

    def energy(self, y: Tensor, z: Tensor) -> Tensor:
        """E(y, z), (...); leading dimensions broadcast."""
        total, below = 0.0, y
        for layer, weight, code in zip(self.layers, self.weights, self.split(z), strict=True):
            total = total + weight * layer.energy(below, code)
            below = code
        return total

    def _gradient(self, y: Tensor, z: Tensor) -> Tensor:
        codes = self.split(z)
        parts = [torch.zeros_like(code) for code in codes]
        below = y
        for level, (layer, weight, code) in enumerate(zip(self.layers, self.weights, codes, strict=True)):
            excess = layer.decode(code) - below
            parts[level] = parts[level] + 2 * weight * layer.correlate(excess)
            if level > 0:
                parts[level - 1] = parts[level - 1] - 2 * weight * excess
            below = code
        return torch.cat(parts, -1)

    def max_step_size(self) -> float:
        r"""A safe step: one over twice the squared norm of the whole linear map, by the norms of its blocks.

        The map is block bidiagonal, with √κₗ Wₗ on the diagonal and −√κₗ I beside it; the norm of the small matrix of
        the blocks' norms is at least its own.
        """
        count = len(self.layers)
        norms = torch.zeros(count, count, dtype=torch.float64)
        for level, (layer, weight) in enumerate(zip(self.layers, self.weights, strict=True)):
            norms[level, level] = math.sqrt(weight) * conv_norm(layer.W, layer.shape[1:])
            if level > 0:
                norms[level, level - 1] = math.sqrt(weight)
        return 1 / (2 * torch.linalg.matrix_norm(norms, 2).item() ** 2)

    @torch.no_grad()
    def infer(self, y: Tensor, *, steps: int = 200, tol: float = 1e-4, start: Tensor | None = None) -> Tensor:
        """All layers' codes of lowest energy, (..., Σ Kₗ·hₗ·wₗ), by :func:`proximal_gradient`.

        Args:
            y: pictures, (..., C · H · W).
            steps: iterations at most.
            tol: as there.
            start: where to begin; 0 if None.
        """
        require_last("y", y, math.prod(self.layers[0].shape))
        eta = self.max_step_size()
        threshold = torch.cat(
            [
                y.new_full((size,), eta * weight * layer.lam)
                for layer, weight, size in zip(self.layers, self.weights, self.code_sizes, strict=True)
            ]
        )
        start = y.new_zeros(*y.shape[:-1], sum(self.code_sizes)) if start is None else start
        return proximal_gradient(
            lambda z: self._gradient(y, z), start, step_size=eta, threshold=threshold, steps=steps, tol=tol
        )

    def free_energy(self, y: Tensor, beta: float = math.inf) -> Tensor:
        """F(y) = min_z E(y, z), (...). Only β = ∞ has a closed form."""
        if beta != math.inf:
            raise ValueError(f"beta must be inf: the integral over z has no closed form, got {beta}")
        return self.energy(y, self.infer(y))

    def forward(self, y: Tensor) -> Tensor:
        """The free energy at β = ∞, (...)."""
        return self.free_energy(y)

    def learn_greedily(self, y: Tensor, *, inference_steps: int = 100, **options: Any) -> list[History]:
        """Learn the layers one after the other, each from the codes that the one below finds by itself.

        Args:
            y: pictures, (N, C · H · W).
            inference_steps: iterations for the codes handed up.
            options: of :meth:`ConvSparseCoding.learn`, the same for each layer.

        Returns:
            The history of each layer.
        """
        histories = []
        for level, layer in enumerate(self.layers):
            if level > 0:
                y = self.layers[level - 1].infer(y, steps=inference_steps)
            histories.append(layer.learn(y, **options))
        return histories

    def learn(
        self,
        y: Tensor,
        *,
        steps: int = 300,
        batch_size: int | None = 16,
        lr: float = 3e-3,
        inference_steps: int = 50,
        generator: torch.Generator | None = None,
        progress: bool = True,
    ) -> History:
        """Learn all layers together, as :meth:`ConvSparseCoding.learn` does one; best after :meth:`learn_greedily`.

        Args:
            y: pictures, (N, C · H · W).
            steps: updates.
            batch_size: pictures per update, at most N; None takes all.
            lr: Adam's learning rate at the start; it falls to 0.
            inference_steps: iterations for the codes of each batch.
            generator: draws the batches.
            progress: show a bar.

        Returns:
            The history; ``loss`` is the mean E(y, ž) of each batch.
        """
        require_data(y, math.prod(self.layers[0].shape))

        def normalize(_: History) -> None:
            for layer in self.layers:
                layer.normalize_()

        optimizer = torch.optim.Adam(self.parameters(), lr=require_positive("lr", lr))
        return fit(
            self,
            lambda stack, y: stack.energy(y, stack.infer(y, steps=inference_steps, tol=0.0)).mean(),
            y,
            steps=steps,
            batch_size=batch_size,
            optimizer=optimizer,
            scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, require_count("steps", steps)),
            callback=normalize,
            generator=generator,
            progress=progress,
        )
