r"""Diagnostics: how far samples are from independent, and whether chains agree.

Each takes ``path``, (T, C, D): T points of C chains, as :class:`ebm_lib.sampling.Chains` has them. The statistics are
those of Stan, of the mean of each coordinate; for another quantity pass its values, (T, C, 1). They see only what the
chains have seen: a mode that none has found shows in none of them.
"""

import math

import torch
from torch import Tensor

from ebm_lib._scale import near_one
from ebm_lib.require import has_values, require_finite


def autocorrelation(path: Tensor) -> Tensor:
    r"""Correlation of a chain with itself, k steps later.

    .. math:: \rho_k = \frac{\sum_{t=1}^{T-k} (y_t - \bar y)(y_{t+k} - \bar y)}{\sum_{t=1}^{T} (y_t - \bar y)^2}

    Each lag's sum is divided by T, not by the number of its terms: biased, but of smaller error, and positive
    semi-definite (Geyer 1992).

    Args:
        path: (T, ...), T at least 2.

    Returns:
        (T, ...): lags 0 to T − 1 in the first dimension; 1 at lag 0.

    Raises:
        ValueError: too short, not finite, or a chain that never moves.

    >>> autocorrelation(torch.tensor([1.0, -1.0, 1.0, -1.0]))
    tensor([ 1.0000, -0.7500,  0.5000, -0.2500])
    """
    require_path(path, 2, 1)
    covariance = _autocovariance(near_one(path, 0))
    if has_values(path) and (covariance[0] == 0).any():
        still = tuple((covariance[0] == 0).nonzero()[0].tolist())
        raise ValueError(f"path must move: chain and coordinate {still} never does")
    return covariance / covariance[0]


def _autocovariance(path: Tensor) -> Tensor:
    # Through the power spectrum, padded so that the ends do not wrap around.
    count = path.shape[0]
    centered = path - path.mean(0)
    # Numbers all equal have a mean that may differ from them in the last bit.
    centered = centered.masked_fill((path == path[0]).all(0), 0.0)
    spectrum = torch.fft.rfft(centered, n=2 * count, dim=0)
    return torch.fft.irfft(spectrum.abs().square(), n=2 * count, dim=0)[:count] / count


def effective_sample_size(path: Tensor, *, ranked: bool = False) -> Tensor:
    r"""How many independent samples would estimate the mean as well as these.

    .. math::
        \mathrm{ESS} = \frac{CT}{\hat\tau}, \qquad
        \hat\rho_k = 1 - \frac{W - \tfrac1C\sum_c \hat\gamma_{c,k}}{\widehat{\mathrm{var}}^+}, \qquad
        \hat\tau = -1 + 2\sum_{k=0}^{K} \min_{j \le k}\,(\hat\rho_{2j} + \hat\rho_{2j+1})

    Chains are split into halves; W is the variance within them, :math:`\widehat{\mathrm{var}}^+` the variance of all,
    as in :func:`split_rhat`, so chains that disagree count for little. The sum ends before the first pair that is not
    positive, and pairs may not rise (Geyer's initial monotone sequence). The even lag of the pair where it ends is
    added if positive, and the ESS is at most CT log₁₀(CT), as in Stan. Chains whose steps alternate can be worth more
    than independent samples.

    Args:
        path: (T, C, D), T at least 12 (an odd T leaves out the middle point).
        ranked: of the rank-normalised values, Stan's bulk-ESS: defined for heavy tails, too.

    Returns:
        (D,), in numbers of samples.

    Raises:
        ValueError: another shape, too short, not finite, or a coordinate that is the same in all of what is used.

    Source: Geyer, Practical Markov chain Monte Carlo (Statistical Science 7, 1992); Vehtari, Gelman, Simpson,
        Carpenter and Bürkner, Rank-normalization, folding, and localization (Bayesian Analysis 16, 2021), section 3.2.

    >>> noise = torch.randn(1000, 4, 1, generator=torch.Generator().manual_seed(0))
    >>> effective_sample_size(noise)
    tensor([4...])
    """
    halves = _halves(require_path(path, 12, 3))
    if ranked:
        halves = _normal_scores(halves)
    count, chains = halves.shape[:2]
    covariance = _autocovariance(halves).mean(1)  # (T, D)
    within = covariance[0] * count / (count - 1)
    total = covariance[0] + halves.mean(0).var(0)
    rho = 1 - (within - covariance) / total
    rho[0] = 1.0
    pairs = math.ceil((count - 5) / 2)  # as in Stan, the last few lags are left out
    even, odd = rho[0 : 2 * pairs : 2], rho[1 : 2 * pairs : 2]
    positive = torch.cumprod((even + odd > 0).to(rho.dtype), 0)  # 1 until the first pair that is not
    monotone = torch.cummin(even + odd, 0).values
    end = positive.sum(0, keepdim=True).long()  # the number of pairs before the end
    last = rho[: 2 * pairs + 1 : 2].gather(0, end).squeeze(0).clamp(min=0.0)
    tau = -1 + 2 * (positive * monotone).sum(0) + last
    size = count * chains
    return size / tau.clamp(min=1 / math.log10(size))


def split_rhat(path: Tensor, *, ranked: bool = False) -> Tensor:
    r"""R̂: how much wider all chains together are than each of them; 1 when they agree.

    .. math::
        \hat R = \sqrt{\frac{\widehat{\mathrm{var}}^+}{W}}, \qquad
        \widehat{\mathrm{var}}^+ = \tfrac{T-1}{T} W + \tfrac1T B

    W is the mean variance within a chain, B is T times the variance of the chains' means. Chains are split into
    halves, so that a trend within a chain shows as well as chains that stay apart. Above 1.01 they have not mixed.

    Args:
        path: (T, C, D), T at least 4 (an odd T leaves out the middle point).
        ranked: the larger of the R̂ of the values' ranks and that of the ranks of their distances from the median, both
            mapped to a normal distribution: also sees chains of equal means that differ in width, or in heavy tails.

    Returns:
        (D,); inf where no chain moves and they differ.

    Raises:
        ValueError: another shape, too short, not finite, or a coordinate that is the same in all of what is used.

    Source: Vehtari, Gelman, Simpson, Carpenter and Bürkner, Rank-normalization, folding, and localization: an
        improved R̂ for assessing convergence of MCMC (Bayesian Analysis 16, 2021), sections 2 and 4. Ranks r of S values
        go to the normal quantile of (r − 3/8) / (S + 1/4), Blom's, as in Stan.

    >>> noise = torch.randn(1000, 4, 1, generator=torch.Generator().manual_seed(0))
    >>> apart = noise + torch.tensor([0.0, 0.0, 0.0, 5.0])[:, None]
    >>> split_rhat(noise), split_rhat(apart)
    (tensor([1.00...]), tensor([2...]))
    """
    halves = _halves(require_path(path, 4, 3))
    if not ranked:
        return _rhat(halves)
    ordered = halves.flatten(0, 1).sort(0).values
    middle = len(ordered) // 2  # the number of values is even
    folded = (halves - (ordered[middle - 1] + ordered[middle]) / 2).abs()
    return torch.maximum(_rhat(_normal_scores(halves)), _rhat(_normal_scores(folded)))


def _rhat(halves: Tensor) -> Tensor:
    count = halves.shape[0]
    within = halves.var(0).mean(0)
    # Values all equal have a variance of rounding errors.
    within = within.masked_fill((halves == halves[0]).all(0).all(0), 0.0)
    between = halves.mean(0).var(0)  # B / T
    ratio = (count - 1) / count + between / within
    # No variance at all, for instance of the distances from the median of two values: nothing disagrees.
    return ratio.masked_fill((within == 0) & (between == 0), 1.0).sqrt()


def _halves(path: Tensor) -> Tensor:
    half = path.shape[0] // 2
    halves = torch.cat([path[:half], path[-half:]], dim=1)
    _require_varied(halves)
    return near_one(halves, (0, 1))


def _normal_scores(path: Tensor) -> Tensor:
    flat = path.flatten(0, 1).transpose(0, 1).contiguous()  # (D, S)
    ordered = flat.sort(-1).values
    below = torch.searchsorted(ordered, flat)
    up_to = torch.searchsorted(ordered, flat, right=True)
    rank = (below + up_to + 1).to(path.dtype) / 2  # equal values share their mean rank
    scores = torch.special.ndtri((rank - 3 / 8) / (flat.shape[-1] + 1 / 4))
    return scores.transpose(0, 1).reshape(path.shape)


def acceptance(path: Tensor) -> Tensor:
    r"""How often a chain moved, from its path alone.

    .. math:: \frac{1}{T-1}\sum_{t=2}^{T} [\,y_t \ne y_{t-1}\,]

    A proposal that is rejected leaves the chain where it is. With a path of every step this estimates what
    ``Chains.acceptance`` holds; a thinned path shows fewer rejections than there were.

    Args:
        path: (T, ..., D), T at least 2.

    Returns:
        (...), from 0 to 1, in the path's dtype.

    >>> acceptance(torch.tensor([[0.0], [0.0], [1.0], [2.0], [2.0]]))
    tensor(0.5000)
    """
    require_path(path, 2, 2)
    return (path[1:] != path[:-1]).any(-1).to(path.dtype).mean(0)


def require_path(path: Tensor, shortest: int, dims: int) -> Tensor:
    """Return ``path`` if it is a finite floating-point tensor, long enough, with the dimensions it needs."""
    if not path.is_floating_point():
        raise ValueError(f"path must be floating point, got {path.dtype}")
    wrong = path.ndim != 3 if dims == 3 else path.ndim < dims
    if wrong or 0 in path.shape:
        shape = {1: "(T, ...)", 2: "(T, ..., D)", 3: "(T, C, D)"}[dims]
        raise ValueError(f"path must have shape {shape}, got {tuple(path.shape)}")
    if path.shape[0] < shortest:
        raise ValueError(f"path must hold at least {shortest} points, got {path.shape[0]}")
    return require_finite("path", path)


def _require_varied(path: Tensor) -> None:
    if has_values(path):
        still = (path == path[0, 0]).all(0).all(0)
        if still.any():
            raise ValueError(f"path must vary: coordinate {int(still.nonzero()[0])} is the same in all of it")
