r"""World models: an agent that predicts what its actions lead to, and plans with it.

.. math:: s_{t+1} = \text{Pred}(s_t, a_t, z_t), \qquad
    E(s_0, a_1, \dots, a_H) = \sum_t C(s_t)

The worlds to live in are here (:func:`two_rooms`, :func:`draw_mazes`), and what it takes to plan in them.
"""

from ebm_lib.world.agent import Actor, Agent, Configurator, Orders, Record, SubGoal, with_goal
from ebm_lib.world.contacts import ContactDynamics
from ebm_lib.world.control import LQR, Adjoint, adjoint, lqr, rollout, trajectory_energy
from ebm_lib.world.cost import Cost, Critic, learn_critic, plan_energy
from ebm_lib.world.discrete import FiniteWorld, Path, Values, backup, grid_world, tree_search, value_iteration
from ebm_lib.world.dynamics import GatedDynamics
from ebm_lib.world.episodes import Errands, Walks, cross_room, draw_places, room_of, shortest, walks
from ebm_lib.world.goals import goal_energy
from ebm_lib.world.hierarchy import MacroPlan, TwoLevels, sample_tree
from ebm_lib.world.mazes import Maze, draw_mazes
from ebm_lib.world.memory import Episode, Pairs, ShortTermMemory, discounted
from ebm_lib.world.model import WorldModel, WorldTerms
from ebm_lib.world.perception import Keypoints
from ebm_lib.world.planning import Plan, cem, effective_sample_size, mppi, plan_by_gradient, plan_weights
from ebm_lib.world.policy import Advice, Policy, advise, imitate, learn_through, propose
from ebm_lib.world.replanning import Replanner, shift
from ebm_lib.world.replay import Replay, Windows, learn_dynamics
from ebm_lib.world.residuals import ResidualMemory
from ebm_lib.world.rooms import Layout, Rooms, draw_dot, draw_layouts, draw_walls, is_free, move, render, two_rooms
from ebm_lib.world.surroundings import look, room_views
from ebm_lib.world.trials import Trials, run_errands

__all__ = [
    "LQR",
    "Actor",
    "Adjoint",
    "Advice",
    "Agent",
    "Configurator",
    "ContactDynamics",
    "Cost",
    "Critic",
    "Episode",
    "Errands",
    "FiniteWorld",
    "GatedDynamics",
    "Keypoints",
    "Layout",
    "MacroPlan",
    "Maze",
    "Orders",
    "Pairs",
    "Path",
    "Plan",
    "Policy",
    "Record",
    "Replanner",
    "Replay",
    "ResidualMemory",
    "Rooms",
    "ShortTermMemory",
    "SubGoal",
    "Trials",
    "TwoLevels",
    "Values",
    "Walks",
    "Windows",
    "WorldModel",
    "WorldTerms",
    "adjoint",
    "advise",
    "backup",
    "cem",
    "cross_room",
    "discounted",
    "draw_dot",
    "draw_layouts",
    "draw_mazes",
    "draw_places",
    "draw_walls",
    "effective_sample_size",
    "goal_energy",
    "grid_world",
    "imitate",
    "is_free",
    "learn_critic",
    "learn_dynamics",
    "learn_through",
    "look",
    "lqr",
    "move",
    "mppi",
    "plan_by_gradient",
    "plan_energy",
    "plan_weights",
    "propose",
    "render",
    "rollout",
    "room_of",
    "room_views",
    "run_errands",
    "sample_tree",
    "shift",
    "shortest",
    "trajectory_energy",
    "tree_search",
    "two_rooms",
    "value_iteration",
    "walks",
    "with_goal",
]
