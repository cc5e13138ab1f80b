r"""Generative latent optimisation: a latent value for each training sample, learned together with the decoder.

.. math::

    E(y, z) = \lVert y - \text{Dec}(z) \rVert^2, \quad \lVert z \rVert \le 1, \qquad
    \mathcal L = \frac1N \sum_i \min_{z_i} E(y[i], z_i)

No encoder, no noise and no adversary: what limits z is its dimension and the ball that it is held in.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ebm_lib.data.draw import kind_of, normal
from ebm_lib.latent.model import require_data, require_decoded, require_last
from ebm_lib.latent.variational.descent import descend
from ebm_lib.latent.variational.shapes import joined, leading
from ebm_lib.nn import MLP
from ebm_lib.require import require_count, require_points, require_positive
from ebm_lib.train import History, fit


def project_ball(z: Tensor, *, radius: float = 1.0) -> Tensor:
    r"""The nearest point of a ball around the origin.

    .. math:: \Pi(z) = \frac{z}{\max(1, \lVert z \rVert / r)}

    Args:
        z: (..., L).
        radius: r > 0.

    Returns:
        (..., L); points within the ball stay where they are.

    Raises:
        ValueError: r not positive, values not finite.

    Source: Bojanowski, Joulin, Lopez-Paz and Szlam, Optimizing the latent space of generative networks (ICML 2018),
    section 2.

    >>> project_ball(torch.tensor([[3.0, 4.0], [0.3, 0.4]]))
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])
    """
    require_positive("radius", radius)
    far = require_points("z", z).norm(dim=-1, keepdim=True).isinf()
    # Where a square overflows, a point further in on the same ray stands for z: still outside the ball.
    z = torch.where(far, radius * (z / z.abs().amax(-1, keepdim=True).clamp(min=radius)), z)
    return z / (z.norm(dim=-1, keepdim=True) / radius).clamp(min=1)


class GLO(nn.Module):
    r"""A decoder whose codes are parameters, one for each training sample, in a ball; with an x if it has one.

    .. math::

        E(y, z) = \lVert y - \text{Dec}(z) \rVert^2 \quad\text{or}\quad
        E(x, y, z) = \lVert y - \text{Dec}(\text{Pred}(x), z) \rVert^2, \qquad \lVert z \rVert \le r

    The published criterion compares Laplacian pyramids; this is its squared error. New samples have no code of their
    own: ``infer`` descends in z, and ``sample`` draws from the Gaussian that fits the training codes.

    Args:
        D: dimensions of y.
        L: dimensions of z.
        Dx: dimensions of x; None for a model of y alone.
        radius: r of the ball.
        features: dimensions of Pred(x).
        hidden: widths of the hidden layers of each perceptron.
        decoder: any module (..., L) → (..., D), or (..., features + L) → (..., D), in place of the perceptron.
        predictor: any module (..., Dx) → (..., features).
        activation: the perceptrons'.
        generator: draws their weights.
        device: where they live.
        dtype: their dtype.

    Attributes:
        codes: of the training samples, (N, L), after ``learn``; (0, L) before.
        decoder: Dec.
        predictor: Pred, or None.

    Raises:
        ValueError: sizes below 1, a radius that is not positive; in every method, data of another shape or not finite,
            and an x where there should be none, or none where there should be one.

    Source: LeCun, Energy-Based Models, part 1 (NYU Deep Learning, spring 2020), where GLO is named; Bojanowski, Joulin,
    Lopez-Paz and Szlam, Optimizing the latent space of generative networks (ICML 2018).

    >>> model = GLO(3, 2, hidden=(8,), generator=torch.Generator().manual_seed(0))
    >>> history = model.learn(torch.randn(20, 3), steps=30, batch_size=10)
    >>> model.codes.shape, bool((model.codes.norm(dim=-1) <= 1 + 1e-6).all())
    (torch.Size([20, 2]), True)
    """

    def __init__(
        self,
        D: int,
        L: int,
        *,
        Dx: int | None = None,
        radius: float = 1.0,
        features: int = 64,
        hidden: tuple[int, ...] = (128,),
        decoder: nn.Module | None = None,
        predictor: nn.Module | None = None,
        activation: str = "silu",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.D, self.L, self.Dx = require_count("D", D), require_count("L", L), Dx
        self.radius = require_positive("radius", radius)
        made = {"activation": activation, "generator": generator, "device": device, "dtype": dtype}
        width = L
        if Dx is not None:
            width += require_count("features", features)
            require_count("Dx", Dx)
            predictor = MLP((Dx, *hidden, features), **made) if predictor is None else predictor
        elif predictor is not None:
            raise ValueError("predictor needs an x to predict from: give Dx too")
        self.predictor = predictor
        self.decoder = MLP((width, *reversed(hidden), D), **made) if decoder is None else decoder
        kind = next(iter(self.decoder.parameters()), torch.empty(0, dtype=dtype, device=device))
        dtype, device = kind_of(kind, None, None)
        self.codes = nn.Parameter(torch.empty(0, L, dtype=dtype, device=device))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        # The number of codes is that of the data learned from: a model just made has none. Codes of the same number
        # stay the parameter that they are, as an optimizer may hold it.
        stored, own = state.get(f"{prefix}codes"), self.codes.shape
        if stored is not None and stored.shape[1:] == own[1:] and stored.shape != own:
            self.codes = nn.Parameter(self.codes.new_empty(stored.shape))
        super()._load_from_state_dict(state, prefix, *rest)

    def decode(self, *variables: Tensor) -> Tensor:
        """ȳ, (..., D), for z (..., L), or for x (..., Dx) and z."""
        *x, z = self._split(variables, 1)
        require_last("z", z, self.L)
        if x:
            z = joined(x=self.predictor(require_last("x", x[0], self.Dx)), z=z)
        return require_decoded(self.decoder(z), self.D, z)

    def energy(self, *variables: Tensor) -> Tensor:
        """E(y, z), or E(x, y, z), (...): the squared error. It does not ask whether z is in the ball."""
        *x, y, z = self._split(variables, 2)
        return (require_last("y", y, self.D) - self.decode(*x, z)).square().sum(-1)

    def infer(
        self, *observed: Tensor, steps: int = 100, starts: int = 4, generator: torch.Generator | None = None
    ) -> Tensor:
        """ž of low energy in the ball, (..., L), for y, or for x and y; no gradient flows through.

        Args:
            observed: y (..., D), or x (..., Dx) and y.
            steps: of each descent.
            starts: descents, from the ball's centre and from random codes; the best ends are returned.
            generator: draws the starts.
        """
        *x, y = self._split(observed, 1)
        lead = leading(**dict(zip(("y", "x"), (y, *x), strict=False)))
        start = self.codes.new_zeros(require_count("starts", starts), *lead, self.L)
        if starts > 1:
            start[1:] = self.draw_codes(start.shape[:-1], generator=generator)[1:]
        found = descend(lambda z: self.energy(*x, y, z), start, steps=steps, project=self._project)
        with torch.no_grad():
            best = self.energy(*x, y, found).argmin(0)
        return torch.take_along_dim(found, best[None, ..., None], 0).squeeze(0)

    def free_energy(self, *observed: Tensor, beta: float = math.inf, steps: int = 100) -> Tensor:
        """F_∞, (...), for y, or for x and y: the energy at :meth:`infer`'s ž from the centre; its gradients are E's.

        Raises:
            ValueError: a finite beta: GLO has no prior to average over.
        """
        if not math.isinf(require_positive("beta", beta, allow_inf=True)):
            raise ValueError(f"beta must be inf: GLO minimises over z and has no prior to average over, got {beta}")
        z = self.infer(*(v.detach() for v in observed), steps=steps, starts=1)
        return self.energy(*observed, z)

    forward = free_energy

    def draw_codes(self, shape: tuple[int, ...], *, generator: torch.Generator | None = None) -> Tensor:
        """Codes from the Gaussian that fits the training codes, put back into the ball: (..., L), ``shape`` before L.

        Before learning, from the one that GLO starts with: of mean square length r².
        """
        kind = self.codes.dtype, self.codes.device
        noise = normal((*shape, self.L), generator, *kind)
        codes = self.codes.detach()
        if len(codes) < 2:
            return self._project(noise * (self.radius / math.sqrt(self.L)))
        mean = codes.mean(0)
        spread = torch.linalg.svd((codes - mean) / math.sqrt(len(codes) - 1), full_matrices=False)
        return self._project(mean + (noise[..., : len(spread.S)] * spread.S) @ spread.Vh)

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Several decoded codes, (n, D), of a model of y alone."""
        with torch.no_grad():
            return self.decode(self.draw_codes((require_count("n", n),), generator=generator))

    def futures(self, x: Tensor, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Several futures of each x (..., Dx), (..., n, D), from drawn codes."""
        codes = self.draw_codes((*x.shape[:-1], require_count("n", n)), generator=generator)
        return self.decode(x.unsqueeze(-2), codes)

    def learn(
        self,
        *observed: Tensor,
        lr: float = 1e-3,
        code_lr: float = 0.01,
        batch_size: int | None = 128,
        codes: Tensor | None = None,
        generator: torch.Generator | None = None,
        progress: bool = False,
        callback: Callable[[History], Any] | None = None,
        **options: Any,
    ) -> History:
        """Learn the decoder and a code for each sample together; codes are put back into the ball after each step.

        Args:
            observed: y (N, D), or x (N, Dx) and y, N ≥ 2.
            lr: Adam's learning rate for the networks.
            code_lr: for the codes, without momentum: a code moves only when its own sample comes.
            batch_size: samples a step, at least 2; None takes all.
            codes: where the codes start, (N, L); drawn as :meth:`draw_codes` of a new model if None.
            generator: batches and starting codes.
            progress: show a bar.
            callback: called with the history after every step.
            options: of :func:`ebm_lib.train.fit`; ``steps`` or ``epochs`` is needed.

        Returns:
            The history of the batches' mean energy.

        Raises:
            ValueError: fewer than two samples, a batch of one, codes of another shape.
        """
        *x, y = self._split(observed, 1)
        require_data(y, self.D, minimum=2)
        if batch_size is not None:
            require_count("batch_size", batch_size, minimum=2)
        if codes is None:
            self.codes = nn.Parameter(self.codes.new_empty(0, self.L))
            codes = self.draw_codes((len(y),), generator=generator)
        elif codes.shape != (len(y), self.L):
            raise ValueError(f"codes must be ({len(y)}, {self.L}), one a sample, got shape {tuple(codes.shape)}")
        self.codes = nn.Parameter(self._project(codes.detach()).to(self.codes))
        networks = [p for name, p in self.named_parameters() if name != "codes"]
        # With β₁ = 0 a zero gradient is a zero step, so codes that are not in the batch stay.
        optimizer = torch.optim.Adam(
            [
                {"params": networks, "lr": require_positive("lr", lr)},
                {"params": [self.codes], "lr": require_positive("code_lr", code_lr), "betas": (0.0, 0.99)},
            ]
        )

        def of_batch(model: GLO, rows: Tensor, *batch: Tensor) -> Tensor:
            return model.energy(*batch, model.codes[rows]).mean()

        def hold(history: History) -> None:
            with torch.no_grad():
                self.codes.copy_(self._project(self.codes))
            if callback is not None:
                callback(history)

        rows = torch.arange(len(y), device=y.device)
        return fit(
            self,
            of_batch,
            (rows, *x, y),
            optimizer=optimizer,
            batch_size=batch_size,
            generator=generator,
            callback=hold,
            progress=progress,
            **options,
        )

    def _project(self, z: Tensor) -> Tensor:
        return project_ball(z, radius=self.radius)

    def _split(self, variables: tuple[Tensor, ...], count: int) -> tuple[Tensor, ...]:
        wanted = count + (self.Dx is not None)
        if len(variables) != wanted:
            what = "no x" if self.Dx is None else "an x first"
            raise ValueError(f"a model with {what} takes {wanted} arguments here, got {len(variables)}")
        return variables
