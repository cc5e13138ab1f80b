"""The environments keep gymnasium's contract, and their worlds are those of the library's own functions."""

import warnings
from functools import partial

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import RecordEpisodeStatistics, TimeLimit

from ebm_lib.world import episodes, mazes, rooms
from ebm_lib.world.environments import RoomsEnv, TwoRooms
from ebm_lib.world.rooms import REACH

VARIED = partial(rooms.draw_layouts, wall=(0.3, 0.7), door=(0.2, 0.8))
NINE = partial(mazes.draw_mazes, rows=3, columns=3)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def close(N, gap=0.1, **arguments):
    """Worlds with start and goal a little apart in the left room."""
    worlds = TwoRooms(N, **arguments)
    start = torch.full((N, 2), 0.2)
    return worlds, {"start": start, "goal": start + torch.tensor([gap, 0.0])}


# --- one world ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("draw", [rooms.draw_layouts, VARIED, NINE])
def test_gymnasiums_checker_finds_nothing(draw):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*not having a spec.*")
        check_env(RoomsEnv(render_mode="rgb_array", draw=draw))
    gymnasium.register("Rooms-under-test", entry_point=partial(RoomsEnv, draw=draw))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_env(gymnasium.make("Rooms-under-test", render_mode="rgb_array").unwrapped)
    finally:
        del gymnasium.registry["Rooms-under-test"]


def test_one_world_is_a_world_of_the_many_with_arrays():
    layout = VARIED(1, generator=seeded())
    start, goal = torch.tensor([0.1, 0.2]), torch.tensor([0.9, 0.4])
    one, many = RoomsEnv(size=20), TwoRooms(1, size=20)
    given = {"start": start, "goal": goal}
    seen, info = one.reset(options={"layout": layout.at(0), **given})
    seen_too, info_too = many.reset(options={"layout": layout, "start": start[None], "goal": goal[None]})
    noise = seeded(1)
    for _ in range(30):
        assert seen.dtype == np.float32
        np.testing.assert_array_equal(seen, seen_too[0].numpy())
        assert info["cost"] == info_too["cost"].item()
        for name in ("place", "goal", "goal_image"):
            np.testing.assert_array_equal(info[name], info_too[name][0].numpy())
        action = REACH * torch.randn(2, generator=noise)
        seen, reward, terminated, truncated, info = one.step(action.numpy())
        seen_too, reward_too, terminated_too, truncated_too, info_too = many.step(action[None])
        assert (reward, terminated, truncated) == (reward_too.item(), terminated_too.item(), truncated_too.item())
        assert isinstance(reward, float)
        assert isinstance(terminated, bool)


def test_gymnasiums_own_wrappers_and_vectors_work_on_it():
    world = RecordEpisodeStatistics(TimeLimit(RoomsEnv(), max_episode_steps=5))
    world.reset(seed=0)
    for _ in range(5):
        *_, truncated, info = world.step(world.action_space.sample())
    assert truncated
    assert info["episode"]["l"] == 5
    several = SyncVectorEnv([lambda: RoomsEnv(draw=VARIED)] * 3)
    observation, _ = several.reset(seed=[1, 2, 3])
    assert observation.shape == (3, 2, 28, 28)
    observation, reward, *_ = several.step(several.action_space.sample())
    assert (reward < 0).all()


def test_the_picture_shows_dot_goal_and_walls_where_they_are():
    world = RoomsEnv(render_mode="rgb_array", size=25)
    world.reset(options={"start": [0.2, 0.7], "goal": [0.8, 0.3]})
    picture = world.render()
    assert picture.shape == (200, 200, 3)
    assert picture.dtype == np.uint8
    colour = lambda x, y: tuple(int(part) for part in picture[int(200 * y), int(200 * x)])
    assert colour(0.5, 0.1) == (0, 0, 0)
    assert colour(0.5, 0.5) == colour(0.35, 0.05) == (255, 255, 255)
    dot, goal = colour(0.2, 0.7), colour(0.8, 0.3)
    assert dot[2] > 150 > dot[0]
    assert goal[0] > 200 > 100 > goal[2]
    assert TwoRooms(1).render_mode is None
    with pytest.warns(UserWarning, match="without a render_mode"):
        assert RoomsEnv().render() is None


# --- many worlds ----------------------------------------------------------------------------------------------------
def test_a_step_is_a_move_and_a_reward_is_minus_the_distance():
    worlds = TwoRooms(40, draw=VARIED, distance=0.5)
    assert worlds.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    observation, info = worlds.reset(seed=3)
    assert observation.shape == worlds.observation_space.shape
    layout, goal, noise = info["layout"], info["goal"], seeded()
    rooms_of = [episodes.room_of(info[name], layout) for name in ("place", "goal")]
    assert (rooms_of[0] != rooms_of[1]).all()
    assert (info["place"] - goal).norm(dim=-1).min() >= 0.5
    for _ in range(20):
        action = REACH * torch.randn(40, 2, generator=noise)
        expected = rooms.move(info["place"], action, layout)
        observation, reward, terminated, truncated, info = worlds.step(action)
        going = ~terminated
        assert torch.equal(info["place"][going], expected[going])
        torch.testing.assert_close(reward, -(info["place"] - goal).norm(dim=-1))
        assert torch.equal(observation, rooms.render(info["place"], layout))
        assert torch.equal(info["goal_image"], rooms.render(goal, layout))
        assert not truncated.any()
    assert torch.equal(info["goal"], goal)


def test_a_seed_decides_all_that_follows_and_worlds_differ():
    def story(seed, worlds):
        _, first = worlds.reset(seed=seed)
        worlds.step(torch.zeros(6, 2))
        _, second = worlds.reset()
        return torch.cat(
            [first["place"], first["goal"], second["place"], first["layout"].walls.flatten(1).repeat(1, 1)], 1
        )

    same = TwoRooms(6, draw=VARIED)
    assert torch.equal(story(5, same), story(5, TwoRooms(6, draw=VARIED)))
    assert torch.equal(story(5, same), story(5, same))
    assert not torch.equal(story(5, same), story(6, same))
    both = story(5, same)
    assert not torch.equal(both[:, :2], both[:, 4:6])  # the second episode is another
    assert len(both.unique(dim=0)) == 6
    torch.manual_seed(0)
    before = torch.get_rng_state()
    same.reset(seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_it_terminates_at_the_goal_and_is_truncated_at_the_end_of_the_budget_and_then_stands_still():
    worlds, options = close(3, budget=4, radius=0.035)
    worlds.reset(options=options)
    step = torch.tensor([[0.03, 0.0], [0.01, 0.0], [0.0175, 0.0]])
    flags = []
    for _ in range(6):
        _, reward, terminated, truncated, info = worlds.step(step)
        flags.append((terminated.tolist(), truncated.tolist(), [part == 0 for part in reward.tolist()]))
    none = [False] * 3
    assert flags[1] == (none, none, none)
    assert flags[2] == ([True, False, False], none, none)  # 0.2 + 0.09 is within 0.035 of 0.3
    assert flags[3] == ([True, False, True], [False, True, False], [True, False, False])
    assert flags[4] == flags[5] == ([True, False, True], [False, True, False], [True, True, True])
    torch.testing.assert_close(info["place"][:, 0], torch.tensor([0.29, 0.24, 0.27]))
    assert info["steps"].tolist() == [3, 4, 4]


def test_some_worlds_begin_anew_and_the_others_go_on():
    worlds = TwoRooms(5, draw=VARIED)
    worlds.reset(seed=0)
    _, _, _, _, before = worlds.step(torch.full((5, 2), 0.02))
    mask = torch.tensor([True, False, False, True, False])
    seen, after = worlds.reset(options={"reset_mask": mask})
    for name in ("place", "goal", "goal_image", "steps"):
        assert torch.equal(after[name][~mask], before[name][~mask])
    assert torch.equal(after["layout"].walls[~mask], before["layout"].walls[~mask])
    assert (after["layout"].walls[mask] != before["layout"].walls[mask]).any((-1, -2)).all()
    assert after["steps"].tolist() == [0, 1, 1, 0, 1]
    assert torch.equal(seen, rooms.render(after["place"], after["layout"]))
    _, _, _, _, later = worlds.step(torch.zeros(5, 2))
    assert later["steps"].tolist() == [1, 2, 2, 1, 2]
    worlds.ended[:] = True
    _, again = worlds.reset(options={"reset_mask": mask.numpy()})
    assert worlds.ended.tolist() == (~mask).tolist()
    assert torch.equal(again["place"][~mask], later["place"][~mask])


def test_what_is_given_out_is_not_what_is_kept():
    worlds = TwoRooms(2)
    _, info = worlds.reset(seed=0)
    kept = info["place"].clone()
    info["place"] += 0.5
    info["goal"] += 0.5
    _, _, _, _, info = worlds.step(torch.zeros(2, 2))
    assert torch.equal(info["place"], kept)
    assert info["goal"].max() < 1


def test_mazes_and_double_precision_are_worlds_too():
    worlds = TwoRooms(4, draw=partial(NINE, dtype=torch.float64), distance=0.2, radius=0.04)
    observation, info = worlds.reset(seed=1)
    assert observation.dtype == info["place"].dtype == torch.float64
    observation, reward, *_ = worlds.step(torch.full((4, 2), 0.1))  # float32 actions are taken
    assert reward.dtype == torch.float64
    assert info["layout"].doors.shape == (4, 3, 3, 2)


def test_bad_input_is_refused():
    worlds, options = close(2)
    with pytest.raises(ValueError, match="reset must come before"):
        worlds.step(torch.zeros(2, 2))
    with pytest.raises(ValueError, match="reset_mask must be all True at the first"):
        worlds.reset(options={"reset_mask": torch.tensor([True, False])})
    worlds.reset(options=options)
    inside = torch.tensor([[0.2, 0.2], [0.5, 0.1]])
    refused = [
        (lambda: worlds.reset(options={"goals": inside}), "option must be one of goal, layout, reset_mask, start"),
        (lambda: worlds.reset(options={"goal": inside}), "goal must be"),
        (lambda: worlds.reset(options={"start": inside[:1]}), "start must be"),
        (lambda: worlds.reset(options={"layout": rooms.draw_layouts(3)}), "layout must be"),
        (lambda: worlds.reset(options={"reset_mask": torch.ones(2)}), "reset_mask must be"),
        (lambda: worlds.step(torch.zeros(3, 2)), "actions must be"),
        (lambda: worlds.step(torch.full((2, 2), torch.nan)), "action must be finite"),
        (lambda: TwoRooms(0), "num_envs must be"),
        (lambda: TwoRooms(1, distance=0.01), "distance must be"),
        (lambda: TwoRooms(1, distance=2.0), "distance must be"),
        (lambda: TwoRooms(1, budget=0), "budget must be"),
        (lambda: TwoRooms(1, radius=0.0), "radius must be"),
        (lambda: RoomsEnv(render_mode="human"), "render_mode must be one of rgb_array"),
        (lambda: RoomsEnv(render_mode="rgb_array").render(), "reset must come before"),
        (lambda: RoomsEnv().reset(options={"reset_mask": True}), "option must be one of goal, layout, start"),
    ]
    for call, message in refused:
        with pytest.raises(ValueError, match=message):
            call()
