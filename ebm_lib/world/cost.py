r"""The cost module: drives that are given, a critic that is learned, and weights that a configurator may change.

.. math:: C(s) = IC(s) + TC(s), \qquad IC(s) = \sum_i u_i\, IC_i(s), \qquad TC(s) = \sum_j v_j\, TC_j(s)
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ebm_lib.energy import Energy
from ebm_lib.nn import MLP
from ebm_lib.require import has_values, require_count, require_finite, require_positive
from ebm_lib.world._descent import descend
from ebm_lib.world.control import Step, rollout
from ebm_lib.world.memory import Pairs

Term = Callable[[Tensor], Tensor]


class Cost:
    r"""What states cost: a weighted sum of named terms, some given and some learned.

    .. math:: C(s) = \sum_i u_i\, IC_i(s) + \sum_j v_j\, TC_j(s)

    Args:
        intrinsic: IC_i by name, each from states (..., D) to (...): what is bad in itself.
        trainable: TC_j by name: what bodes ill, such as a :class:`Critic`.
        weights: u_i and v_j by name, at least 0; 1 where none is given.

    Attributes:
        weights: all of them. :meth:`weigh` changes some.

    Raises:
        ValueError: no term, a name that is in both, a weight of no term or below 0; when called, a term of the wrong
            shape.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Cost Module", where
        the sum's second part is printed ITC.

    >>> cost = Cost({"far": lambda s: s.square().sum(-1)}, {"doom": lambda s: s[..., 0]}, weights={"doom": 0.5})
    >>> cost(torch.tensor([[2.0, 1.0]])), cost.intrinsic(torch.tensor([[2.0, 1.0]]))
    (tensor([6.]), tensor([5.]))
    """

    def __init__(
        self,
        intrinsic: Mapping[str, Term],
        trainable: Mapping[str, Term] | None = None,
        *,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self._intrinsic, self._trainable = dict(intrinsic), dict(trainable or {})
        if both := sorted(self._intrinsic.keys() & self._trainable.keys()):
            raise ValueError(f"names must be different, got {both} twice")
        if not self._intrinsic:
            raise ValueError("intrinsic must have at least one term")
        self.weights = dict.fromkeys([*self._intrinsic, *self._trainable], 1.0)
        self.weigh(weights or {})

    def weigh(self, weights: Mapping[str, float]) -> None:
        """Change the weights of the terms that are named; all or, if one is wrong, none."""
        for name, weight in weights.items():
            if name not in self.weights:
                raise ValueError(f"weights must be of the terms {', '.join(self.weights)}; got {name!r}")
            if not 0 <= weight < math.inf:
                raise ValueError(f"weight of {name!r} must be finite and at least 0, got {weight}")
        self.weights |= weights

    def terms(self, s: Tensor) -> dict[str, Tensor]:
        """Each term with its weight, (...), by name: what they sum to is C(s)."""
        return self._weighted(s, self._intrinsic | self._trainable)

    def intrinsic(self, s: Tensor) -> Tensor:
        """IC(s), (...)."""
        return self._sum(s, self._intrinsic)

    def trainable(self, s: Tensor) -> Tensor:
        """TC(s), (...): 0 if there is no such term."""
        return self._sum(s, self._trainable)

    def __call__(self, s: Tensor) -> Tensor:
        """C(s), (...), of states (..., D)."""
        return self.intrinsic(s) + self.trainable(s)

    def _weighted(self, s: Tensor, terms: Mapping[str, Term]) -> dict[str, Tensor]:
        found = {}
        for name, term in terms.items():
            if self.weights[name] == 0:  # switched off: not even computed
                found[name] = s.new_zeros(s.shape[:-1])
                continue
            value = term(s)
            if value.shape != s.shape[:-1]:
                raise ValueError(f"{name!r} must give {tuple(s.shape[:-1])}, got shape {tuple(value.shape)}")
            found[name] = self.weights[name] * value
        return found

    def _sum(self, s: Tensor, terms: Mapping[str, Term]) -> Tensor:
        return sum(self._weighted(s, terms).values(), s.new_zeros(s.shape[:-1]))


def plan_energy(step: Step, cost: Cost, weights: Tensor) -> Callable[[Tensor], Energy]:
    r"""Say what plans cost: discomfort on the way, and what the critic expects behind the horizon.

    .. math:: E(a; s_0) = \sum_{t=1}^{H} w_t\, IC(\hat s_t) + TC(\hat s_H), \qquad
        \hat s_{t+1} = f(\hat s_t, a_t), \quad \hat s_0 = s_0

    The critic is asked once, at the end: it has summed what comes after. The cost's weights are those that it has when
    the energy is taken.

    Args:
        step: f, the world model.
        cost: IC and TC.
        weights: w, (H,), at least 0: how much each step counts.

    Returns:
        A function that takes a state (..., D) and gives an energy of actions (..., H, A), for a
        :class:`~ebm_lib.world.Replanner`.

    Raises:
        ValueError: weights of another shape, or below 0; when called, plans of another length.

    Source: LeCun, A Path Towards Autonomous Machine Intelligence (2022), whose energy of a plan is the
        sum of the costs of the states it leads through.

    >>> cost = Cost({"far": lambda s: s.square().sum(-1)}, {"critic": lambda s: 10 * s.square().sum(-1)})
    >>> energy = plan_energy(lambda s, a: s + a, cost, torch.tensor([0.5, 0.5]))(torch.tensor([2.0]))
    >>> energy(torch.tensor([[[-1.0], [-1.0]], [[0.0], [-1.0]]]))  # (1 + 0) / 2 + 0, and (4 + 1) / 2 + 10
    tensor([ 0.5000, 12.5000])
    """
    if weights.ndim != 1 or len(weights) == 0:
        raise ValueError(f"weights must be (H,) with at least one, got shape {tuple(weights.shape)}")
    require_finite("weights", weights)
    if has_values(weights) and (weights < 0).any():
        raise ValueError(f"weights must be at least 0, got {weights.min().item()}")

    def of(state: Tensor) -> Energy:
        def energy(actions: Tensor) -> Tensor:
            if actions.shape[-2] != len(weights):
                raise ValueError(f"plans must have {len(weights)} actions, got shape {tuple(actions.shape)}")
            ahead = rollout(step, state, actions)[..., 1:, :]
            return cost.intrinsic(ahead) @ weights + cost.trainable(ahead[..., -1, :])

        return energy

    return of


class Critic(nn.Module):
    r"""A network that guesses, from a state, what is still to come: a number of at least 0.

    .. math:: TC(s) = \tau \log\big(1 + e^{f(s)}\big)

    Args:
        D: coordinates of a state, of the order of 1.
        hidden: widths of the hidden layers of f, a perceptron.
        scale: τ, about what is to be expected.
        generator: where the weights come from.

    Raises:
        ValueError: sizes or numbers out of range.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Cost Module":
        "Equivalent to a critic in RL".

    >>> Critic(4, generator=torch.Generator().manual_seed(0))(torch.zeros(5, 3, 4)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        D: int,
        *,
        hidden: Sequence[int] = (64, 64),
        scale: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.scale = require_positive("scale", scale)
        self.mlp = MLP((require_count("D", D), *hidden, 1), activation="silu", generator=generator)

    def forward(self, s: Tensor) -> Tensor:
        """TC(s), (...), of states (..., D)."""
        return self.scale * softplus(self.mlp(s).squeeze(-1))


def learn_critic(
    critic: nn.Module,
    pairs: Pairs,
    *,
    steps: int = 2000,
    batch_size: int = 256,
    lr: float = 2e-3,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Fit a critic to what came of states that are remembered.

    .. math:: \min_{TC} \frac{1}{N} \sum_n \frac{(TC(s_n) - g_n)^2}{\operatorname{var} g}, \qquad
        g_n = \sum_k \gamma^k\, IC(s_{n+k})

    It predicts the mean of what came of states that look alike, under whoever acted then.

    Args:
        critic: from (N, D) to (N,), trained in place.
        pairs: states and what they cost in the end, from
            :meth:`ShortTermMemory.pairs <ebm_lib.world.ShortTermMemory.pairs>`.
        steps: of AdamW, with a rate that falls to 0 along a cosine.
        batch_size: pairs a step, drawn with replacement.
        lr: learning rate.
        generator: draws the batches.

    Returns:
        The error of each step's batch, (steps,): 1 is that of the mean for an answer.

    Raises:
        ValueError: no pairs, shapes that do not fit, values not finite or all the same, nothing to train.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Training the
        Critic"; A Path Towards Autonomous Machine Intelligence (2022).

    >>> from ebm_lib.world import Pairs
    >>> s = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    >>> errors = learn_critic(Critic(2, generator=torch.Generator().manual_seed(0)), Pairs(s, s.square().sum(-1)),
    ...                       steps=300, lr=0.01, generator=torch.Generator().manual_seed(0))
    >>> bool(errors[-1] < 0.02)
    True
    """
    states, values = pairs
    if states.ndim != 2 or values.shape != (len(states),) or len(states) == 0:
        shapes = f"{tuple(states.shape)} and {tuple(values.shape)}"
        raise ValueError(f"pairs must be states (N, D) and values (N,), N >= 1, got shapes {shapes}")
    require_finite("states", states)
    scale = require_finite("values", values).var(correction=0)
    if not scale > 0:
        raise ValueError("values must not all be the same")
    require_count("batch_size", batch_size)

    def error() -> Tensor:
        index = torch.randint(len(states), (batch_size,), generator=generator, device=states.device)
        guess = critic(states[index])
        if guess.shape != (batch_size,):
            raise ValueError(f"critic must give one number for each state, got shape {tuple(guess.shape)}")
        return (guess - values[index]).square().mean() / scale

    return descend("critic", critic, error, steps, lr)
