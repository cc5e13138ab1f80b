r"""The agent: the lecture's diagram, one attribute for each of its modules, and a cycle from what is seen to an action.

.. math:: x \xrightarrow{\text{perception}} s \xrightarrow{\text{configurator}} (s, g), \text{ mode, weights}
    \xrightarrow{\text{actor}} a
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.energy import Energy
from ebm_lib.require import require_count, require_points, require_positive
from ebm_lib.world.control import Step, rollout
from ebm_lib.world.cost import Cost, plan_energy
from ebm_lib.world.memory import ShortTermMemory
from ebm_lib.world.planning import Plan
from ebm_lib.world.policy import Act, propose
from ebm_lib.world.replanning import shift


def with_goal(step: Step, D: int) -> Step:
    """Let goals pass through a world model, behind the D coordinates of a state: drives are functions of one tensor.

    >>> with_goal(lambda s, a: s + a, 1)(torch.tensor([[0.0, 9.0]]), torch.tensor([[1.0]]))
    tensor([[1., 9.]])
    """

    def step_with_goal(told: Tensor, action: Tensor) -> Tensor:
        after = step(told[..., :D], action)
        return torch.cat([after, told[..., D:].expand(*after.shape[:-1], -1)], -1)

    return step_with_goal


class SubGoal(NamedTuple):
    """One item of a task.

    Attributes:
        state: where to be, (D,), encoded as the states are.
        radius: root mean square difference within which that is reached, in units of the states.
        weights: what the cost's weights are to be meanwhile, by name; those not named stay.
    """

    state: Tensor
    radius: float
    weights: Mapping[str, float] = {}


class Orders(NamedTuple):
    """What the configurator asks for: a sub-goal, which of the task's it is, whether it is new, and mode 1 or 2."""

    goal: SubGoal
    number: int
    fresh: bool
    mode: int


class Configurator:
    """Holds a task, a list of sub-goals; moves on when one is reached, and chooses the mode.

    If the policy gets there when it is imagined in the world model, the agent acts without planning (Mode-1); if not,
    it plans (Mode-2). One world model serves the actor and this.

    Args:
        task: sub-goals, in order; the last one stays.
        patience: how many steps of the policy are imagined; 0 plans always.

    Attributes:
        number: of the sub-goal that is worked on.
        done: whether the last one was reached.

    Raises:
        ValueError: no sub-goal, a radius that is not positive, a patience below 0; when called, states of another size.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "A Single,
        Configurable World Model Engine" ("Sets subgoals"); that the mode is chosen by imagining the policy is ours.
    """

    def __init__(self, task: Sequence[SubGoal], *, patience: int = 24) -> None:
        if not task:
            raise ValueError("task must have at least one sub-goal")
        for goal in task:
            require_positive("radius", goal.radius)
        self.task, self.patience = list(task), require_count("patience", patience, minimum=0)
        self.reset()

    def reset(self) -> None:
        """Begin the task anew."""
        self.number, self.done, self._begun = 0, False, False

    def __call__(self, state: Tensor, step: Step, policy: Act | None) -> Orders:
        """Give orders for a state (D,), with a world model of told states and the actor's policy, if it has one."""
        fresh, self._begun = not self._begun, True
        while reached(state, self.task[self.number]):
            if self.number == len(self.task) - 1:
                self.done = True
                break
            self.number, fresh = self.number + 1, True
        goal = self.task[self.number]
        return Orders(goal, self.number, fresh, 1 if self._enough(state, goal, step, policy) else 2)

    def _enough(self, state: Tensor, goal: SubGoal, step: Step, policy: Act | None) -> bool:
        if policy is None or self.patience == 0:
            return False
        told = torch.cat([state, goal.state])
        ahead = rollout(step, told, propose(policy, step, told, self.patience))
        return bool(reached(ahead[:, : len(state)], goal).any())


def reached(state: Tensor, goal: SubGoal) -> Tensor:
    """Tell which states (..., D) are within the sub-goal's radius, bool, (...)."""
    if state.shape[-1:] != goal.state.shape:
        raise ValueError(f"sub-goals must be ({state.shape[-1]},) as states are, got shape {tuple(goal.state.shape)}")
    return (state - goal.state).square().mean(-1).sqrt() < goal.radius


class Actor:
    r"""Acts in one of two modes: by a policy at once, or by the first action of a plan.

    .. math:: a = \pi(s) \quad \text{(Mode-1)}, \qquad a = a_0, \quad
        (a_0, \dots, a_{H-1}) = \operatorname{argmin}_a E(a; s) \quad \text{(Mode-2)}

    Args:
        search: a planner, from an energy and a start (H, A) to a Plan: ``functools.partial(cem, spread=0.5)``.
        weights: w, (H,), of the steps in :func:`plan_energy`.
        A: components of an action.
        policy: π, from told states (..., 2D) to actions (..., A), if there is one.

    Raises:
        ValueError: a mode that there is not.
    """

    def __init__(
        self, search: Callable[[Energy, Tensor], Plan], weights: Tensor, A: int, *, policy: Act | None = None
    ) -> None:
        self.search, self.weights, self.policy = search, weights, policy
        self.start = weights.new_zeros(len(weights), A)
        self.reset()

    def reset(self) -> None:
        """Forget what is left of the last plan."""
        self.left = self.start

    def __call__(self, told: Tensor, mode: int, step: Step, cost: Cost) -> tuple[Tensor, Plan | None]:
        """Return an action (A,) for a told state (2D,), and in Mode-2 the plan that it is the first action of."""
        if mode not in (1, 2) or (mode == 1 and self.policy is None):
            raise ValueError(f"mode must be 2, or 1 if there is a policy, got {mode}")
        if mode == 1:
            self.reset()
            return self.policy(told), None
        plan = self.search(plan_energy(step, cost, self.weights)(told), self.left)
        self.left = shift(plan.actions)
        return plan.actions[0], plan


class Record(NamedTuple):
    """What a log says of one step.

    Attributes:
        state: what perception made of what was seen, (D,).
        number: of the sub-goal.
        mode: 1 or 2.
        terms: the cost's terms with their weights, by name.
        action: what was done, (A,).
        imagined: in Mode-2, the states that the plan leads through, (H + 1, D); else None.
        energy: of the plan; None in Mode-1.
    """

    state: Tensor
    number: int
    mode: int
    terms: dict[str, float]
    action: Tensor
    imagined: Tensor | None
    energy: float | None


class Agent:
    """Perception, a world model, a cost, an actor, a short-term memory and a configurator: one attribute each.

    They work on told states, the state with the sub-goal behind it, (2D,).

    Args:
        perception: from what is seen to a state, (D,).
        world_model: from (..., D) and actions (..., A) to (..., D): the one engine, for imagining and for planning.
        cost: of told states.
        actor: acts in either mode.
        memory: told states and what they cost.
        configurator: holds the task.

    Attributes:
        log: a Record of each step since the last :meth:`reset`.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "Modular Architecture
        for Autonomous AI"; A Path Towards Autonomous Machine Intelligence (2022).

    >>> from functools import partial
    >>> from ebm_lib.world import plan_by_gradient
    >>> there = SubGoal(torch.tensor([1.0]), 0.05)
    >>> cost = Cost({"away": lambda told: (told[..., 0] - told[..., 1]).square()})
    >>> actor = Actor(partial(plan_by_gradient, bounds=(-0.4, 0.4)), torch.full((3,), 1 / 3), 1)
    >>> agent = Agent(torch.clone, torch.add, cost, actor, ShortTermMemory(100), Configurator([there]))
    >>> place = torch.zeros(1)
    >>> while not agent.configurator.done:
    ...     place = place + agent.act(place)
    >>> [f"{record.state.item():.1f}" for record in agent.log], len(agent.memory)
    (['0.0', '0.4', '0.8', '1.0'], 4)
    """

    def __init__(
        self,
        perception: Callable[[Tensor], Tensor],
        world_model: Step,
        cost: Cost,
        actor: Actor,
        memory: ShortTermMemory,
        configurator: Configurator,
    ) -> None:
        self.perception, self.world_model, self.cost = perception, world_model, cost
        self.actor, self.memory, self.configurator = actor, memory, configurator
        self.log: list[Record] = []

    def reset(self) -> None:
        """Begin a new episode of the same task. The memory keeps what it holds."""
        self.configurator.reset()
        self.log = []

    @torch.no_grad()
    def act(self, x: Tensor) -> Tensor:
        """See, be configured, feel, remember, act: from what is seen to an action, (A,)."""
        state = require_points("state", self.perception(x))
        if state.ndim != 1:
            raise ValueError(f"perception must give one state (D,), got shape {tuple(state.shape)}")
        D = len(state)
        step = with_goal(self.world_model, D)
        orders = self.configurator(state, step, self.actor.policy)
        if orders.fresh:
            self.cost.weigh(orders.goal.weights)
            self.memory.begin()
            self.actor.reset()
        told = torch.cat([state, orders.goal.state])
        terms = {name: value.item() for name, value in self.cost.terms(told).items()}
        self.memory.write(told, self.cost.intrinsic(told))
        action, plan = self.actor(told, orders.mode, step, self.cost)
        found = (None, None) if plan is None else (rollout(step, told, plan.actions)[:, :D], plan.energy.item())
        self.log.append(Record(state, orders.number, orders.mode, terms, action, *found))
        return action
