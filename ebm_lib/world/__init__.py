r"""World models: an agent that predicts what its actions lead to, and plans with it.

.. math:: s_{t+1} = \text{Pred}(s_t, a_t, z_t), \qquad
    E(s_0, a_1, \dots, a_H) = \sum_t C(s_t)

The worlds to live in are here (:func:`two_rooms`, :func:`draw_mazes`), and what it takes to plan in them.
"""

from ebm_lib.world.control import LQR, Adjoint, adjoint, lqr, rollout, trajectory_energy
from ebm_lib.world.discrete import FiniteWorld, Path, Values, backup, grid_world, tree_search, value_iteration
from ebm_lib.world.episodes import Errands, Walks, cross_room, draw_places, room_of, shortest, walks
from ebm_lib.world.mazes import Maze, draw_mazes
from ebm_lib.world.planning import Plan, cem, effective_sample_size, mppi, plan_by_gradient, plan_weights
from ebm_lib.world.replanning import Replanner, shift
from ebm_lib.world.rooms import Layout, Rooms, draw_dot, draw_layouts, draw_walls, is_free, move, render, two_rooms

__all__ = [
    "LQR",
    "Adjoint",
    "Errands",
    "FiniteWorld",
    "Layout",
    "Maze",
    "Path",
    "Plan",
    "Replanner",
    "Rooms",
    "Values",
    "Walks",
    "adjoint",
    "backup",
    "cem",
    "cross_room",
    "draw_dot",
    "draw_layouts",
    "draw_mazes",
    "draw_places",
    "draw_walls",
    "effective_sample_size",
    "grid_world",
    "is_free",
    "lqr",
    "move",
    "mppi",
    "plan_by_gradient",
    "plan_weights",
    "render",
    "rollout",
    "room_of",
    "shift",
    "shortest",
    "trajectory_energy",
    "tree_search",
    "two_rooms",
    "value_iteration",
    "walks",
]
