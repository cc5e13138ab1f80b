"""Traffic keeps its distance, meets nobody unnoticed, and is a function of its seed."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_lib.world import driving
from ebm_lib.world.driving import Traffic
from ebm_lib.world.driving.traffic import DT, LONG, WIDE
from ebm_lib.world.driving.trips import SIGHT

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(N=4, cars=15, seed=0, warm=0, dtype=F64):
    g = seeded(seed)
    cars = driving.draw_traffic(N, cars, generator=g, dtype=dtype)
    for _ in range(warm):
        cars = driving.drive(cars, generator=g)
    return cars


def made(x, y, speed, heading=0.0, ring=1000.0, desired=25.0, goal=None):
    """Traffic from numbers."""
    x = torch.as_tensor(x, dtype=F64)
    y, speed, heading, desired = (
        torch.as_tensor(part, dtype=F64).expand(x.shape) for part in (y, speed, heading, desired)
    )
    return Traffic(x, y, speed, heading, driving.lane_of(y) if goal is None else torch.tensor(goal), desired, ring)


def at(cars, index):
    """Some of the worlds."""
    return Traffic(*(part[index] for part in cars[:-1]), cars.ring)


# --- following -------------------------------------------------------------------------------------------------------
@given(st.floats(0.0, 24.9), st.floats(25.0, 40.0))
def test_nobody_accelerates_at_the_equilibrium_gap(speed, desired):
    v, v0 = torch.tensor(speed, dtype=F64), torch.tensor(desired, dtype=F64)
    gap = driving.equilibrium_gap(v, v0)
    assert driving.idm(v, gap, torch.zeros((), dtype=F64), v0).abs() < 1e-9
    assert gap == pytest.approx((2 + 1.2 * speed) / math.sqrt(1 - (speed / desired) ** 4))


@pytest.mark.parametrize("cars", [5, 10])
def test_a_lane_of_equal_cars_settles_at_the_closed_form(cars):
    ring = 300.0
    x = torch.arange(cars, dtype=F64) * ring / cars + torch.linspace(0, 3, cars, dtype=F64)
    road = made(x, 0.0, 10.0, ring=ring, desired=30.0)
    for _ in range(5000):
        road = driving.step(road, driving.controls(road))
    gap = ring / cars - LONG
    ahead = (road.x.roll(-1) - road.x) % ring - LONG
    assert (ahead - gap).abs().max() < 0.05
    assert (driving.equilibrium_gap(road.speed, road.desired) - gap).abs().max() < 0.05
    assert (road.y == 0).all()


def test_idm_alone_ends_at_the_desired_speed_and_brakes_no_harder_than_it_can():
    v = torch.tensor(25.0, dtype=F64)
    assert driving.idm(v, torch.tensor(math.inf), torch.tensor(0.0), v) == 0
    for gap in (0.01, 0.0, -3.0):
        assert driving.idm(v, torch.tensor(gap), torch.tensor(9.0), v) == -8.0
    # s* = 2 + 20·1.2 + 20·5/(2√3), by hand
    wish = 26 + 100 / (2 * math.sqrt(3))
    expected = 1.5 * (1 - (20 / 25) ** 4 - (wish / 60) ** 2)
    found = driving.idm(torch.tensor(20.0), torch.tensor(60.0), torch.tensor(5.0), torch.tensor(25.0))
    assert found.item() == pytest.approx(expected, rel=1e-5)


# --- moving ----------------------------------------------------------------------------------------------------------
def test_a_car_moves_as_the_formula_says():
    rng = np.random.default_rng(0)
    for _ in range(50):
        y, v, h, pull, turn = rng.uniform([-5, 0, -0.3, -6, -0.4], [5, 40, 0.3, 6, 0.4])
        after = driving.step(made([10.0], y, v, h), torch.tensor([[pull, turn]], dtype=F64))
        slip = math.atan(math.tan(turn) / 2)
        assert after.x.item() == pytest.approx(10 + DT * v * math.cos(h + slip))
        assert after.y.item() == pytest.approx(y + DT * v * math.sin(h + slip))
        assert after.heading.item() == pytest.approx(h + DT * v * math.sin(slip) / (LONG / 2))
        assert after.speed.item() == pytest.approx(max(0, v + DT * pull))


def test_steering_held_drives_a_circle():
    turn, v = 0.3, 5.0
    road = made([500.0], 0.0, v)
    rate = v * math.sin(math.atan(math.tan(turn) / 2)) / 2.5
    for i in range(1, 50):
        road = driving.step(road, torch.tensor([[0.0, turn]], dtype=F64))
        assert road.heading.item() == pytest.approx(i * DT * rate)
        assert road.speed.item() == v


# --- who meets whom --------------------------------------------------------------------------------------------------
vector = st.tuples(st.floats(-30, 30), st.floats(-8, 8))


@settings(max_examples=300)
@given(vector, vector)
def test_no_car_passes_through_another_unnoticed(before, after):
    """A judge that looks at 20,001 moments."""
    t = np.linspace(0, 1, 20001)[:, None]
    way = (1 - t) * np.array(before) + t * np.array(after)
    margin = (np.array([LONG, WIDE]) - np.abs(way)).min(-1).max()  # positive: inside at some moment
    found = driving.meets(torch.tensor(before, dtype=F64), torch.tensor(after, dtype=F64)).item()
    if abs(margin) > 0.01:
        assert found == (margin > 0)


def test_crashes_are_seen_across_the_seam_and_at_any_speed():
    before = made([998.0, 11.0], 0.0, [40.0, 0.0])
    after = before._replace(x=torch.tensor([26.0, 11.0], dtype=F64))
    assert driving.crashes(before, after).tolist() == [[False, True], [True, False]]
    beside = made([998.0, 11.0], [0.0, 4.0], 0.0)
    assert not driving.crashes(beside, beside._replace(x=after.x)).any()
    opposite = made([0.0, 499.9, 250.0], 0.0, 0.0)  # the short way round flips: nobody met anybody
    assert not driving.crashes(opposite, opposite._replace(x=torch.tensor([0.0, 500.1, 250.0], dtype=F64))).any()


def test_drivers_who_see_each_other_do_not_crash_and_stay_on_the_road():
    g = seeded(3)
    road, met, changes = drawn(10, 15, dtype=torch.float32), 0, 0
    for _ in range(300):
        after = driving.drive(road, generator=g)
        met += int(driving.crashes(road, after).sum())
        changes += int((after.goal != road.goal).sum())
        assert not driving.off_road(after).any()
        assert (after.speed >= 0).all()
        assert ((after.goal - road.goal).abs() <= 1).all()
        road = after
    assert met == 0
    assert changes > 50  # and something happens


def test_who_is_not_seen_is_not_heeded():
    ahead = made([30.0, 0.0], 0.0, [0.0, 20.0], ring=200.0)
    assert driving.controls(ahead)[1, 0] < -2
    alone = driving.idm(ahead.speed[1], torch.tensor(math.inf), torch.tensor(0.0), ahead.desired[1])
    assert driving.controls(ahead, seen=False)[1, 0] == alone


def test_a_lane_is_changed_to_get_on_and_not_into_a_car():
    think = torch.zeros(1, 3, 5, dtype=F64)
    think[..., 3] = 1  # nobody wants another speed
    think[..., 1] = 0.9  # to the right
    think[:, 1:, 0] = 1  # only the first thinks of changing
    for blocked in (False, True):
        # a fast one behind a slow one in the left lane; a third in the middle lane, far or beside
        x = [[0.0, 20.0, 2.0 if blocked else 150.0]]
        road = made(x, [[-4.0, -4.0, 0.0]], [[20.0, 10.0, 20.0]], ring=400.0)
        assert driving.decide(road, draws=think).goal[0].tolist() == [0 if blocked else 1, 0, 1]


@pytest.mark.parametrize(
    ("x", "speed", "y", "changes"),
    [
        (600.0, 35.0, -4.0, True),
        (980.0, 35.0, -4.0, False),  # who comes from behind in the middle lane would have to brake
        (35.0, 5.0, -4.0, False),  # so would we, there as here
        (600.0, 35.0, -3.6, True),
        (600.0, 35.0, -3.4, False),  # still changing
    ],
)
def test_a_lane_is_changed_once_settled_and_where_nobody_must_brake(x, speed, y, changes):
    think = torch.zeros(1, 3, 5, dtype=F64)
    think[..., 3], think[..., 1], think[:, 1:, 0] = 1, 0.9, 1
    road = made([[0.0, 20.0, x]], [[y, -4.0, 0.0]], [[20.0, 10.0, speed]], goal=[[0, 0, 1]])
    assert driving.decide(road, draws=think).goal[0, 0] == changes


def test_moods_and_thoughts_come_at_their_rates():
    """A tenth and 1 a second: in a step of 0.2 s, with chances of 0.02 and 0.2."""
    think = torch.full((1, 2, 5), 0.5, dtype=F64)
    for draw, desired in ((0.019, 24.0), (0.021, 25.0)):
        think[..., 3] = draw
        assert driving.decide(made([[0.0, 500.0]], 0.0, 20.0), draws=think).desired.tolist() == [[desired] * 2]
    think[..., 2], think[..., 3], think[..., 1] = 0.0, 1.0, 0.9
    for draw, lane in ((0.19, 2), (0.21, 1)):
        think[..., 0] = draw
        assert driving.decide(made([[0.0, 500.0]], 0.0, 20.0), draws=think).goal.tolist() == [[lane] * 2]


def test_the_road_ends_where_a_side_of_the_car_does():
    road = made([0.0, 9.0, 18.0, 27.0], [4.99, 5.01, -4.99, -5.01], 20.0)
    assert driving.off_road(road).tolist() == [False, True, False, True]


def test_who_is_left_behind_needs_the_least_gap_only():
    found = driving.idm(*(torch.tensor(x, dtype=F64) for x in (20.0, 4.0, -50.0, 25.0)))
    assert found.item() == pytest.approx(1.5 * (1 - 0.8**4 - 0.25))


@pytest.mark.parametrize("gap", [1.9, 2.1])
def test_nobody_squeezes_in_where_cars_stand_close(gap):
    think = torch.zeros(1, 3, 5, dtype=F64)
    think[..., 3], think[..., 1], think[:, 1:, 0] = 1, 0.9, 1
    # in the left lane a car stands ahead; in the middle lane one stands behind, this far
    road = made([[100.0, 105.1, 95.0 - gap]], [[-4.0, -4.0, 0.0]], 0.0)
    assert driving.decide(road, draws=think).goal[0, 0] == (1 if gap > 2 else 0)


def test_both_ends_of_a_change_are_occupied():
    # car 1 is still nearest to the left lane, and on its way to the middle: whoever drives in either heeds it
    road = made([[0.0, 20.0]], [[0.0, -4.0]], [[20.0, 5.0]], goal=[[1, 1]])
    assert driving.controls(road)[0, 0, 0] < -5
    road = made([[0.0, 20.0]], [[-4.0, -4.0]], [[20.0, 5.0]], goal=[[0, 1]])
    assert driving.controls(road)[0, 0, 0] < -5
    # car 0 is on its way to the middle, where car 1 is
    road = made([[0.0, 20.0]], [[-4.0, 0.0]], [[20.0, 5.0]], goal=[[1, 1]])
    assert driving.controls(road)[0, 0, 0] < -5


# --- contract of the traffic -----------------------------------------------------------------------------------------
def test_a_batch_is_a_loop():
    road = drawn(5, warm=30)
    draws = torch.rand(5, 15, 5, generator=seeded(1), dtype=F64)
    together = driving.decide(road, draws=draws)
    moved = driving.step(together, driving.controls(together))
    look = driving.neighbourhood(moved)
    met = driving.crashes(road, moved)
    for i in range(5):
        one = driving.decide(at(road, i), draws=draws[i])
        assert (one.goal == together.goal[i]).all()
        one = driving.step(one, driving.controls(one))
        for part, whole in zip(one[:4], moved[:4], strict=True):
            torch.testing.assert_close(part, whole[i], rtol=1e-12, atol=1e-12)
        for part, whole in zip(driving.neighbourhood(one), look, strict=True):
            torch.testing.assert_close(part, whole[i])
        assert (driving.crashes(at(road, i), one) == met[i]).all()


def test_traffic_starts_apart_and_our_car_in_any_lane():
    road = drawn(100, 17)
    assert not driving.crashes(road, road).any()
    assert set(road.goal[:, 0].tolist()) == {0, 1, 2}
    assert torch.equal(driving.lane_of(road.y), road.goal)
    assert ((road.x >= 0) & (road.x < 250)).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, F64])
def test_places_have_the_dtype_and_its_digits(dtype):
    road = driving.draw_traffic(2, 15, ring=300.0, generator=seeded(), dtype=dtype)
    assert all(part.dtype == dtype for part in (road.x, road.y, road.speed, road.heading, road.desired))
    if dtype == F64:  # rows of 60 m, lanes a third of that apart
        off = (road.x - road.x[:, :1]) % 20
        assert torch.minimum(off, 20 - off).max() < 1e-11


def test_the_seed_is_all_there_is_to_chance():
    first, second, third = drawn(warm=50), drawn(warm=50), drawn(warm=50, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first[:-1], second[:-1], strict=True))
    assert not torch.equal(first.x, third.x)
    assert first.x.dtype == F64
    assert drawn(dtype=torch.float32, warm=1).x.dtype == torch.float32


def test_the_nearest_are_seen_in_order_and_followed():
    road = drawn(6, warm=50)
    look = driving.neighbourhood(road, 6)
    for i in range(6):
        way = [((road.x[i, j] - road.x[i, 0] + 125) % 250 - 125, road.y[i, j] - road.y[i, 0]) for j in range(1, 15)]
        order = sorted(range(14), key=lambda j: math.hypot(*way[j]))[:6]
        assert look.who[i].tolist() == [j + 1 for j in order]
        for row, j in zip(look.cars[i], order, strict=True):
            if abs(way[j][0]) <= SIGHT:
                assert row[:2].tolist() == pytest.approx([float(w) for w in way[j]])
                who = j + 1
                for k, part in ((2, torch.cos), (3, torch.sin)):
                    fast = [road.speed[i, c] * part(road.heading[i, c]) for c in (0, who)]
                    assert row[k].item() == pytest.approx(float(fast[1] - fast[0]))
                assert row[4] == 1
            else:
                assert (row == 0).all()
    later = driving.drive(road, generator=seeded(9))
    assert torch.equal(driving.neighbourhood(later, 6, who=look.who).who, look.who)


def test_traffic_on_a_meta_tensor():
    road = drawn(3)
    meta = Traffic(*(part.to("meta") for part in road[:-1]), road.ring)
    after = driving.step(meta, driving.controls(meta))
    assert driving.neighbourhood(after).cars.shape == (3, 6, 5)
    assert driving.crashes(meta, after).shape == (3, 15, 15)


# --- driving ---------------------------------------------------------------------------------------------------------
def test_a_test_drive_counts_what_happens():
    # world 0: straight into a standing car 100 m ahead; world 1: off the road; world 2: nothing
    x = torch.tensor([[0.0, 100.0], [0.0, 100.0], [0.0, 500.0]], dtype=F64)
    speed = torch.tensor([[20.0, 0.0]] * 3, dtype=F64)
    road = made(x, 0.0, speed, desired=1e-3)
    turn = torch.tensor([0.0, 0.02, 0.0], dtype=F64)
    drives = driving.road_test(
        lambda own, cars: torch.stack([torch.zeros(3, dtype=F64), turn * (own[:, 2] < 0.1)], -1),
        road,
        actions=30,
        K=1,
        generator=seeded(0),
    )
    assert drives.crashed.tolist() == [True, False, False]
    assert drives.off.tolist() == [False, True, False]
    assert drives.seconds[2].item() == pytest.approx(12.0)
    assert drives.distance[2].item() == pytest.approx(240.0)
    assert 95 <= drives.distance[0] < 150  # the other one creeps
    torch.testing.assert_close(drives.distance[[0, 2]], 20 * drives.seconds[[0, 2]])
    assert drives.distance[1] < 100


def test_a_test_drive_sees_who_is_passed_through():
    road = made([[0.0, 100.0]], 0.0, [[90.0, 0.0]], desired=1e-3)  # 18 m a step: 10 m before, 8 m behind
    drives = driving.road_test(lambda own, cars: own.new_zeros(1, 2), road, actions=5, K=1, generator=seeded(0))
    assert drives.crashed.all()
    assert drives.distance.item() == pytest.approx(108)


def test_an_episode_ends_once():
    """Into a standing car and over the road's edge in the same step: a crash."""
    road = made([[0.0, 8.0]], [[4.9, 4.0]], [[45.0, 0.0]], heading=[[0.2, 0.0]], desired=1e-3)
    drives = driving.road_test(lambda own, cars: own.new_zeros(1, 2), road, actions=3, K=1, generator=seeded(0))
    assert (drives.crashed & ~drives.off).all()


def test_who_left_the_road_crashes_no_more():
    road = made([[0.0, 30.0]], [[5.5, 4.0]], [[20.0, 0.0]], desired=1e-3)
    drives = driving.road_test(lambda own, cars: own.new_zeros(1, 2), road, actions=10, K=1, generator=seeded(0))
    assert (drives.off & ~drives.crashed).all()
    assert drives.seconds.item() == pytest.approx(DT)


def test_the_policy_is_shown_the_neighbourhood_and_no_graph_is_kept():
    road, seen = drawn(3, warm=20), []
    weight = torch.zeros((), dtype=F64, requires_grad=True)
    policy = lambda own, cars: seen.append((own, cars)) or own[:, :2] * weight
    drives = driving.road_test(policy, road, actions=1, K=4, generator=seeded(0))
    look = driving.neighbourhood(road, 4)
    assert torch.equal(seen[0][0], look.own)
    assert torch.equal(seen[0][1], look.cars)
    assert not drives.distance.requires_grad


def test_who_is_not_seen_is_not_in_the_way_of_a_change_either():
    road, goals = drawn(200, warm=40), {}
    for seen in (True, False):
        goals[seen] = driving.drive(road, seen=seen, generator=seeded(1)).goal
        assert torch.equal(goals[seen], driving.decide(road, seen=seen, generator=seeded(1)).goal)
    assert not torch.equal(goals[True], goals[False])


def test_the_drivers_of_the_traffic_pass_their_own_test():
    drives = driving.road_test(None, drawn(20, warm=50, dtype=torch.float32), actions=50, generator=seeded(1))
    assert not (drives.crashed | drives.off).any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: driving.draw_traffic(0), "N must be"),
        (lambda: driving.draw_traffic(1, 300), "ring must have"),
        (lambda: driving.step(drawn(2), torch.zeros(2, 14, 2)), "action must be"),
        (lambda: driving.step(drawn(2), torch.full((2, 15, 2), torch.nan)), "action must be finite"),
        (lambda: driving.decide(drawn(2), draws=torch.zeros(2, 15, 4)), "draws must be"),
        (lambda: driving.neighbourhood(drawn(2), 15), "K must be"),
        (lambda: driving.crashes(made([0.0], 0.0, 1.0, ring=15.0), made([1.0], 0.0, 1.0, ring=15.0)), "ring must be"),
        (lambda: driving.road_test(None, drawn(2), actions=0), "actions must be"),
        (lambda: driving.record(drawn(2), 0), "T must be"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
