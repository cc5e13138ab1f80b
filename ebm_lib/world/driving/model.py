"""Models of the traffic, learned from a record: with or without a latent variable, and with drop-out to doubt by."""

import torch
from torch import Tensor, nn

from ebm_lib.data.draw import normal
from ebm_lib.latent.variational.gaussian import gaussian_kl
from ebm_lib.nn import ACTIVATIONS, MLP, random_mask
from ebm_lib.require import require_count, require_positive
from ebm_lib.train import History, fit
from ebm_lib.world.driving.cost import TARGET, costs, require_state
from ebm_lib.world.driving.trips import Transitions

OWN, CARS, ACTION = (4.0, 10.0, 0.1), (30.0, 4.0, 5.0, 1.0), (2.0, 0.03)  # what counts as 1 to a network


class DropoutMLP(MLP):
    """A perceptron that can drop a share of its hidden units; the rest grows to make up for it."""

    def forward(
        self, x: Tensor, drop: float = 0.0, each: int | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Map (..., sizes[0]) to (..., sizes[-1]).

        Args:
            x: input.
            drop: share of units.
            each: how many leading dimensions get masks of their own, the others sharing them; all if None.
            generator: draws the masks.
        """
        *hidden, last = self.linears
        for linear in hidden:
            x = ACTIVATIONS[self.activation](linear(x))
            if drop > 0:
                shape = x.shape if each is None else (*x.shape[:each], *[1] * (x.ndim - 1 - each), x.shape[-1])
                x = x * (random_mask(shape, 1 - drop, generator=generator, device=x.device) / (1 - drop))
        return last(x)


def in_units(own: Tensor, cars: Tensor) -> tuple[Tensor, Tensor]:
    """A state as networks like it: both in units of about 1, our speed counted from ``TARGET``.

    Raises:
        ValueError: other shapes than (..., 3) and (..., K, 5).
    """
    require_state(own, cars)
    own = (own - own.new_tensor((0.0, TARGET, 0.0))) / own.new_tensor(OWN)
    return own, torch.cat([cars[..., :4] / cars.new_tensor(CARS), cars[..., 4:]], -1)


class ForwardModel(nn.Module):
    r"""Predict the neighbourhood after an action: a set of cars, each with a latent variable of its own.

    .. math::

        \hat o' = o + \text{Own}(o, a), \qquad
        \hat c_i' = c_i + \text{Dec}\bigl(h_i, \textstyle\sum_j p_j h_j, z_i\bigr), \qquad
        h_i = \text{Pred}(o, c_i, a)

    The energy is the squared error in units of what usually changes. In learning z comes from
    :math:`q(z_i \mid c_i, c_i', \dots)`, or with probability ``latent_drop`` it is 0 for all cars of a state, and q
    costs nothing (see :class:`~ebm_lib.latent.variational.ConditionalVAE`). Dec thus learns to say what it can without
    z, above all what the action does. With ``L = 0`` the model is a regression.

    Args:
        L: dimensions of each car's z; 0 for a deterministic model.
        beta: inverse temperature: energy plus KL/β is the loss.
        latent_drop: share of the states whose z is 0 in learning.
        drop: share of hidden units dropped in learning, and for the uncertainty.
        hidden: width of everything.
        generator: draws the weights.

    Raises:
        ValueError: sizes or shares out of range.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Conditional VAE + Drop Out"; Henaff,
    Canziani and LeCun (ICLR 2019), "Action-conditional Forward Model", whose code draws a dropped z from the prior.

    >>> model = ForwardModel(2, generator=torch.Generator().manual_seed(0))
    >>> own, cars = model(torch.zeros(7, 3), torch.zeros(7, 6, 5), torch.zeros(7, 2), torch.zeros(7, 6, 2))
    >>> own.shape, cars.shape
    (torch.Size([7, 3]), torch.Size([7, 6, 5]))
    """

    def __init__(
        self,
        L: int,
        *,
        beta: float = 3.0,
        latent_drop: float = 0.5,
        drop: float = 0.1,
        hidden: int = 64,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.L, self.beta = require_count("L", L, minimum=0), require_positive("beta", beta)
        if not 0 <= latent_drop <= 1:
            raise ValueError(f"latent_drop must be a share, from 0 to 1, got {latent_drop}")
        if not 0 <= drop < 1:
            raise ValueError(f"drop must be a share, from 0 to below 1, got {drop}")
        self.latent_drop, self.drop = latent_drop, drop
        made = {"activation": "silu", "generator": generator, "device": device, "dtype": dtype}
        self.own = DropoutMLP((5, hidden, hidden, 3), **made)
        self.predictor = DropoutMLP((10, hidden, hidden), **made)
        self.decoder = DropoutMLP((2 * hidden + L, hidden, 4), **made)
        self.encoder = MLP((14, hidden, hidden, 2 * L), **made) if L else None
        kind = {"device": device, "dtype": dtype}
        self.register_buffer("own_unit", torch.ones(3, **kind))
        self.register_buffer("cars_unit", torch.ones(4, **kind))

    def forward(
        self,
        own: Tensor,
        cars: Tensor,
        action: Tensor,
        z: Tensor | None = None,
        *,
        drop: float = 0.0,
        each: int | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Predict own (..., 3) and cars (..., K, 5) after the action (..., 2), for z (..., K, L); 0 if None.

        ``drop``, ``each`` and ``generator`` are for the drop-out of hidden units (see :class:`DropoutMLP`).
        """
        mine, seen = self._inputs(own, cars, action)
        how = {"drop": drop, "each": each, "generator": generator}
        there = cars[..., 4:]
        h = self.predictor(seen, **how) * there
        parts = [h, h.sum(-2, keepdim=True).expand(h.shape)]
        if self.L:
            parts.append(own.new_zeros(*own.shape[:-1], cars.shape[-2], self.L) if z is None else z)
        change = self.decoder(torch.cat(parts, -1), **how) * self.cars_unit * there
        after = own + self.own(mine, **how) * self.own_unit
        return after, torch.cat([cars[..., :4] + change, there], -1)

    def encode(self, s: Transitions) -> tuple[Tensor, Tensor]:
        """q(z|s, a, s'): mean and standard deviation, each (n, K, L)."""
        _, seen = self._inputs(s.own, s.cars, s.action)
        change = (s.cars_next - s.cars)[..., :4] / self.cars_unit
        mean, log_var = self.encoder(torch.cat([seen, change], -1)).chunk(2, -1)
        return mean, (log_var / 2).exp()

    def energy(self, s: Transitions, z: Tensor | None = None, **how: object) -> Tensor:
        """Squared error of our own state and of the cars that are there before and after, (n,), in usual changes."""
        own, cars = self(s.own, s.cars, s.action, z, **how)
        wrong = ((cars - s.cars_next)[..., :4] / self.cars_unit).square().sum(-1)
        return ((own - s.own_next) / self.own_unit).square().sum(-1) + (s.stays * wrong).sum(-1)

    def objective(self, s: Transitions, generator: torch.Generator | None = None) -> Tensor:
        """Energy plus KL/β, (n,), for one draw of z and of the drop-out."""
        how = {"drop": self.drop, "generator": generator}
        if not self.L:
            return self.energy(s, **how)
        mean, std = self.encode(s)
        noise = normal(mean.shape, generator, mean.dtype, mean.device)
        kept = ~random_mask((len(mean),), self.latent_drop, generator=generator, device=mean.device)
        z = kept[:, None, None] * (mean + std * noise)
        information = kept * (gaussian_kl(mean, std) * s.stays).sum(-1)
        return self.energy(s, z, **how) + information / self.beta

    def learn(
        self,
        s: Transitions,
        *,
        steps: int,
        lr: float = 2e-3,
        batch_size: int = 128,
        generator: torch.Generator,
        progress: bool = False,
    ) -> History:
        """Fit the model to transitions with Adam, whose step size falls to zero along a cosine."""
        with torch.no_grad():
            change = (s.cars_next - s.cars)[..., :4]
            own = (s.own_next - s.own).std(0, correction=min(1, len(s.own) - 1))
            cars = ((change.square() * s.stays[..., None]).sum((0, 1)) / s.stays.sum().clamp(min=1)).sqrt()
            for unit, usual in ((self.own_unit, own), (self.cars_unit, cars)):
                unit.copy_(torch.where(usual > 0, usual, 1))  # of what never changes, 1

        def loss(_: nn.Module, *batch: Tensor) -> Tensor:
            return self.objective(Transitions(*batch), generator).mean()

        return descend(self, loss, s, steps, lr, batch_size, generator, progress)

    def _inputs(self, own: Tensor, cars: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """What Own sees, (..., 5), and what Pred sees of each car, (..., K, 10)."""
        o, c = in_units(own, cars)
        mine = torch.cat([o, action / action.new_tensor(ACTION)], -1)
        return mine, torch.cat([mine[..., None, :].expand(*c.shape[:-1], 5), c], -1)


def descend(
    module: nn.Module,
    loss: object,
    data: tuple[Tensor, ...],
    steps: int,
    lr: float,
    batch_size: int,
    generator: torch.Generator,
    progress: bool,
) -> History:
    """:func:`ebm_lib.train.fit` with Adam, a step size that falls to zero along a cosine, and slopes cut to norm 1."""
    adam = torch.optim.Adam(module.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, require_count("steps", steps))
    how = {"optimizer": adam, "scheduler": schedule, "clip": 1.0, "generator": generator, "progress": progress}
    return fit(module, loss, tuple(data), steps=steps, batch_size=batch_size, **how)


def uncertainty(
    model: ForwardModel,
    own: Tensor,
    cars: Tensor,
    action: Tensor,
    z: Tensor,
    *,
    masks: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""How much the model's drop-out changes what it says next, and what that costs.

    .. math::

        U = \operatorname{Var}_m C(\hat s^{(m)}) + \sum_j \operatorname{Var}_m \hat o_j^{(m)}
        + \frac1K \sum_{i,j} \operatorname{Var}_m \hat c_{i,j}^{(m)}, \qquad \hat s^{(m)} = f_m(s, a, z)

    over drop-out masks m of the model f, M networks in all, for the same state, action and z; states are in the
    networks' units.

    Args:
        model: the forward model.
        own: (..., 3).
        cars: (..., K, 5).
        action: (..., 2).
        z: (..., K, L).
        masks: M, at least 2.
        generator: draws the masks.

    Returns:
        U, (...).

    Raises:
        ValueError: one mask, which has no variance.

    Source: Henaff, Canziani and LeCun (ICLR 2019), "Training a Policy Network with Uncertainty Minimization": the trace
    of the covariance. Their code adds the variance of the cost, as here. They pay only for what exceeds the mean over
    the record, in its standard deviations; here all of U is paid for.
    """
    require_count("masks", masks, minimum=2)
    own, cars, action, z = (part.expand(masks, *part.shape) for part in (own, cars, action, z))
    own, cars = model(own, cars, action, z, drop=model.drop, each=1, generator=generator)
    o, c = in_units(own, cars)
    return costs(own, cars).total.var(0) + o.var(0).sum(-1) + c[..., :4].var(0).sum(-1).mean(-1)
