r"""Chains: sequences of labels whose energy is a sum over places and over neighbours.

.. math:: E(y_1, \dots, y_T) = \sum_{t=1}^{T} U_t(y_t) + \sum_{t=1}^{T-1} V_t(y_t, y_{t+1})

The unary energies U hold what the observation says of each place, the pairwise ones V what neighbours say of each
other. There are K^T sequences; a recursion over places, :func:`~ebm_lib.structured.chain`, does with about T·K²
additions, in any :mod:`~ebm_lib.structured.semiring`: Viterbi's with the minimum, the forward recursion with the soft
minimum.

In all functions here ``unary`` is (..., T, K), ``pairwise`` is (K, K), from row to column, or (..., T−1, K, K), and
``lengths``, (...), says how many places of each sequence count; what lies behind them is not looked at. +inf forbids a
label or a transition. The empty sequence has one reading, of energy 0.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.require import require_count, require_finite, require_nonempty
from ebm_lib.structured._require import require_labels, require_lengths
from ebm_lib.structured.semiring import Minimum, Sampled, Semiring, SoftMinimum, occupation


class Path(NamedTuple):
    """The best labelling of each sequence.

    Attributes:
        labels: (..., T) int64; −1 behind the end, and everywhere if no labelling is possible.
        energy: its energy, (...); +inf if none is possible.
    """

    labels: Tensor
    energy: Tensor


class Marginals(NamedTuple):
    """Probabilities of labels and of transitions.

    Attributes:
        single: P(y_t = k), (..., T, K); 0 behind the end.
        pair: P(y_t = i, y_{t+1} = j), (..., T−1, K, K); 0 where t + 1 is behind the end.
    """

    single: Tensor
    pair: Tensor


def chain(
    unary: Tensor, pairwise: Tensor, semiring: Semiring | None = None, *, lengths: Tensor | None = None
) -> Tensor:
    r"""Free energy of a chain over all its labellings.

    .. math:: A_1(j) = U_1(j), \qquad A_{t+1}(j) = U_{t+1}(j) + \bigoplus_i [A_t(i) + V_t(i, j)], \qquad
        F = \bigoplus_j A_T(j)

    with the semiring's reduction for ⊕.

    Args:
        unary: (..., T, K).
        pairwise: (K, K), or (..., T−1, K, K).
        semiring: :class:`~ebm_lib.structured.Minimum`, the default, gives F∞; ``SoftMinimum(beta)`` gives F_β.
        lengths: (...) of integers, 0 to T; all T if not given.

    Returns:
        F, (...); +inf if no labelling is possible, 0 for an empty sequence.

    Raises:
        ValueError: shapes that do not fit, no labels (K = 0), an energy that is NaN or −inf, lengths that are not
            integers from 0 to T.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Energy-Based Factor
    Graphs"; Viterbi, Error Bounds for Convolutional Codes and an Asymptotically Optimum Decoding Algorithm (1967);
    Rabiner, A Tutorial on Hidden Markov Models (1989).

    >>> unary = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> chain(unary, torch.tensor([[0.0, 5.0], [5.0, 0.0]]))
    tensor(1.)
    """
    semiring = semiring or Minimum()
    unary, pairwise, lengths = _require_chain(unary, pairwise, lengths)
    places = unary.shape[-2]
    if places == 0:
        return unary.sum((-2, -1))
    *_, last = _messages(unary, pairwise, semiring, lengths)
    free = semiring(last, 0)
    return free if lengths is None else torch.where(lengths == 0, 0.0, free)


def viterbi(unary: Tensor, pairwise: Tensor, *, lengths: Tensor | None = None) -> Path:
    r"""Best labelling of each sequence: :math:`\check y = \operatorname{argmin}_y E(y)`.

    The recursion of :func:`~ebm_lib.structured.chain` with the minimum, then back along it: the predecessor of y_{t+1}
    is the label i of least A_t(i) + V_t(i, y_{t+1}). Only the predecessors on the path are looked for, so no
    backpointers are kept. Among equals the lowest label is taken, from the end backwards.

    Args:
        unary: (..., T, K).
        pairwise: (K, K), or (..., T−1, K, K).
        lengths: (...) of integers, 0 to T.

    Returns:
        Labels and energies. The labels carry no derivative; the energies' is that of :func:`~ebm_lib.structured.chain`.

    Raises:
        ValueError: as :func:`~ebm_lib.structured.chain`.

    >>> viterbi(torch.tensor([[0.0, 1.0], [1.5, 0.0]]), torch.tensor([[0.0, 5.0], [5.0, 0.0]])).labels
    tensor([1, 1])
    """
    unary, pairwise, lengths = _require_chain(unary, pairwise, lengths)
    batch, places = unary.shape[:-2], unary.shape[-2]
    if places == 0:
        return Path(torch.empty((*batch, 0), dtype=torch.long, device=unary.device), unary.sum((-2, -1)))
    messages = list(_messages(unary, pairwise, Minimum(), lengths))
    energy = Minimum()(messages[-1], 0)
    if lengths is not None:
        energy = torch.where(lengths == 0, 0.0, energy)
    with torch.no_grad():
        into = [step.expand(-1, -1, *batch) for step in _transitions(pairwise, places - 1, len(batch))]
        label = messages[-1].argmin(0)
        found = [label]
        for t in range(places - 2, -1, -1):
            rows = label.expand(into[t].shape[0], 1, *batch)
            before = (messages[t] + into[t].gather(1, rows).squeeze(1)).argmin(0)
            # Behind the end the message stands still: the label found there is the last one's.
            label = before if lengths is None else torch.where(t + 1 < lengths, before, label)
            found.append(label)
        labels = torch.stack(found[::-1], -1)
        void = torch.isposinf(energy).unsqueeze(-1)
        if lengths is not None:
            void = void | (torch.arange(places, device=unary.device) >= lengths.unsqueeze(-1))
    return Path(labels.masked_fill(void, -1), energy)


def chain_energy(unary: Tensor, pairwise: Tensor, labels: Tensor, *, lengths: Tensor | None = None) -> Tensor:
    r"""Energy of given labellings, :math:`\sum_t U_t(y_t) + \sum_t V_t(y_t, y_{t+1})`.

    Args:
        unary: (..., T, K).
        pairwise: (K, K), or (..., T−1, K, K).
        labels: (..., T) of integers, 0 to K−1; behind the end anything.
        lengths: (...) of integers, 0 to T.

    Returns:
        E, (...).

    Raises:
        ValueError: as :func:`~ebm_lib.structured.chain`; labels of another shape, not integers or out of range.

    >>> unary, pairwise = torch.tensor([[0.0, 1.0], [1.5, 0.0]]), torch.tensor([[0.0, 5.0], [5.0, 0.0]])
    >>> chain_energy(unary, pairwise, torch.tensor([0, 1]))
    tensor(5.)
    """
    unary, pairwise, lengths = _require_chain(unary, pairwise, lengths)
    labels = _require_labels(labels, unary, lengths)
    at = unary.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    between = pairwise.expand(*unary.shape[:-2], max(unary.shape[-2] - 1, 0), -1, -1)
    rows = labels[..., :-1, None, None].expand(*labels[..., :-1].shape, 1, unary.shape[-1])
    across = between.gather(-2, rows).squeeze(-2).gather(-1, labels[..., 1:, None]).squeeze(-1)
    if lengths is not None:
        place = torch.arange(unary.shape[-2], device=unary.device)
        at = torch.where(place < lengths.unsqueeze(-1), at, 0.0)
        across = torch.where(place[1:] < lengths.unsqueeze(-1), across, 0.0)
    return at.sum(-1) + across.sum(-1)


def label_marginals(unary: Tensor, pairwise: Tensor, beta: float = 1.0, *, lengths: Tensor | None = None) -> Marginals:
    r"""Probability of each label and transition under :math:`P(y) \propto e^{-\beta E(y)}`.

    .. math:: P(y_t = k) = \frac{\partial F_\beta}{\partial U_t(k)}, \qquad
        P(y_t = i, y_{t+1} = j) = \frac{\partial F_\beta}{\partial V_t(i, j)}

    The forward–backward recursions, the backward half by automatic differentiation.

    Args:
        unary: (..., T, K).
        pairwise: (K, K), or (..., T−1, K, K).
        beta: inverse temperature, > 0 and finite.
        lengths: (...) of integers, 0 to T.

    Returns:
        Probabilities, without derivative.

    Raises:
        ValueError: as :func:`~ebm_lib.structured.chain`; a sequence without any possible labelling.

    >>> label_marginals(torch.zeros(2, 2), torch.tensor([[0.0, torch.inf], [torch.inf, 0.0]])).pair
    tensor([[[0.5000, 0.0000],
             [0.0000, 0.5000]]])
    """
    unary, pairwise, lengths = _require_chain(unary, pairwise, lengths)
    everywhere = pairwise.expand(*unary.shape[:-2], max(unary.shape[-2] - 1, 0), -1, -1)
    return Marginals(*occupation(lambda u, v: chain(u, v, SoftMinimum(beta), lengths=lengths), unary, everywhere))


def sample_labels(
    unary: Tensor,
    pairwise: Tensor,
    n: int,
    beta: float = 1.0,
    *,
    lengths: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Labellings drawn from :math:`P(y) \propto e^{-\beta E(y)}`, exactly and independently.

    Args:
        unary: (..., T, K).
        pairwise: (K, K), or (..., T−1, K, K).
        n: how many of each sequence, ≥ 1.
        beta: inverse temperature, > 0 and finite.
        lengths: (...) of integers, 0 to T.
        generator: source of the draws.

    Returns:
        (n, ..., T) int64; −1 behind the end.

    Raises:
        ValueError: as :func:`~ebm_lib.structured.label_marginals`; n below 1.

    >>> sample_labels(torch.tensor([[0.0, torch.inf], [torch.inf, 0.0]]), torch.zeros(2, 2), 3)
    tensor([[0, 1],
            [0, 1],
            [0, 1]])
    """
    unary, pairwise, lengths = _require_chain(unary, pairwise, lengths)
    copies = unary.expand(require_count("n", n), *unary.shape)
    lengths = None if lengths is None else lengths.expand(n, *lengths.shape)
    semiring = Sampled(beta, generator)
    (used,) = occupation(lambda u: chain(u, pairwise, semiring, lengths=lengths), copies)
    return torch.where(used.sum(-1) > 0, used.argmax(-1), -1)


def _messages(unary: Tensor, pairwise: Tensor, semiring: Semiring, lengths: Tensor | None) -> Iterator[Tensor]:
    """A_1 to A_T, each (K, ...); from the end of a sequence on, its last one.

    The batch comes last here, so that the reduction over labels runs along memory.
    """
    # unbind, since the derivative of taking one place at a time is a tensor of zeros for each place.
    at = unary.movedim((-2, -1), (0, 1)).contiguous().unbind(0)
    across = _transitions(pairwise, len(at) - 1, unary.ndim - 2)
    message = at[0]
    yield message
    for t in range(1, len(at)):
        following = semiring(message.unsqueeze(1) + across[t - 1], 0) + at[t]
        message = following if lengths is None else torch.where(t < lengths, following, message)
        yield message


def _transitions(pairwise: Tensor, steps: int, batch: int) -> Sequence[Tensor]:
    """V from each place to the next, (K, K, ...) with ``batch`` dimensions behind."""
    if pairwise.ndim == 2:
        return [pairwise[(..., *(None,) * batch)]] * steps
    return pairwise.movedim((-3, -2, -1), (0, 1, 2)).contiguous().unbind(0)


def _require_chain(unary: Tensor, pairwise: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Check shapes and values; broadcast the leading dimensions, and blank what lies behind the ends."""
    if unary.ndim < 2:
        raise ValueError(f"unary must be (..., T, K), got shape {tuple(unary.shape)}")
    require_nonempty("unary", unary, -1)
    places, labels = unary.shape[-2:]
    expected = f"(K, K) or (..., T−1, K, K) with T = {places} and K = {labels}"
    if pairwise.ndim < 2 or pairwise.shape[-2:] != (labels, labels):
        raise ValueError(f"pairwise must be {expected}, got shape {tuple(pairwise.shape)}")
    batch = unary.shape[:-2]
    if pairwise.ndim > 2:
        if pairwise.shape[-3] != max(places - 1, 0):
            raise ValueError(f"pairwise must be {expected}, got shape {tuple(pairwise.shape)}")
        try:
            batch = torch.broadcast_shapes(batch, pairwise.shape[:-3])
        except RuntimeError as error:
            raise ValueError(
                f"the leading dimensions of unary {tuple(unary.shape)} and pairwise {tuple(pairwise.shape)} must "
                "broadcast"
            ) from error
        pairwise = pairwise.expand(*batch, -1, -1, -1)
    unary = unary.expand(*batch, -1, -1)
    if lengths is not None:
        lengths = require_lengths("lengths", lengths, batch, places)
        inside = torch.arange(places, device=unary.device) < lengths.unsqueeze(-1)
        unary = torch.where(inside.unsqueeze(-1), unary, 0.0)
        if pairwise.ndim > 2:
            pairwise = torch.where(inside[..., 1:, None, None], pairwise, 0.0)
    require_finite("unary", unary, allow_posinf=True)
    require_finite("pairwise", pairwise, allow_posinf=True)
    return unary, pairwise, lengths


def _require_labels(labels: Tensor, unary: Tensor, lengths: Tensor | None) -> Tensor:
    """Check that there is a label for each place that counts; put 0 where none does."""
    if labels.shape[-1:] != unary.shape[-2:-1]:
        raise ValueError(f"labels must be (..., T) with T = {unary.shape[-2]}, got shape {tuple(labels.shape)}")
    try:
        labels = labels.expand(unary.shape[:-1])
    except RuntimeError as error:
        raise ValueError(f"labels must be {tuple(unary.shape[:-1])}, got shape {tuple(labels.shape)}") from error
    return require_labels(labels, unary.shape[-1], lengths)
