r"""Policies: an action at once (Mode-1), learned from plans or through the model, and where the planner may start.

.. math:: a = \pi(s)

Whatever a policy is told is in the state: a goal, too, as coordinates that no action moves. So a policy is a
function of one tensor, a world still a ``step(state, action)``, and what planners need is unchanged. States have
shape (..., D) and actions (..., A).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ebm_lib.energy import Energy
from ebm_lib.nn import MLP
from ebm_lib.require import require_count, require_finite
from ebm_lib.world._descent import descend
from ebm_lib.world._search import Bounds
from ebm_lib.world.control import Step, _stepped

Act = Callable[[Tensor], Tensor]


class Policy(nn.Module):
    r"""A network that answers a state with an action within bounds.

    .. math:: \pi(s) = \frac{u + l}{2} + \frac{u - l}{2} \tanh f(s)

    Args:
        D: coordinates of a state, with a mean near 0 and a standard deviation near 1; the goal among them.
        A: components of an action.
        hidden: widths of the hidden layers of f, a perceptron.
        bounds: (l, u), numbers or (A,).
        activation: a key of ``ebm_lib.nn.ACTIVATIONS``.
        generator: where the weights come from.

    Raises:
        ValueError: sizes below 1, a lower bound that is not below the upper one.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Mode-1
    Perception-Action Cycle": the policy module A(s[0]).

    >>> policy = Policy(6, 2, bounds=(-0.06, 0.06), generator=torch.Generator().manual_seed(0))
    >>> action = policy(torch.zeros(5, 6))
    >>> action.shape, bool((action.abs() < 0.06).all())
    (torch.Size([5, 2]), True)
    """

    def __init__(
        self,
        D: int,
        A: int,
        *,
        hidden: Sequence[int] = (256, 256),
        bounds: Bounds = (-1.0, 1.0),
        activation: str = "relu",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        sizes = (require_count("D", D), *hidden, require_count("A", A))
        self.mlp = MLP(sizes, activation=activation, generator=generator)
        low, high = (torch.as_tensor(side, dtype=torch.get_default_dtype()).expand(A) for side in bounds)
        if not (low < high).all():
            raise ValueError(f"bounds must be (low, high) with low below high, got {bounds}")
        self.register_buffer("middle", (high + low) / 2)
        self.register_buffer("reach", (high - low) / 2)

    def forward(self, state: Tensor) -> Tensor:
        """The action for a state, (..., D) → (..., A)."""
        return self.middle + self.reach * self.mlp(state).tanh()


def propose(policy: Act, step: Step, state: Tensor, H: int) -> Tensor:
    r"""Write out what the policy would do, in a model of the world: a plan without any search.

    .. math:: a_t = \pi(s_t), \qquad s_{t+1} = f(s_t, a_t), \qquad t = 0, \dots, H - 1

    Given to a planner as its ``start`` it is a warm start: the plan found is never worse than it. Its energy, as a
    function of the policy's parameters, is what :func:`learn_through` descends.

    Args:
        policy: π.
        step: f, a model of the world or the world itself.
        state: where it starts, (..., D).
        H: actions.

    Returns:
        Actions, (..., H, A).

    Raises:
        ValueError: H below 1, a step that changes the state's shape.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Compiling Mode-2
    into Mode-1": the policy module "to initialize Mode-2".

    >>> propose(lambda s: -s / 2, lambda s, a: s + a, torch.ones(1), 3).squeeze(-1)
    tensor([-0.5000, -0.2500, -0.1250])
    """
    actions = []
    for t in range(require_count("H", H)):
        if t:
            state = _stepped(step, state, actions[-1])
        actions.append(policy(state))
    return torch.stack(actions, -2)


class Advice(NamedTuple):
    """What an expert would have done, at states that somebody came through.

    Attributes:
        states: (..., T, D).
        actions: the expert's, (..., T, A).
    """

    states: Tensor
    actions: Tensor


@torch.no_grad()
def advise(expert: Act, step: Step, state: Tensor, T: int, *, actor: Act | None = None) -> Advice:
    r"""Act for a while, and ask an expert at every state what it would do.

    .. math:: a_t = \alpha(s_t), \qquad a^*_t = \pi^*(s_t), \qquad s_{t+1} = f(s_t, a_t)

    Without an actor the expert acts itself, and imitating what it did is behaviour cloning: the pairs are of states
    that the expert meets, and a policy that strays from them was never told what to do there. With the policy as the
    actor they are of the states that the policy meets. To fit a policy to all pairs so far, to let it act, to ask
    again, and so on, is DAgger.

    Args:
        expert: π*, such as the ``act`` of a :class:`~ebm_lib.world.Replanner`; called once at each step.
        step: f, where this happens: the world, or a model of it. It may end an errand and begin another.
        state: the first, (..., D).
        T: steps.
        actor: α, who acts; the expert if None.

    Returns:
        The Advice.

    Raises:
        ValueError: T below 1, a step that changes the state's shape.

    Source: Ross, Gordon and Bagnell, A Reduction of Imitation Learning and Structured Prediction to No-Regret Online
    Learning (AISTATS 2011), algorithm 3.1, with their β of 1 in the first round and 0 in the others.

    >>> advice = advise(lambda s: -s, lambda s, a: s + a, torch.ones(1), 3, actor=lambda s: s)
    >>> advice.states.squeeze(-1), advice.actions.squeeze(-1)
    (tensor([1., 2., 4.]), tensor([-1., -2., -4.]))
    """
    states, actions = [], []
    for t in range(require_count("T", T)):
        if t:
            state = _stepped(step, state, actions[-1] if actor is None else actor(states[-1]))
        states.append(state)
        actions.append(expert(state))
    return Advice(torch.stack(states, -2), torch.stack(actions, -2))


def imitate(
    policy: nn.Module,
    states: Tensor,
    actions: Tensor,
    *,
    steps: int = 2000,
    batch_size: int = 256,
    lr: float = 1e-3,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Fit the policy to actions that were found otherwise: by planning, or by watching somebody.

    .. math:: \min_\pi \frac{1}{N} \sum_n \frac{\lVert \pi(s_n) - a_n \rVert^2}{\operatorname{mean} \lVert a \rVert^2}

    That is amortised inference with actions for latents. The squared error asks for the mean: where experts go left
    or right of a pillar, the policy goes into it.

    Args:
        policy: π, trained in place, from where it stands.
        states: (N, D).
        actions: (N, A).
        steps: of AdamW, with a rate that falls to 0 along a cosine.
        batch_size: pairs a step, drawn with replacement.
        lr: learning rate.
        generator: draws the batches.

    Returns:
        The error of each step's batch, (steps,): 1 is that of an answer of 0.

    Raises:
        ValueError: shapes that do not fit, no pairs, values not finite, actions that are all 0.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Compiling Mode-2
    into Mode-1".

    >>> s, linear = torch.randn(100, 1, generator=torch.Generator().manual_seed(0)), nn.Linear(1, 1)
    >>> errors = imitate(linear, s, -0.5 * s, steps=300, lr=0.05, generator=torch.Generator().manual_seed(0))
    >>> linear.weight.detach().round(decimals=2)
    tensor([[-0.5000]])
    """
    if states.ndim != 2 or actions.ndim != 2 or len(states) != len(actions) or len(states) == 0:
        shapes = f"{tuple(states.shape)} and {tuple(actions.shape)}"
        raise ValueError(f"states must be (N, D) and actions (N, A), got shapes {shapes}")
    scale = require_finite("actions", actions).square().mean()
    if not scale > 0:
        raise ValueError("actions must not all be 0")
    require_finite("states", states)

    def error() -> Tensor:
        index = torch.randint(len(states), (batch_size,), generator=generator, device=states.device)
        return (policy(states[index]) - actions[index]).square().mean() / scale

    require_count("batch_size", batch_size)
    return descend("policy", policy, error, steps, lr)


def learn_through(
    policy: nn.Module,
    step: Step,
    energy: Callable[[Tensor], Energy],
    states: Tensor,
    *,
    H: int,
    steps: int = 1000,
    batch_size: int = 128,
    lr: float = 1e-3,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Learn the policy by backpropagation through the model: no expert, and no reward; the slope of the energy.

    .. math:: \min_\pi \frac{1}{N} \sum_n E\big(\pi(s_0), \pi(s_1), \dots, \pi(s_{H-1});\ s_0 = s^{(n)}\big), \qquad
        s_{t+1} = f(s_t, \pi(s_t))

    The planner's energy, with the policy in the place of the actions: one search for all states instead of one for
    each. It follows slopes only. Where no small change of an action helps, as in front of a wall, it learns nothing.

    Args:
        policy: π, trained in place, from where it stands.
        step: f, with slopes: a model. Its parameters are left alone.
        energy: of plans from a state, as :func:`~ebm_lib.world.trajectory_energy` makes it and a
            :class:`~ebm_lib.world.Replanner` takes it.
        states: where plans begin, (N, D).
        H: horizon.
        steps: of AdamW, with a rate that falls to 0 along a cosine, and gradients of norm 1 at most.
        batch_size: states a step, drawn with replacement.
        lr: learning rate.
        generator: draws the batches.

    Returns:
        The mean energy of each step's batch, (steps,).

    Raises:
        ValueError: shapes that do not fit, values not finite, an energy without a slope in the policy.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Forward Model for Gradient-Based
    Policy Learning".

    >>> linear = nn.Linear(1, 1)
    >>> s, world = torch.randn(100, 1, generator=torch.Generator().manual_seed(0)), lambda s, a: s + a
    >>> energy = lambda s: lambda a: (s + a.sum(-2)).square().sum(-1)  # where one plan of one action ends
    >>> path = learn_through(linear, world, energy, s, H=1, steps=300, lr=0.05)
    >>> linear.weight.detach().round(decimals=2)
    tensor([[-1.]])
    """
    if states.ndim != 2 or len(states) == 0:
        raise ValueError(f"states must be (N, D) with at least one, got shape {tuple(states.shape)}")
    require_finite("states", states)

    def mean_energy() -> Tensor:
        start = states[torch.randint(len(states), (batch_size,), generator=generator, device=states.device)]
        return energy(start)(propose(policy, step, start, H)).mean()

    require_count("batch_size", batch_size)
    return descend("policy", policy, mean_energy, steps, lr)
