"""The Boltzmann machine: every unit sees every other."""

import math

import torch
from torch import Tensor, nn

from ebm_lib.boltzmann.units import SPREAD, binary_states, log_sum, require_units
from ebm_lib.data.draw import coins as draw_coins
from ebm_lib.nn import init_
from ebm_lib.require import require_count, require_positive


class BoltzmannMachine(nn.Module):
    r"""Units that all see each other: symmetric weights, none from a unit to itself; some units may be hidden.

    .. math:: E(s) = -\tfrac12 s^\top W s - b^\top s, \qquad
        \frac{\partial}{\partial w_{ij}} \left(\langle E\rangle_\text{data} - \langle E\rangle_\text{model}\right)
        = \langle s_i s_j\rangle_\text{model} - \langle s_i s_j\rangle_\text{data}

    Args:
        visible: units that the data sets.
        hidden: units that it does not.
        generator: where the weights come from, N(0, 0.01²); biases start at 0.
        device: where the parameters live.
        dtype: their dtype.

    Attributes:
        coupling: the weights of all pairs i < j, row by row, (n(n − 1)/2,) with n = visible + hidden.
        bias: (n,), the visible units first.

    Raises:
        ValueError: bad numbers of units; when called, another last dimension, or values that are not finite.

    Source: LeCun, Deep Learning (NYU), notes of lecture 05L, on Monte Carlo methods and Boltzmann machines. Ackley,
        Hinton and Sejnowski, A learning algorithm for Boltzmann machines (Cognitive Science 9, 1985).

    >>> machine = BoltzmannMachine(3, generator=torch.Generator().manual_seed(0))
    >>> with torch.no_grad():
    ...     _ = machine.coupling.copy_(torch.tensor([1.0, 2.0, 3.0]))  # w01, w02, w12
    >>> machine(torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]))
    tensor([-1., -6.], grad_fn=<SubBackward0>)
    """

    def __init__(
        self,
        visible: int,
        hidden: int = 0,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.visible, self.hidden = require_count("visible", visible), require_count("hidden", hidden, minimum=0)
        units = visible + hidden
        self.coupling = nn.Parameter(torch.empty(units * (units - 1) // 2, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(units, device=device, dtype=dtype))
        init_(self, generator)

    def reset_parameters(self) -> None:
        """Draw the weights anew, and set the biases to 0."""
        self.coupling.normal_(0.0, SPREAD)
        self.bias.fill_(0.0)

    @property
    def weight(self) -> Tensor:
        """The weights as a matrix W, (n, n), symmetric, with zeros on the diagonal."""
        upper = self._upper()
        return upper + upper.T

    def _upper(self) -> Tensor:
        units = len(self.bias)
        row, column = torch.triu_indices(units, units, 1, device=self.bias.device)
        return self.bias.new_zeros(units, units).index_put((row, column), self.coupling)

    def energy(self, *parts: Tensor) -> Tensor:
        """E(s) of all units (..., n), or E(v, h) of visible (..., visible) and hidden (..., hidden)."""
        s = _joined(parts, (self.visible, self.hidden), len(self.bias))
        return -((s @ self._upper()) * s).sum(-1) - s @ self.bias

    def forward(self, *parts: Tensor) -> Tensor:
        """The energy: see :meth:`energy`."""
        return self.energy(*parts)

    def infer(self, v: Tensor) -> Tensor:
        """The hidden units of lowest energy, argmin_h E(v, h), by enumeration: (..., visible) gives (..., hidden)."""
        energy, codes = self._all_hidden(v)
        return codes[energy.argmin(-1)]

    def free_energy(self, v: Tensor, beta: float = 1.0) -> Tensor:
        r"""F_β(v), the hidden units summed out by enumeration (at most 20); ``beta=inf`` takes their minimum.

        .. math:: F_\beta(v) = -\tfrac1\beta \log\sum_h e^{-\beta E(v, h)}
        """
        require_positive("beta", beta, allow_inf=True)
        if not self.hidden:
            return self.energy(v)
        energy, _ = self._all_hidden(v)
        return energy.amin(-1) if math.isinf(beta) else -torch.logsumexp(-beta * energy, -1) / beta

    def _all_hidden(self, v: Tensor) -> tuple[Tensor, Tensor]:
        if not self.hidden:
            raise ValueError("this machine has no hidden units to infer")
        codes = binary_states(self.hidden, dtype=self.bias.dtype, device=self.bias.device)
        return self.energy(require_units("v", v, self.visible).unsqueeze(-2), codes), codes

    @torch.no_grad()
    def gibbs(
        self,
        start: Tensor,
        *,
        sweeps: int,
        beta: float = 1.0,
        clamped: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        r"""Gibbs sampling, one unit at a time, all chains at once.

        .. math:: P(s_i = 1 \mid s_{\setminus i}) = \sigma\!\left(\beta\,(W s + b)_i\right)

        Args:
            start: (..., n) zeros and ones; left as it is.
            sweeps: passes over the units, in their order.
            beta: inverse temperature.
            clamped: (n,) boolean, units that stay as they are: the visible ones, to sample the hidden given the data.
            generator: where the coins come from.

        Returns:
            The samples, (..., n).
        """
        state = require_units("start", start, len(self.bias)).clone()
        require_count("sweeps", sweeps)
        require_positive("beta", beta)
        units = list(range(len(self.bias)))
        if clamped is not None:
            if clamped.dtype != torch.bool or clamped.shape != self.bias.shape:
                raise ValueError(f"clamped must be boolean of shape {tuple(self.bias.shape)}, got {clamped.dtype}")
            units = [i for i, fixed in zip(units, clamped.tolist(), strict=True) if not fixed]
        weight = self.weight
        for _ in range(sweeps):
            coins = draw_coins((len(units), *state.shape[:-1]), generator, state.dtype, state.device)
            for coin, i in zip(coins, units, strict=True):
                logit = beta * (state @ weight[i] + self.bias[i])
                state[..., i] = (coin < torch.sigmoid(logit.to(coin.dtype))).to(state.dtype)
        return state

    def log_partition(self, beta: float = 1.0) -> Tensor:
        """Log Z, the sum over all states of all units (at most 20), differentiable."""
        require_positive("beta", beta)
        return log_sum(self.energy, len(self.bias), beta, self.bias)

    def log_likelihood(self, v: Tensor, beta: float = 1.0) -> Tensor:
        """Log P(v) of each sample, hidden units summed out: −βF_β(v) − log Z."""
        return -beta * self.free_energy(v, beta) - self.log_partition(beta)


def _joined(parts: tuple[Tensor, ...], sizes: tuple[int, int], units: int) -> Tensor:
    if len(parts) == 1:
        return require_units("s", parts[0], units)
    if len(parts) != 2:
        raise ValueError(f"the energy takes all units at once, or visible and hidden ones, got {len(parts)} arguments")
    v, h = (require_units(name, part, size) for name, part, size in zip("vh", parts, sizes, strict=True))
    leading = torch.broadcast_shapes(v.shape[:-1], h.shape[:-1])
    return torch.cat([v.expand(*leading, -1), h.expand(*leading, -1)], -1)
