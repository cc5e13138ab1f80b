r"""Driving by a learned model of the traffic: what it says, what that costs, and when it should not be believed.

.. math::

    \hat s_{t+1} = f(\hat s_t, a_t, z_t), \qquad a_t = \pi(\hat s_t), \qquad
    \min_\pi \sum_{t=1}^H \langle C(\hat s_t) \rangle + \lambda\, U(\hat s_t), \qquad
    U = \operatorname{Var}_m \hat s_t^{(m)}

A state s is a neighbourhood: our own (..., 3) and K cars (..., K, 5), as :func:`neighbourhood` returns them. An action
is an acceleration and a steering angle, held for ``HOLD`` steps of the traffic. U is the variance over drop-out masks m
of the model, for the same actions and the same z: it is small where the model has seen data, and grows where it makes
things up.

Source: Henaff, Canziani and LeCun, Model-predictive policy learning with uncertainty regularization for driving in
dense traffic (ICLR 2019).
"""

from ebm_lib.world.driving.collisions import between, crashes, meets, off_road
from ebm_lib.world.driving.cost import Costs, costs
from ebm_lib.world.driving.following import equilibrium_gap, idm
from ebm_lib.world.driving.model import DropoutMLP, ForwardModel, uncertainty
from ebm_lib.world.driving.policy import DrivingPolicy, Rollout, imagine
from ebm_lib.world.driving.traffic import Traffic, controls, decide, draw_traffic, drive, lane_of, middle_of, step
from ebm_lib.world.driving.trips import HOLD, Neighbourhood, Outcomes, Transitions, neighbourhood, record, road_test

__all__ = [
    "HOLD",
    "Costs",
    "DrivingPolicy",
    "DropoutMLP",
    "ForwardModel",
    "Neighbourhood",
    "Outcomes",
    "Rollout",
    "Traffic",
    "Transitions",
    "between",
    "controls",
    "costs",
    "crashes",
    "decide",
    "draw_traffic",
    "drive",
    "equilibrium_gap",
    "idm",
    "imagine",
    "lane_of",
    "meets",
    "middle_of",
    "neighbourhood",
    "off_road",
    "record",
    "road_test",
    "step",
    "uncertainty",
]
