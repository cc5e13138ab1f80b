"""A state costs what its formula says; models and policies learn what they are shown; uncertainty is a variance."""

import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from ebm_lib.latent.variational.gaussian import gaussian_kl
from ebm_lib.world import driving
from ebm_lib.world.driving import DrivingPolicy, ForwardModel, Transitions, costs
from ebm_lib.world.driving.cost import TARGET
from ebm_lib.world.driving.model import CARS, OWN
from ebm_lib.world.driving.traffic import DT

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(N=4, cars=15, seed=0, warm=0, dtype=F64):
    g = seeded(seed)
    cars = driving.draw_traffic(N, cars, generator=g, dtype=dtype)
    for _ in range(warm):
        cars = driving.drive(cars, generator=g)
    return cars


# --- what a state costs ----------------------------------------------------------------------------------------------
def cost_by_hand(own, cars):
    y, v, _ = own
    near = sum(
        p * max(0, 1 - max(0, abs(dx) - 5) / (1 + 1.5 * max(v, 0))) * max(0, 1 - max(0, abs(dy) - 2) / 2)
        for dx, dy, _, _, p in cars
    )
    offset = min((y - middle for middle in (-4, 0, 4)), key=abs)
    return near, (offset / 2) ** 2, max(0, abs(y) - 4) ** 2, ((v - TARGET) / 10) ** 2


def test_the_cost_is_its_formula():
    rng = np.random.default_rng(1)
    for _ in range(50):
        own = rng.uniform([-7, 0, -0.2], [7, 35, 0.2])
        cars = rng.uniform([-40, -8, -9, -2, 0], [40, 8, 9, 2, 1], size=(6, 5))
        cars[:, 4] = cars[:, 4].round()
        found = costs(torch.tensor(own), torch.tensor(cars))
        assert [part.item() for part in found] == pytest.approx(list(cost_by_hand(own, cars)))
        near, lane, edge, pace = (part.item() for part in found)
        assert found.total.item() == pytest.approx(near + 0.2 * lane + edge + 0.2 * pace)


def test_the_cost_has_its_slopes():
    own, cars = torch.tensor([0.7, 21.0, 0.01], dtype=F64), torch.tensor([[12.0, 2.7, -1.0, 0.0, 1.0]], dtype=F64)
    assert gradcheck(lambda o, c: costs(o, c).total, (own.requires_grad_(), cars.requires_grad_()))


# --- the model -------------------------------------------------------------------------------------------------------
def some_steps(n=12, seed=0):
    step, _ = driving.record(drawn(n, warm=20, seed=seed), 1, generator=seeded(seed))
    return step


def test_a_record_is_what_the_traffic_does():
    """No noise, the same draws: car 0 drives as the actions say, and the others are followed."""
    road = drawn(3, warm=40)
    step, after = driving.record(road, 5, noise=(0.0, 0.0), generator=seeded(4))
    assert step.own.shape == (15, 3)
    assert step.cars_next.shape == (15, 6, 5)
    own = step.own.clone()
    for _ in range(driving.HOLD):  # the formula of a car, on all records at once
        slip = (step.action[:, 1].tan() / 2).atan()
        own = torch.stack(
            [
                own[:, 0] + DT * own[:, 1] * (own[:, 2] + slip).sin(),
                (own[:, 1] + DT * step.action[:, 0]).clamp(min=0),
                own[:, 2] + DT * own[:, 1] * slip.sin() / 2.5,
            ],
            -1,
        )
    torch.testing.assert_close(own, step.own_next)
    torch.testing.assert_close(step.own[3:], step.own_next[:-3])
    torch.testing.assert_close(step.own_next[-3:], driving.neighbourhood(after).own)


def test_a_record_follows_the_same_cars():
    """Nobody is far from where the relative speed takes them: two cars brake and pull at most 8 m/s² each."""
    s, _ = driving.record(drawn(6, warm=40), 15, generator=seeded(4))
    moved = (s.cars_next - s.cars)[..., 0] - driving.HOLD * DT * s.cars[..., 2]
    assert moved[s.stays.bool()].abs().max() < 16 * (driving.HOLD * DT) ** 2


def test_the_recorded_driver_errs_as_much_as_is_asked_for_and_for_a_while(monkeypatch):
    monkeypatch.setattr("ebm_lib.world.driving.trips.controls", lambda cars: torch.zeros(*cars.x.shape, 2, dtype=F64))
    s, _ = driving.record(drawn(150, 7), 30, noise=(0.5, 0.001), generator=seeded(4))
    error = s.action.view(30, 150, 2)[15:] / torch.tensor([0.5, 0.001])
    assert (error.std((0, 1)) - 1).abs().max() < 0.1
    assert ((error[1:] * error[:-1]).mean((0, 1)) - 0.8).abs().max() < 0.1


@pytest.mark.parametrize("L", [0, 2])
def test_cars_are_a_set(L):
    model = ForwardModel(L, generator=seeded(1), dtype=F64)
    driver = DrivingPolicy(generator=seeded(2), dtype=F64)
    s = some_steps()
    z = torch.randn(12, 6, L, generator=seeded(3), dtype=F64)
    order = torch.randperm(6, generator=seeded(5))
    own, cars = model(s.own, s.cars, s.action, z)
    own2, cars2 = model(s.own, s.cars[:, order], s.action, z[:, order])
    torch.testing.assert_close(own, own2)
    torch.testing.assert_close(cars[:, order], cars2)
    torch.testing.assert_close(driver(s.own, s.cars), driver(s.own, s.cars[:, order]))
    # who is not there changes nothing
    more = torch.cat([s.cars, torch.zeros(12, 2, 5, dtype=F64)], 1)
    z = torch.cat([z, torch.ones(12, 2, L, dtype=F64)], 1)
    own2, cars2 = model(s.own, more, s.action, z)
    torch.testing.assert_close(cars2[:, :6], cars)
    assert (cars2[:, 6:] == 0).all()
    torch.testing.assert_close(driver(s.own, more), driver(s.own, s.cars))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_objective_is_the_bound_of_who_is_kept_and_the_energy_at_0_of_who_is_dropped(share):
    model = ForwardModel(2, beta=5.0, latent_drop=share, drop=0.0, generator=seeded(1), dtype=F64)
    s = some_steps()
    found = model.objective(s, seeded(7))
    noise = torch.randn(12, 6, 2, generator=seeded(7), dtype=F64)
    mean, std = model.encode(s)
    there = s.cars[..., 4] * s.cars_next[..., 4]
    bound = model.energy(s, mean + std * noise) + (gaussian_kl(mean, std) * there).sum(-1) / 5
    alone = model.energy(s)
    assert (bound != alone).all()
    kept = found == bound
    torch.testing.assert_close(found, torch.where(kept, bound, alone))
    assert kept.all() if share == 0 else not kept.any() if share == 1 else 0 < kept.sum() < 12


def test_the_energy_is_the_squared_error_in_usual_changes_of_who_is_still_there():
    model = ForwardModel(2, drop=0.0, latent_drop=0.0, generator=seeded(1), dtype=F64)
    s = some_steps()
    model.own_unit.copy_(torch.tensor([2.0, 3.0, 5.0]))
    model.cars_unit.copy_(torch.tensor([2.0, 3.0, 5.0, 7.0]))
    s.cars_next[::2, 4] = 0  # out of sight
    own, cars = model(s.own, s.cars, s.action)
    expected = sum((own[:, j] - s.own_next[:, j]) ** 2 / unit**2 for j, unit in enumerate((2, 3, 5)))
    for j, unit in enumerate((2, 3, 5, 7)):
        wrong = (cars[..., j] - s.cars_next[..., j]) ** 2 / unit**2
        wrong[::2, 4] = 0
        expected = expected + wrong.sum(-1)
    torch.testing.assert_close(model.energy(s), expected)
    before = model.objective(s, seeded(7))
    s.cars_next[::2, 4, :4] = 9.0
    torch.testing.assert_close(model.objective(s, seeded(7)), before)


def test_without_drop_out_nothing_is_doubted():
    s = some_steps()
    z = torch.zeros(12, 6, 2, dtype=F64)
    sure = ForwardModel(2, drop=0.0, generator=seeded(1), dtype=F64)
    assert driving.uncertainty(sure, s.own, s.cars, s.action, z, masks=3, generator=seeded(0)).abs().max() < 1e-20
    unsure = ForwardModel(2, drop=0.2, generator=seeded(1), dtype=F64)
    U = driving.uncertainty(unsure, s.own, s.cars, s.action, z, masks=3, generator=seeded(0))
    assert U.shape == (12,)
    assert (U > 0).all()


def test_doubt_is_the_variance_over_masks():
    """Each mask is one network, the same for all states: a state's doubt does not depend on its company."""
    s, M = some_steps(), 4
    model = ForwardModel(0, drop=0.3, generator=seeded(1), dtype=F64)
    z = torch.zeros(12, 6, 0, dtype=F64)
    found = driving.uncertainty(model, s.own, s.cars, s.action, z, masks=M, generator=seeded(5))
    copies = (part[0].expand(M, *part.shape[1:]) for part in (s.own, s.cars, s.action))
    own, cars = model(*copies, drop=0.3, each=1, generator=seeded(5))
    expected = costs(own, cars).total.var(0)
    for j, unit in enumerate(OWN):
        expected = expected + (own[..., j] / unit).var(0)
    for j, unit in enumerate(CARS):
        expected = expected + (cars[..., j] / unit).var(0).mean(-1)
    torch.testing.assert_close(found[0], expected)
    one = driving.uncertainty(model, s.own[5:6], s.cars[5:6], s.action[5:6], z[5:6], masks=M, generator=seeded(5))
    torch.testing.assert_close(one[0], found[5])


def test_what_is_dropped_is_made_up_for():
    net = driving.DropoutMLP((3, 50, 2), generator=seeded(0), dtype=F64)
    x = torch.randn(1, 3, generator=seeded(1), dtype=F64).expand(20_000, 3)
    for each in (None, 1):
        assert torch.equal(net(x, 0.0, each), net(x))
        differs = net(x, 0.25, each, seeded(2)) - net(x)
        assert (differs.mean(0).abs() < 5 * differs.std(0) / math.sqrt(20_000)).all()
        assert (differs.std(0) > 0.01).all()
    half = driving.DropoutMLP((1, 6, 6), generator=seeded(0), dtype=F64)
    same = half(torch.ones(9, 1, dtype=F64), 0.5, 0, seeded(3))
    assert (same - same[0]).abs().max() < 1e-12
    assert (half(torch.ones(9, 1, dtype=F64), 0.5, 1, seeded(3)) - same).abs().max() > 1e-3


def test_what_is_imagined_is_the_model_applied_again_and_again():
    model = ForwardModel(1, generator=seeded(1), dtype=F64)
    driver = DrivingPolicy(generator=seeded(2), dtype=F64)
    s = some_steps()
    z = torch.randn(3, 12, 6, 1, generator=seeded(3), dtype=F64)
    film = driving.imagine(model, driver, s.own, s.cars, z)
    own, cars = s.own, s.cars
    for t in range(3):
        action = driver(own, cars)
        own, cars = model(own, cars, action, z[t])
        for part, whole in zip((own, cars, action), film, strict=True):
            torch.testing.assert_close(part, whole[t])


def test_a_model_learns_how_its_own_car_moves():
    s, _ = driving.record(drawn(60, warm=30, dtype=torch.float32), 20, generator=seeded(1))
    held, _ = driving.record(drawn(60, warm=30, seed=8, dtype=torch.float32), 1, generator=seeded(2))
    model = ForwardModel(0, hidden=32, generator=seeded(3))
    model.learn(s, steps=300, generator=seeded(4))
    own, _ = model(held.own, held.cars, held.action)
    share = (own - held.own_next).square().mean(0) / (held.own_next - held.own).var(0)
    assert (share < 0.05).all()
    torch.testing.assert_close(model.own_unit, (s.own_next - s.own).std(0))
    there = (s.cars[..., 4] * s.cars_next[..., 4]).bool()
    torch.testing.assert_close(model.cars_unit, (s.cars_next - s.cars)[there][:, :4].square().mean(0).sqrt())


def test_a_policy_learns_to_pay_less_and_leaves_the_model_alone():
    """Through a model that is right about its own car, and all alone on the road, it learns the pace."""
    s = Transitions(*(part.float() for part in some_steps(64)))
    s = s._replace(cars=torch.zeros_like(s.cars), cars_next=torch.zeros_like(s.cars))
    model = ForwardModel(0, hidden=16, generator=seeded(3))
    model.own = Exact()
    before = [p.clone() for p in model.parameters()]
    driver = DrivingPolicy(hidden=16, generator=seeded(5))

    def paid():
        film = driving.imagine(model, driver, s.own, s.cars, torch.zeros(5, 64, 6, 0))
        return costs(film.own, film.cars).total.mean().item()

    first = paid()
    driver.learn(model, s, horizon=5, steps=100, uncertainty_weight=0.01, masks=2, generator=seeded(6))
    assert paid() < 0.5 * first
    assert all(torch.equal(a, b) and b.requires_grad for a, b in zip(before, model.parameters(), strict=True))


class Exact(torch.nn.Module):
    """How a car moves in 0.4 s, in small angles, from and to the networks' units."""

    def forward(self, x, drop=0.0, each=None, generator=None):
        _, v, h, pull, turn = x.unbind(-1)
        v, h, turn = 20 + 10 * v, 0.1 * h, 0.03 * turn
        return torch.stack([0.4 * v * (h + turn / 2), 0.4 * 2 * pull, 0.4 * v * turn / 5], -1)


def test_a_clone_does_what_was_done():
    """What was done is a law of what was seen: keep the pace of the others, steer to the middle."""
    s = Transitions(*(part.float() for part in some_steps(200)))
    pull = 0.5 * (20 - s.own[:, 1]) + 0.1 * s.cars[..., 2].sum(-1)
    s = s._replace(action=torch.stack([pull, -0.01 * s.own[:, 0]], -1))
    driver = DrivingPolicy(hidden=32, generator=seeded(3))
    history = driver.clone(s, steps=400, lr=5e-3, generator=seeded(4))
    assert history.loss[-1] < history.loss[0]
    wrong = (driver(s.own, s.cars) - s.action).square().mean(0)
    assert (wrong < 0.1 * s.action.var(0)).all()


# --- against independent computations --------------------------------------------------------------------------------
def by_hand(s):
    """What the networks see: 4 m, 10 m/s from 20, 0.1; 30 m, 4 m, 5 m/s, 1 m/s, there; 2 m/s², 0.03."""
    own = torch.stack([s.own[..., 0] / 4, (s.own[..., 1] - 20) / 10, s.own[..., 2] / 0.1], -1)
    mine = torch.cat([own, s.action / torch.tensor([2, 0.03], dtype=F64)], -1)
    cars = s.cars / torch.tensor([30, 4, 5, 1, 1], dtype=F64)
    return own, mine, cars, torch.cat([mine[:, None].expand(-1, 6, 5), cars], -1)


def test_model_encoder_and_policy_are_their_formulas():
    s, driver = some_steps(), DrivingPolicy(generator=seeded(2), dtype=F64)
    model = ForwardModel(2, generator=seeded(1), dtype=F64)
    model.own_unit.copy_(torch.tensor([2.0, 3.0, 5.0]))
    units = torch.tensor([2.0, 3.0, 5.0, 7.0], dtype=F64)
    model.cars_unit.copy_(units)
    own, mine, cars, seen = by_hand(s)
    there = s.cars[..., 4:]
    mean, log_var = model.encoder(torch.cat([seen, (s.cars_next - s.cars)[..., :4] / units], -1)).chunk(2, -1)
    torch.testing.assert_close(model.encode(s), (mean, log_var.exp().sqrt()))
    h = model.predictor(seen)
    z = torch.randn(12, 6, 2, generator=seeded(3), dtype=F64)
    change = model.decoder(torch.cat([h, (h * there).sum(1, keepdim=True).expand(h.shape), z], -1)) * units
    after, others = model(s.own, s.cars, s.action, z)
    torch.testing.assert_close(after, s.own + model.own(mine) * torch.tensor([2, 3, 5]))
    torch.testing.assert_close(others, torch.cat([(s.cars[..., :4] + change) * there, there], -1))
    looks = (driver.look(torch.cat([own[:, None].expand(-1, 6, 3), cars], -1)) * there).sum(1)
    acted = torch.tanh(driver.head(torch.cat([own, looks], -1))) * torch.tensor([6, 0.1], dtype=F64)
    torch.testing.assert_close(driver(s.own, s.cars), acted)
    far = driver(1e4 * s.own, 1e4 * s.cars).abs()
    assert (far <= torch.tensor([6, 0.1])).all()


def test_in_learning_units_are_dropped():
    model, s = ForwardModel(2, beta=5.0, latent_drop=0.0, drop=0.3, generator=seeded(1), dtype=F64), some_steps()
    g = seeded(7)
    mean, std = model.encode(s)
    z = mean + std * torch.randn(12, 6, 2, generator=g, dtype=F64)
    torch.rand(12, generator=g)  # whose z is dropped
    expected = model.energy(s, z, drop=0.3, generator=g) + (gaussian_kl(mean, std) * s.stays).sum(-1) / 5
    torch.testing.assert_close(model.objective(s, seeded(7)), expected)


def test_doubt_is_of_this_latent_and_slopes_pass_through_it():
    s, z = some_steps(), torch.randn(12, 6, 2, generator=seeded(3), dtype=F64)
    model = ForwardModel(2, drop=0.3, generator=seeded(1), dtype=F64)
    given = [part.clone().requires_grad_() for part in (s.own, s.cars, s.action, z)]
    found = driving.uncertainty(model, *given, masks=4, generator=seeded(5))
    own, cars = model(*(part.expand(4, *part.shape) for part in given), drop=0.3, each=1, generator=seeded(5))
    expected = costs(own, cars).total.var(0) + (own / torch.tensor(OWN)).var(0).sum(-1)
    expected = expected + (cars[..., :4] / torch.tensor(CARS)).var(0).sum(-1).mean(-1)
    torch.testing.assert_close(found, expected)
    slopes = [torch.autograd.grad(U.sum(), given) for U in (found, expected)]
    torch.testing.assert_close(*slopes)
    assert all((slope != 0).any() for slope in slopes[0])


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_the_policy_pays_for_the_cost_and_the_doubt_of_the_whole_drive(monkeypatch, weight):
    """Value and slope, by finite differences, of the loss written out step by step."""
    H, s = 3, some_steps()
    model = ForwardModel(2, drop=0.3, generator=seeded(1), dtype=F64)
    driver = DrivingPolicy(generator=seeded(2), dtype=F64)

    def expected():
        g = seeded(6)
        z = torch.randn(H, 12, 6, 2, generator=g, dtype=F64)
        own, cars, paid, doubted = s.own, s.cars, [], []
        masks = g.get_state()
        for t in range(H):
            g.set_state(masks)  # the same networks at each time
            action = driver(own, cars)
            doubted.append(driving.uncertainty(model, own, cars, action, z[t], masks=5, generator=g).mean())
            own, cars = model(own, cars, action, z[t])
            paid.append(costs(own, cars).total.mean())
        return sum(paid) / H + weight * sum(doubted) / H

    def once(module, loss, data, *rest):
        assert not any(p.requires_grad for p in model.parameters())
        return loss(module, *data)

    monkeypatch.setattr("ebm_lib.world.driving.policy.descend", once)
    found = driver.learn(model, s, horizon=H, uncertainty_weight=weight, masks=5, steps=1, generator=seeded(6))
    torch.testing.assert_close(found["loss"], expected())
    if weight:
        torch.testing.assert_close(found["loss"], found["cost"] + weight * found["uncertainty"])
    bias, eps, ends = driver.head.linears[-1].bias, 1e-6, []
    (slope,) = torch.autograd.grad(found["loss"], bias)
    with torch.no_grad():
        for step in (eps, -2 * eps):
            bias[1] += step
            ends.append(expected().item())
    assert slope[1].item() == pytest.approx((ends[0] - ends[1]) / (2 * eps), rel=1e-5)


def test_learning_a_policy_leaves_no_trace_in_the_model():
    s, model = Transitions(*(part.float() for part in some_steps())), ForwardModel(0, hidden=8, generator=seeded())
    model.own.requires_grad_(False)
    before = [p.requires_grad for p in model.parameters()]
    for train in (True, False):
        model.train(train)
        DrivingPolicy(hidden=8).learn(model, s, horizon=2, steps=2, batch_size=4, generator=seeded(), progress=False)
        assert [p.requires_grad for p in model.parameters()] == before
        assert all(p.grad is None for p in model.parameters())
        assert model.training == train


def test_a_clone_pays_in_units_of_the_actions(monkeypatch):
    s, driver = some_steps(), DrivingPolicy(generator=seeded(2), dtype=F64)
    monkeypatch.setattr("ebm_lib.world.driving.policy.descend", lambda module, loss, data, *rest: loss(module, *data))
    wrong = driver(s.own, s.cars) - s.action
    expected = ((wrong[:, 0] / 2) ** 2 + (wrong[:, 1] / 0.03) ** 2).mean()
    torch.testing.assert_close(driver.clone(s, steps=1, generator=seeded()), expected)


def test_steps_fall_to_zero_and_slopes_are_cut(monkeypatch):
    asked = {}
    monkeypatch.setattr("ebm_lib.world.driving.model.fit", lambda *given, **how: asked.update(how))
    ForwardModel(0, hidden=8).learn(some_steps(), steps=7, lr=0.5, generator=seeded())
    assert asked["clip"] == 1.0
    for _ in range(7):
        asked["optimizer"].step()
        asked["scheduler"].step()
    assert asked["scheduler"].get_last_lr() == [pytest.approx(0, abs=1e-12)]
    assert asked["scheduler"].base_lrs == [0.5]


def weights(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def learned_model(g):
    model = ForwardModel(1, hidden=8, generator=seeded())
    model.learn(Transitions(*(part.float() for part in some_steps())), steps=3, batch_size=6, generator=g)
    return weights(model)


def learned_policy(g):
    s, model = Transitions(*(part.float() for part in some_steps())), ForwardModel(1, hidden=8, generator=seeded())
    driver = DrivingPolicy(hidden=8, generator=seeded())
    driver.learn(model, s, horizon=2, uncertainty_weight=1.0, steps=3, batch_size=6, generator=g)
    return weights(driver)


@pytest.mark.parametrize(
    "call",
    [
        learned_model,
        learned_policy,
        lambda g: driving.record(drawn(3), 5, generator=g)[0].cars_next,
        lambda g: driving.record(drawn(3), 1, generator=g)[0].action,
        lambda g: driving.road_test(None, drawn(20, warm=20), actions=15, generator=g).distance,
    ],
)
def test_draws_are_those_of_the_generator(call):
    state = torch.get_rng_state()
    assert torch.equal(call(seeded(1)), call(seeded(1)))
    assert not torch.equal(call(seeded(1)), call(seeded(2)))
    assert torch.equal(torch.get_rng_state(), state), "the global generator was drawn from"


@pytest.mark.parametrize("seen", [True, False])
def test_who_is_not_seen_in_a_test_is_run_into(seen):
    """We stand; who comes from behind stops, if he sees us, or else now and then is in another lane by chance."""
    x, flat = torch.tensor([[100.0, 0.0]], dtype=F64).expand(20, 2), torch.zeros(20, 2, dtype=F64)
    speed = torch.tensor([0.0, 20.0], dtype=F64).expand(20, 2)
    road = driving.Traffic(x, flat, speed, flat, torch.ones(20, 2, dtype=torch.long), flat + 20, 1000.0)
    stand = lambda own, cars: torch.zeros(20, 2, dtype=F64)
    end = driving.road_test(stand, road, actions=30, K=1, seen=seen, generator=seeded(0))
    assert end.crashed.any().item() is not seen


def test_going_backwards_nobody_is_nearer_than_at_rest():
    cars = torch.tensor([[5.5, 0.0, 0.0, 0.0, 1.0]], dtype=F64)
    back, rest = (costs(torch.tensor([0.0, v, 0.0], dtype=F64), cars).proximity for v in (-3.0, 0.0))
    assert back.item() == rest.item() == pytest.approx(0.5)


@pytest.mark.parametrize("case", ["nobody there", "one sample", "nothing across"])
def test_what_never_changes_has_the_unit_1(case):
    drawn = torch.randn(4, 6, 5, generator=seeded(1))
    cars, own = torch.ones(4, 6, 5), torch.randn(4, 3, generator=seeded(2))
    after = (cars + drawn * torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0])).requires_grad_()
    s = Transitions(own, cars, torch.zeros(4, 2), 2 * own, after)
    if case == "nobody there":
        s = s._replace(cars=0 * cars, cars_next=0 * cars)
    n = 1 if case == "one sample" else 4
    model = ForwardModel(0, hidden=8, generator=seeded())
    model.learn(Transitions(*(part[:n] for part in s)), steps=1, batch_size=n, generator=seeded())
    assert model.cars_unit[1] == 1
    assert not model.cars_unit.requires_grad
    assert (model.own_unit == 1).all() == (n == 1)


def learned(**how):
    return DrivingPolicy().learn(ForwardModel(0), some_steps(), steps=1, generator=seeded(), **how)


def uncertainty_of(masks):
    return driving.uncertainty(ForwardModel(0), *some_steps()[:3], torch.zeros(12, 6, 0), masks=masks)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: costs(torch.zeros(2), torch.zeros(6, 5)), "own must be"),
        (lambda: DrivingPolicy()(torch.zeros(3), torch.zeros(5)), "own must be"),
        (
            lambda: learned(horizon=0),
            "horizon must",
        ),
        (
            lambda: learned(uncertainty_weight=-1.0),
            "uncert",
        ),
        (
            lambda: uncertainty_of(masks=1),
            "masks must be",
        ),
        (lambda: ForwardModel(-1), "L must be"),
        (lambda: ForwardModel(1, drop=1.0), "drop must be"),
        (lambda: ForwardModel(1, latent_drop=1.5), "latent_drop must be"),
        (lambda: ForwardModel(1, beta=0.0), "beta must be"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu():
    model = ForwardModel(2, generator=seeded(1), device="cuda")
    s = Transitions(*(part.float().cuda() for part in some_steps()))
    own, cars = model(s.own, s.cars, s.action)
    assert own.device.type == cars.device.type == "cuda"
