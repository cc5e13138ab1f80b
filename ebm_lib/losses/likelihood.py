r"""Maximum likelihood: exactly on a grid, or with samples of the model in place of the integral.

.. math::

    & \mathcal L = F_w(x, y) + \frac1\beta \log\int e^{-\beta F_w(x, y')}\,dy', \\
    & \frac{\partial\mathcal L}{\partial w} = \frac{\partial F_w(x, y)}{\partial w}
    - \int P_w(y' \mid x)\,\frac{\partial F_w(x, y')}{\partial w}\,dy'

The data are pushed down, everything else is pulled up by its probability.
"""

import torch
from torch import Tensor

from ebm_lib.energy import log_partition
from ebm_lib.losses._require import require_energies, require_groups
from ebm_lib.require import has_values, require_finite, require_nonempty


def negative_log_likelihood(
    positive: Tensor, grid_energy: Tensor, beta: float = 1.0, *, log_volume: Tensor | float = 0.0
) -> Tensor:
    r"""Negative log-likelihood of the data, the partition function summed over a grid.

    .. math::

        \mathcal L = F^+ + \frac1\beta \log\sum_i v_i e^{-\beta F_i} = -\frac1\beta \log p(y \mid x), \qquad
        \frac{\partial\mathcal L}{\partial F^+} = 1, \quad \frac{\partial\mathcal L}{\partial F_i} = -P_i

    In units of energy, as on the slide; β times it is in nats. It is the energy of y minus the free energy of
    everything. Margin infinite: nothing ends the digging, so on data without thickness the canyon deepens until the
    grid or the architecture stops it. A flat energy is the optimum for uniform data only, so it does not collapse. On
    a finite set of answers use :func:`~ebm_lib.losses.nll`.

    Args:
        positive: F at the data, (...).
        grid_energy: F at the N points of a grid over y: (N,) where it is the same for all data, or (..., N) where
            each has an x of its own. +inf marks an impossible point.
        beta: inverse temperature, > 0 and finite.
        log_volume: log of the volume each point stands for: ``grid.log_cell``, or one for each point, which broadcasts
            to ``grid_energy``.

    Returns:
        One value per data point, (...). May be negative: it is the log of a density.

    Raises:
        ValueError: energies or volumes not finite, an empty grid, one with every point impossible, shapes that do not
            pair, β not positive and finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Methods: Max likelihood /
    Probabilistic Methods".

    >>> negative_log_likelihood(torch.tensor([0.0, 1.0]), torch.zeros(4))
    tensor([1.3863, 2.3863])
    """
    require_energies("positive", positive)
    require_energies("grid_energy", grid_energy, allow_posinf=True)
    require_nonempty("grid_energy", grid_energy, -1)
    if grid_energy.ndim > 1 and grid_energy.shape[:-1] != positive.shape:
        raise ValueError(
            f"grid_energy must be (N,), or (..., N) with the leading shape {tuple(positive.shape)} of positive, "
            f"got {tuple(grid_energy.shape)}"
        )
    volume = torch.as_tensor(log_volume, dtype=grid_energy.dtype, device=grid_energy.device)
    require_finite("log_volume", volume)
    try:
        fits = torch.broadcast_shapes(volume.shape, grid_energy.shape) == grid_energy.shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"log_volume must broadcast to the shape of grid_energy, {tuple(grid_energy.shape)}, "
            f"got {tuple(volume.shape)}"
        )
    lowest = grid_energy.detach().amin(-1, keepdim=True)
    if has_values(lowest) and torch.isposinf(lowest).any():
        raise ValueError("grid_energy is +inf at every point: there is no distribution")
    log_z = log_partition(grid_energy - lowest, beta, log_volume=log_volume)
    return (positive - lowest.squeeze(-1)) + log_z / beta


def contrastive_divergence(positive: Tensor, negative: Tensor) -> Tensor:
    r"""Contrastive divergence: data against samples of the model, on average.

    .. math::

        \mathcal L = \frac1P \sum_i F^+_i - \frac1N \sum_j F^-_j, \qquad
        \frac{\partial\mathcal L}{\partial F^+_i} = \frac1P, \quad \frac{\partial\mathcal L}{\partial F^-_j} = -\frac1N

    Its gradient over the parameters is that of the likelihood when the negatives are samples of the model, which are
    constants (detach them). Only the gradient means anything: the value is not bounded below, and is near 0 both
    before training and after. Margin infinite. Nothing in the loss ends the push, but its negatives do: they move to
    where the energy is low.

    Args:
        positive: F at P data points, (..., P).
        negative: F at N samples, (..., N); P and N may differ.

    Returns:
        One value per group, (...): a scalar for two flat batches.

    Raises:
        ValueError: energies not finite, an empty group, leading shapes that differ.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Methods: Max likelihood /
    Probabilistic Methods"; Hinton, Training Products of Experts by Minimizing Contrastive Divergence (2002).

    >>> contrastive_divergence(torch.tensor([1.0, 3.0]), torch.tensor([4.0]))
    tensor(-2.)
    """
    require_groups(positive, negative)
    return positive.mean(-1) - negative.mean(-1)
