"""The rooms as environments in gymnasium's interface: many at once in torch, or one in numpy. Needs gymnasium."""

import math
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from ebm_lib.data.draw import require_plane
from ebm_lib.require import has_values, require_choice, require_count, require_positive
from ebm_lib.world.episodes import cross_room
from ebm_lib.world.rooms import REACH, SPOT, Rooms, draw_dot, draw_layouts, draw_walls, is_free, move

OPTIONS = ("goal", "layout", "reset_mask", "start")
Draw = Callable[..., Rooms]
Info = dict[str, Any]


class TwoRooms(VectorEnv):
    r"""N rooms with N dots that are each to reach a goal in another room: tensors in, tensors out.

    .. math:: r_t = -\lVert p_{t+1} - g \rVert

    The reward is minus the intrinsic cost, the distance as the crow flies: it leads into corners. An episode terminates
    when the dot is within ``radius`` of the goal, and is truncated after ``budget`` steps if it is not. Nothing resets
    itself (gymnasium's ``AutoresetMode.DISABLED``): a world that has ended stands still, at reward 0 and with the same
    flags, until ``reset``, for all or with ``options={"reset_mask": ended}``.

    ``info`` has, for each world, ``place`` (N, 2), ``goal`` (N, 2), ``goal_image`` (N, 2, S, S): what would be seen
    there, ``cost`` (N,) and ``steps`` (N,), and ``layout``.

    Args:
        num_envs: N.
        draw: makes the worlds of a reset, called as ``draw(N, generator=generator)``; its result's device and dtype are
            the environment's. ``partial(draw_layouts, door=(0.2, 0.8))`` or ``partial(draw_mazes, rows=3, columns=3)``
            are others.
        distance: least distance from start to goal, above ``radius``.
        radius: how near is there.
        budget: steps in an episode.
        size: S of an observation in pixels.
        spot: as :func:`~ebm_lib.world.draw_dot`.
        reach: as :func:`~ebm_lib.world.move`; actions beyond are cut.

    Raises:
        ValueError: numbers out of range; on reset, an unknown option or one that does not fit; on a step, actions of
            another shape or not finite, or no reset before.

    >>> worlds = TwoRooms(5)
    >>> observation, info = worlds.reset(seed=0)
    >>> observation, reward, terminated, truncated, info = worlds.step(info["goal"] - info["place"])
    >>> observation.shape, bool((reward == -info["cost"]).all()), terminated.any().item()
    (torch.Size([5, 2, 28, 28]), True, False)
    """

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012  (gymnasium's convention)

    def __init__(
        self,
        num_envs: int,
        *,
        draw: Draw = draw_layouts,
        distance: float = 0.3,
        radius: float = 0.05,
        budget: int = 200,
        size: int = 28,
        spot: float = SPOT,
        reach: float = REACH,
    ) -> None:
        self.num_envs, self.draw = require_count("num_envs", num_envs), draw
        self.budget, self.size = require_count("budget", budget), require_count("size", size)
        self.spot, self.reach = require_positive("spot", spot), require_positive("reach", reach)
        self.radius, self.distance = require_positive("radius", radius), distance
        if not radius < distance < math.sqrt(2):
            raise ValueError(f"distance must be above the radius, {radius}, and below the diagonal, got {distance}")
        self.single_observation_space = Box(0, 1, (2, size, size), np.float32)
        self.single_action_space = Box(-reach, reach, (2,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.layout: Rooms | None = None

    @torch.no_grad()
    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[Tensor, Info]:
        """Begin new episodes in all worlds, or in those that ``options`` names.

        Args:
            seed: makes this and all later draws repeatable.
            options: what is not to be drawn: ``layout`` (N,), ``start`` (N, 2), ``goal`` (N, 2); and ``reset_mask``,
                (N,) bool, which worlds to begin anew (then the others are left as they are).

        Returns:
            The observation, (N, 2, S, S), and ``info``.
        """
        super().reset(seed=seed)
        options = dict(options or {})
        for name in options:
            require_choice("option", name, OPTIONS)
        N, mask = self.num_envs, options.get("reset_mask")
        if mask is not None:
            mask = torch.as_tensor(mask)
            if mask.shape != (N,) or mask.dtype != torch.bool:
                raise ValueError(f"reset_mask must be ({N},) bool, got {tuple(mask.shape)} {mask.dtype}")
        if self.layout is None and mask is not None and not mask.all():
            raise ValueError("reset_mask must be all True at the first reset")
        generator = torch.Generator().manual_seed(int(self.np_random.integers(2**62)))
        layout = options["layout"] if "layout" in options else self.draw(N, generator=generator)
        if layout.walls.shape[:-2] != (N,):
            raise ValueError(f"layout must be ({N},), got {tuple(layout.walls.shape[:-2])}")
        if "start" in options and "goal" in options:
            start, goal = options["start"], options["goal"]
        else:
            drawn = cross_room(layout, distance=self.distance, generator=generator)
            start, goal = options.get("start", drawn.start), options.get("goal", drawn.goal)
        for name, place in (("start", start), ("goal", goal)):
            if require_plane(name, place).shape != (N, 2) or (has_values(place) and not is_free(place, layout).all()):
                raise ValueError(f"{name} must be ({N}, 2) and free, away from walls and border")
        new = (*layout, start, goal, goal.new_zeros(N, dtype=torch.long), goal.new_zeros(N, dtype=torch.bool))
        if self.layout is not None and mask is not None:
            old = (*self.layout, self.place, self.goal, self.steps, self.ended)
            mask = mask.to(goal.device)
            new = [torch.where(mask.view(N, *[1] * (a.ndim - 1)), b, a) for a, b in zip(old, new, strict=True)]
        *parts, self.place, self.goal, self.steps, self.ended = new
        self.layout = type(layout)(*parts)
        self.walls = draw_walls(self.layout, size=self.size)
        self.goal_image = self._see(self.goal)
        return self._see(self.place), self._info()

    @torch.no_grad()
    def step(self, actions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Info]:
        """Move the dots of all worlds that have not ended.

        Args:
            actions: displacements, (N, 2).

        Returns:
            The observation (N, 2, S, S), the reward, whether terminated, whether truncated, each (N,), and ``info``.
        """
        if self.layout is None:
            raise ValueError("reset must come before the first step")
        if actions.shape != (self.num_envs, 2):
            raise ValueError(f"actions must be ({self.num_envs}, 2), got {tuple(actions.shape)}")
        going = ~self.ended
        moved = move(self.place, actions.to(self.place), self.layout, reach=self.reach)
        self.place = torch.where(going[:, None], moved, self.place)
        self.steps = self.steps + going
        info = self._info()
        terminated = info["cost"] <= self.radius
        truncated = ~terminated & (self.steps >= self.budget)
        self.ended = terminated | truncated
        return self._see(self.place), torch.where(going, -info["cost"], 0), terminated, truncated, info

    def _see(self, place: Tensor) -> Tensor:
        return torch.stack([draw_dot(place, size=self.size, spot=self.spot), self.walls], -3)

    def _info(self) -> Info:
        cost = torch.linalg.vector_norm(self.place - self.goal, dim=-1)
        seen = {"place": self.place.clone(), "goal": self.goal.clone(), "goal_image": self.goal_image}
        return seen | {"cost": cost, "steps": self.steps, "layout": self.layout}


class RoomsEnv(gymnasium.Env):
    """One world of :class:`TwoRooms`, with arrays: what any library that knows gymnasium can act in.

    Observations are (2, S, S) float32, actions (2,) float32. ``info`` has ``place``, ``goal``, ``goal_image``, ``cost``
    and ``steps``.

    Args:
        render_mode: None, or "rgb_array": ``render`` gives a picture of 8 S pixels a side, the dot in blue, its goal in
            orange, the walls in black.
        draw: as :class:`TwoRooms`, like all that follow.
        distance: of start and goal.
        radius: of the goal.
        budget: of steps.
        size: S.
        spot: of the dot.
        reach: of an action.

    Raises:
        ValueError: as :class:`TwoRooms`; an unknown mode.

    >>> world = RoomsEnv(render_mode="rgb_array")
    >>> observation, info = world.reset(seed=0)
    >>> observation, reward, terminated, truncated, info = world.step(world.action_space.sample())
    >>> observation.shape, observation.dtype, world.render().shape, terminated, truncated
    ((2, 28, 28), dtype('float32'), (224, 224, 3), False, False)
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012  (gymnasium's convention)

    def __init__(
        self,
        render_mode: str | None = None,
        *,
        draw: Draw = draw_layouts,
        distance: float = 0.3,
        radius: float = 0.05,
        budget: int = 200,
        size: int = 28,
        spot: float = SPOT,
        reach: float = REACH,
    ) -> None:
        if render_mode is not None:
            require_choice("render_mode", render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        self._worlds = TwoRooms(
            1, draw=draw, distance=distance, radius=radius, budget=budget, size=size, spot=spot, reach=reach
        )
        self.observation_space = self._worlds.single_observation_space
        self.action_space = self._worlds.single_action_space

    def reset(self, *, seed: int | None = None, options: Info | None = None) -> tuple[np.ndarray, Info]:
        """Begin a new episode: ``options`` as :meth:`TwoRooms.reset`, without the dimension of worlds."""
        super().reset(seed=seed)
        options = dict(options or {})
        for name in options:
            require_choice("option", name, ("goal", "layout", "start"))
        if "layout" in options:
            options["layout"] = options["layout"].at((None, ...))
        for name in {"start", "goal"} & set(options):
            options[name] = torch.as_tensor(options[name], dtype=torch.get_default_dtype())[None]
        observation, info = self._worlds.reset(seed=int(self.np_random.integers(2**62)), options=options)
        return _array(observation), _arrays(info)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, Info]:
        """Move the dot by ``action``, (2,)."""
        actions = torch.as_tensor(np.asarray(action))[None]
        observation, reward, terminated, truncated, info = self._worlds.step(actions)
        return _array(observation), reward.item(), terminated.item(), truncated.item(), _arrays(info)

    def render(self) -> np.ndarray | None:
        """Give a picture (8 S, 8 S, 3) uint8, or None without a mode to render in."""
        if self.render_mode is None:
            gymnasium.logger.warn("RoomsEnv was made without a render_mode: there is nothing to render")
            return None
        if self._worlds.layout is None:
            raise ValueError("reset must come before render")
        side = 8 * self._worlds.size
        picture = torch.ones(3, side, side)
        walls = draw_walls(self._worlds.layout, size=side)[0]
        dots = (
            draw_dot(place[0], size=side, spot=self._worlds.spot / 2)
            for place in (self._worlds.goal, self._worlds.place)
        )
        for share, colour in zip((walls, *dots), ((0, 0, 0), (0.9, 0.55, 0), (0, 0.35, 0.8)), strict=True):
            picture = torch.lerp(picture, picture.new_tensor(colour)[:, None, None], share.to(picture))
        return (255 * picture).round().byte().permute(1, 2, 0).numpy()


def _array(tensor: Tensor) -> np.ndarray:
    return tensor[0].float().cpu().numpy().copy()


def _arrays(info: Info) -> Info:
    cost, steps = info["cost"].item(), info["steps"].item()
    return {name: _array(info[name]) for name in ("place", "goal", "goal_image")} | {"cost": cost, "steps": steps}
