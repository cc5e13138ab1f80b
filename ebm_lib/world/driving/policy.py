"""Policies that drive: learned by imitation, or through a model of the traffic."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ebm_lib.data.draw import normal
from ebm_lib.nn import MLP
from ebm_lib.require import require_count
from ebm_lib.train import History
from ebm_lib.world.driving.cost import costs
from ebm_lib.world.driving.model import ACTION, ForwardModel, descend, in_units, uncertainty
from ebm_lib.world.driving.trips import Policy, Transitions

BOUNDS = (6.0, 0.1)  # of a policy's acceleration, m/s², and steering angle


class Rollout(NamedTuple):
    """An imagined drive: own (H, ..., 3) and cars (H, ..., K, 5) after each action (H, ..., 2)."""

    own: Tensor
    cars: Tensor
    action: Tensor


def imagine(model: ForwardModel, policy: Policy, own: Tensor, cars: Tensor, z: Tensor) -> Rollout:
    r"""Drive in the model: :math:`a_t = \pi(\hat s_t)`, :math:`\hat s_{t+1} = f(\hat s_t, a_t, z_t)`; with gradients.

    Args:
        model: f.
        policy: π, of own and cars.
        own: (..., 3) at the start.
        cars: (..., K, 5) at the start.
        z: (H, ..., K, L), one for each action.
    """
    film = []
    for now in z:
        action = policy(own, cars)
        own, cars = model(own, cars, action, now)
        film.append((own, cars, action))
    return Rollout(*(torch.stack(part) for part in zip(*film, strict=True)))


class DrivingPolicy(nn.Module):
    r"""A policy: :math:`a = \text{bound} \cdot \tanh \text{Head}(o, \sum_i p_i \text{Look}(o, c_i))`.

    Args:
        hidden: width of both networks.
        generator: draws the weights.

    >>> DrivingPolicy(generator=torch.Generator().manual_seed(0))(torch.zeros(7, 3), torch.zeros(7, 6, 5)).shape
    torch.Size([7, 2])
    """

    def __init__(
        self,
        *,
        hidden: int = 64,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        made = {"activation": "silu", "generator": generator, "device": device, "dtype": dtype}
        self.look = MLP((8, hidden, hidden), **made)
        self.head = MLP((3 + hidden, hidden, 2), **made)

    def forward(self, own: Tensor, cars: Tensor) -> Tensor:
        """Return acceleration and steering angle, (..., 2), for own (..., 3) and cars (..., K, 5)."""
        o, c = in_units(own, cars)
        seen = self.look(torch.cat([o[..., None, :].expand(*c.shape[:-1], 3), c], -1)) * cars[..., 4:]
        return self.head(torch.cat([o, seen.sum(-2)], -1)).tanh() * own.new_tensor(BOUNDS)

    def clone(
        self,
        s: Transitions,
        *,
        steps: int,
        lr: float = 2e-3,
        batch_size: int = 128,
        generator: torch.Generator,
        progress: bool = False,
    ) -> History:
        """Learn to do what was done: squared error of the actions, in units of ``ACTION``."""

        def loss(_: nn.Module, own: Tensor, cars: Tensor, action: Tensor) -> Tensor:
            return ((self(own, cars) - action) / action.new_tensor(ACTION)).square().sum(-1).mean()

        return descend(self, loss, (s.own, s.cars, s.action), steps, lr, batch_size, generator, progress)

    def learn(
        self,
        model: ForwardModel,
        s: Transitions,
        *,
        horizon: int = 10,
        uncertainty_weight: float = 0.0,
        masks: int = 3,
        steps: int,
        lr: float = 3e-3,
        batch_size: int = 64,
        generator: torch.Generator,
        progress: bool = False,
    ) -> History:
        r"""Learn through the model: from recorded states on, imagine, pay, and follow the slope back to the weights.

        .. math:: \min_\pi \; \Bigl\langle \frac1H \sum_{t=1}^{H} C(\hat s_t) + \lambda\, U(\hat s_t) \Bigr\rangle,
            \qquad z_t \sim N(0, 1)

        Args:
            model: stays as it is.
            s: only where these begin is used.
            horizon: H, actions.
            uncertainty_weight: λ, what the model's :func:`uncertainty` costs.
            masks: M, of the uncertainty.
            steps: of Adam.
            lr: its step size, which falls to zero along a cosine.
            batch_size: states a step.
            generator: draws states, z and masks.
            progress: show a bar.

        Returns:
            The history: ``loss``, and in ``metrics`` its part ``cost`` and, if λ > 0, ``uncertainty``.

        Raises:
            ValueError: no horizon, λ below 0.

        Source: Henaff, Canziani and LeCun (ICLR 2019), "Training a Policy Network with Uncertainty Minimization";
        LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Forward Model for Gradient-Based Policy
        Learning".
        """
        require_count("horizon", horizon)
        if not uncertainty_weight >= 0:
            raise ValueError(f"uncertainty_weight must not be negative, got {uncertainty_weight}")

        def loss(_: nn.Module, own: Tensor, cars: Tensor) -> dict[str, Tensor]:
            z = normal((horizon, *cars.shape[:-1], model.L), generator, own.dtype, own.device)
            drive = imagine(model, self, own, cars, z)
            cost = costs(drive.own, drive.cars).total.mean()
            if uncertainty_weight == 0:
                return {"loss": cost, "cost": cost}
            before = (torch.cat([first[None], rest[:-1]]) for first, rest in ((own, drive.own), (cars, drive.cars)))
            U = uncertainty(model, *before, drive.action, z, masks=masks, generator=generator).mean()
            return {"loss": cost + uncertainty_weight * U, "cost": cost, "uncertainty": U}

        trained = [p for p in model.parameters() if p.requires_grad]
        model.requires_grad_(False)
        try:
            return descend(self, loss, (s.own, s.cars), steps, lr, batch_size, generator, progress)
        finally:
            for p in trained:
                p.requires_grad_(True)
