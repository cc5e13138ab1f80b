r"""Control: roll a world model out, and take the gradient backwards through it; the linear case is solved exactly.

.. math:: s_{t+1} = f(s_t, a_t), \qquad E(a) = \sum_{t=0}^{H-1} c(s_t, a_t) + \phi(s_H)

A model is any ``step(state, action)``, from (..., D) and (..., A) to (..., D). Costs are energies of what happens:
``running(state, action)`` and ``final(state)``, one number each.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ebm_lib.energy import Energy
from ebm_lib.require import has_values, require_count, require_finite

Step = Callable[[Tensor, Tensor], Tensor]
Running = Callable[[Tensor, Tensor], Tensor]
Final = Callable[[Tensor], Tensor]


def rollout(step: Step, state: Tensor, actions: Tensor) -> Tensor:
    r"""The states that a sequence of actions leads through.

    .. math:: s_{t+1} = f(s_t, a_t), \qquad t = 0, \dots, H - 1

    Args:
        step: f(state, action); both come with the same leading dimensions.
        state: where it starts, (..., D).
        actions: (..., H, A); leading dimensions broadcast with those of ``state``.

    Returns:
        States, (..., H + 1, D), the first of them ``state``.

    Raises:
        ValueError: shapes that do not fit, or a step that changes the state's shape.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Forward Model for Model-Predictive
    Control".

    >>> rollout(lambda s, a: s + a, torch.zeros(1), torch.ones(3, 1)).squeeze(-1)
    tensor([0., 1., 2., 3.])
    """
    state, actions = _aligned(state, actions)
    states = [state]
    for action in actions.unbind(-2):
        states.append(_stepped(step, states[-1], action))
    return torch.stack(states, -2)


def trajectory_energy(step: Step, running: Running, final: Final) -> Callable[[Tensor], Energy]:
    r"""Say what plans cost from a state: the energy that a planner minimises.

    .. math:: E(a; s_0) = \sum_{t=0}^{H-1} c(s_t, a_t) + \phi(s_H), \qquad s_{t+1} = f(s_t, a_t)

    Args:
        step: f.
        running: c, called at each step on (..., D) and (..., A): what it holds for a batch, a goal for one, broadcasts.
        final: φ, on the last state, (..., D): a goal, or a critic's guess of all that is to come.

    Returns:
        A function that takes a state (..., D) and gives an energy of actions (..., H, A).

    >>> energy = trajectory_energy(lambda s, a: s + a, lambda s, a: a.square().sum(-1), lambda s: (s - 2).abs().sum(-1))
    >>> energy(torch.zeros(1))(torch.tensor([[[1.0], [1.0]], [[0.0], [0.0]]]))
    tensor([2., 2.])
    """

    def of(state: Tensor) -> Energy:
        def energy(actions: Tensor) -> Tensor:
            here, following = _aligned(state, actions)
            total = 0
            for action in following.unbind(-2):
                total = total + running(here, action)
                here = _stepped(step, here, action)
            return total + final(here)

        return energy

    return of


class Adjoint(NamedTuple):
    """The energy of a plan and its slopes.

    Attributes:
        energy: E, (...).
        gradient: of the energy in the actions, (..., H, A).
        costates: λ, its gradient in each state, (..., H + 1, D): what a nudge of that state would cost.
        states: what the actions lead through, (..., H + 1, D).
    """

    energy: Tensor
    gradient: Tensor
    costates: Tensor
    states: Tensor


def adjoint(step: Step, running: Running, final: Final, state: Tensor, actions: Tensor) -> Adjoint:
    r"""Run the costates backwards along a trajectory: how Kelley and Bryson got the gradient of a plan.

    .. math::

        \lambda_H = \frac{\partial \phi}{\partial s_H}, \qquad
        \lambda_t = \frac{\partial c}{\partial s_t} + \Big(\frac{\partial f}{\partial s_t}\Big)^{\!\top} \lambda_{t+1},
        \qquad
        \frac{dE}{da_t} = \frac{\partial c}{\partial a_t} + \Big(\frac{\partial f}{\partial a_t}\Big)^{\!\top}
        \lambda_{t+1}

    Backpropagation through the rollout finds the same numbers. Here each step is differentiated alone, by one
    vector-Jacobian product, so that the graph of one step is all that is in memory at a time.

    Args:
        step: f, differentiable.
        running: c(state, action), on (..., D) and (..., A); one that does not depend on either is welcome.
        final: φ(state).
        state: s₀, (..., D).
        actions: (..., H, A); leading dimensions broadcast with those of ``state``.

    Returns:
        An Adjoint, without graph.

    Raises:
        ValueError: shapes that do not fit; a trajectory, cost or slope that is not finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Forward Model for Model-Predictive
    Control" ("Kelley-Bryson adjoint state method"); Kelley, Gradient Theory of Optimal Flight Paths (ARS Journal 30,
    1960); Bryson and Denham, A Steepest-Ascent Method for Solving Optimum Programming Problems (Journal of Applied
    Mechanics 29, 1962).

    >>> found = adjoint(lambda s, a: 2 * s + a, lambda s, a: a.square().sum(-1), lambda s: s.sum(-1), torch.zeros(1),
    ...                 torch.ones(2, 1))
    >>> found.costates.squeeze(-1), found.gradient.squeeze(-1)
    (tensor([4., 2., 1.]), tensor([4., 3.]))
    """
    with torch.no_grad():
        state, actions = _aligned(state, actions)
        states = require_finite("states", rollout(step, state, actions))

    def pulled_back(of: Callable, upon: tuple[Tensor, ...], pull: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        with torch.enable_grad():
            leaves = [part.detach().requires_grad_() for part in upon]
            cost, ahead = of(*leaves)
            if cost.shape != state.shape[:-1]:
                raise ValueError(f"costs must be {tuple(state.shape[:-1])}, one per sample, got {tuple(cost.shape)}")
            total = cost.sum() + (0 if pull is None else (ahead * pull).sum())
            none = sum((leaf.sum() * 0 for leaf in leaves), start=total * 0)  # costs that depend on nothing: slope 0
            slopes = torch.autograd.grad(total + none, leaves)
        return require_finite("cost", cost.detach()), [require_finite("slope of the cost", s) for s in slopes]

    energy, (costate,) = pulled_back(lambda s: (final(s), None), (states[..., -1, :],), None)
    costates, gradients = [costate], []
    for t in reversed(range(actions.shape[-2])):
        cost, (costate, gradient) = pulled_back(
            lambda s, a: (running(s, a), step(s, a)), (states[..., t, :], actions[..., t, :]), costate
        )
        energy = energy + cost
        costates.append(costate)
        gradients.append(gradient)
    return Adjoint(energy, torch.stack(gradients[::-1], -2), torch.stack(costates[::-1], -2), states)


class LQR(NamedTuple):
    """The best control of a linear system with quadratic costs, at any state.

    Attributes:
        gains: K, (..., H, A, D): the best action is a_t = -K_t s_t.
        values: P, (..., H + 1, D, D): what is still to pay at the best is s_tᵀ P_t s_t.
    """

    gains: Tensor
    values: Tensor


def lqr(A: Tensor, B: Tensor, Q: Tensor, R: Tensor, final: Tensor, H: int) -> LQR:
    r"""Solve the linear-quadratic regulator over a finite horizon, by Riccati's recursion.

    .. math::

        s_{t+1} = A s_t + B a_t, \qquad
        E = \sum_{t=0}^{H-1} \big(s_t^\top Q s_t + a_t^\top R a_t\big) + s_H^\top P_H s_H

        K_t = (R + B^\top P_{t+1} B)^{-1} B^\top P_{t+1} A, \qquad
        P_t = Q + K_t^\top R K_t + (A - B K_t)^\top P_{t+1} (A - B K_t)

    No ½ anywhere. The best plan from :math:`s_0` has energy :math:`s_0^\top P_0 s_0`: the truth that planners are
    tested against. The recursion for P is Joseph's form, which stays symmetric and positive in rounded arithmetic.

    Args:
        A: (..., D, D).
        B: (..., D, A), for actions of A components.
        Q: cost of the state, (..., D, D), symmetric, no negative eigenvalue.
        R: cost of the action, (..., A, A), symmetric, positive definite.
        final: P_H, cost of the last state, as Q.
        H: how many actions.

    Returns:
        An LQR; leading dimensions broadcast.

    Raises:
        ValueError: shapes that do not fit, values not finite, costs not symmetric or without a lowest point.

    Source: Kalman, Contributions to the Theory of Optimal Control (Boletín de la Sociedad Matemática Mexicana 5, 1960).

    >>> one = torch.ones(1, 1)
    >>> lqr(one, one, one, one, one, 20).values[0]  # p = 1 + p / (1 + p), at the golden ratio
    tensor([[1.6180]])
    """
    require_count("H", H)
    D, U = B.shape[-2:] if B.ndim >= 2 else (0, 0)
    for name, matrix, shape in (("A", A, (D, D)), ("B", B, (D, U)), ("Q", Q, (D, D)), ("R", R, (U, U)),
                                ("final", final, (D, D))):  # fmt: skip
        if matrix.shape[-2:] != shape or 0 in shape:
            raise ValueError(f"{name} must be (..., {shape[0]}, {shape[1]}) beside B, got {tuple(matrix.shape)}")
        require_finite(name, matrix)
        if name not in "AB" and has_values(matrix):
            lowest, highest = torch.linalg.eigvalsh(matrix).aminmax(dim=-1)
            if not torch.allclose(matrix, matrix.mT) or (lowest < -1e-5 * highest.abs()).any():
                raise ValueError(f"{name} must be symmetric with no negative eigenvalue, got {matrix.tolist()}")
            if name == "R" and not (lowest > 0).all():
                raise ValueError(f"R must be positive definite, got the eigenvalue {lowest.min().item()}")
    lead = torch.broadcast_shapes(*(matrix.shape[:-2] for matrix in (A, B, Q, R, final)))
    P = final.expand(*lead, D, D)
    gains, values = [], [P]
    for _ in range(H):
        K = torch.linalg.solve(R + B.mT @ P @ B, B.mT @ P @ A)
        closed = A - B @ K
        P = Q + K.mT @ R @ K + closed.mT @ P @ closed
        gains.append(K)
        values.append(P)
    return LQR(torch.stack(gains[::-1], -3), torch.stack(values[::-1], -3))


def _aligned(state: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    if state.ndim < 1 or actions.ndim < 2:
        shapes = f"{tuple(state.shape)} and {tuple(actions.shape)}"
        raise ValueError(f"state must be (..., D) and actions (..., H, A), got shapes {shapes}")
    try:
        lead = torch.broadcast_shapes(state.shape[:-1], actions.shape[:-2])
    except RuntimeError:
        shapes = f"{tuple(state.shape)} and {tuple(actions.shape)}"
        raise ValueError(f"leading dimensions of state and actions must broadcast, got shapes {shapes}") from None
    return state.expand(*lead, -1), actions.expand(*lead, *actions.shape[-2:])


def _stepped(step: Step, state: Tensor, action: Tensor) -> Tensor:
    ahead = step(state, action)
    if ahead.shape != state.shape:
        raise ValueError(f"step must keep the state's shape {tuple(state.shape)}, got {tuple(ahead.shape)}")
    return ahead
