"""What all public functions and modules promise: dtypes follow, draws are the generator's. A GPU is held to it, too."""

import inspect

import pytest
import torch

from ebm_lib import world as w

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


PLACE, STEP = torch.tensor([[0.2, 0.3], [0.8, 0.6]], dtype=F64), 0.05 * draw(2, 2, seed=1)
WALL, DOOR = torch.tensor([0.5, 0.4], dtype=F64), torch.tensor([0.3, 0.7], dtype=F64)
START, GOAL = torch.zeros(3, 4, 2, dtype=F64), draw(3, 2, seed=2)
COSTS, NEXT = (
    1 + torch.rand(5, 2, generator=seeded(3), dtype=F64),
    torch.tensor([[1, 0], [2, 0], [3, 1], [4, 2], [4, 4]]),
)
SQUARES = torch.eye(2, dtype=F64)


def free(s, a):
    return s + a


def bowl(goal):
    return lambda a: (a.sum(-2) - goal).square().sum(-1)


def near(goal):
    return lambda s: (s - goal).square().sum(-1)


def on(module, like):
    return module.to(like.device, like.dtype)


def contacts(like):
    return on(w.ContactDynamics(2, 2, hidden=(8,), generator=seeded()), like)


def gated(like):
    return on(w.GatedDynamics(2, 2, hidden=(8,), generator=seeded()), like)


def keypoints(like):
    return on(w.Keypoints(2, 3, generator=seeded()), like)


def policy(like):
    return on(w.Policy(2, 2, hidden=(8,), generator=seeded()), like)


def world_model(like):
    parts = keypoints(like), w.ContactDynamics(3, 2, hidden=(8,), generator=seeded())
    return on(w.WorldModel(*parts, 3, 2, generator=seeded()), like)


def everything(rooms):
    """Draw what is in rooms, and where they are."""
    return w.draw_walls(rooms), rooms.walls


def replanned(goal, start):
    agent = w.Replanner(lambda energy, a: w.plan_by_gradient(energy, a, steps=5), w.goal_energy(free, goal, 4), start)
    first = agent.act(0 * goal).detach()
    return first, agent.act(first).detach(), agent.actions.detach()


def mazes(d, g, N=4, dtype=F64):
    return w.draw_mazes(N, 3, 3, generator=g, dtype=dtype, device=d)


def layouts(d, g, N=4):
    return w.draw_layouts(N, wall=(0.3, 0.7), door=(0.2, 0.8), generator=g, dtype=F64, device=d)


def learned(d, g):
    states, actions = draw(3, 12, 2).to(d), draw(3, 11, 2, seed=1).to(d)
    model, store = contacts(states), w.Replay(states, actions, window=3)
    return w.learn_dynamics(model, store, steps=4, batch_size=16, generator=g, progress=False), model, store.errors


def taught(call):
    def run(d, g):
        model = policy(draw(1).to(d))
        return call(model, draw(40, 2).to(d), g), model

    return run


def two_levels(d, g):
    goal = GOAL.to(d)

    def wander(s, n, generator):
        drawn = torch.randn(*s.shape[:-1], n, 2, generator=generator, device=generator.device, dtype=s.dtype)
        return drawn.to(s.device)

    def high(s):
        return w.sample_tree(free, near(goal), s, wander, depth=2, width=2, branches=4, apart=0.1, generator=g)

    low = lambda energy, a: w.plan_by_gradient(energy, a, steps=5)
    agent = w.TwoLevels(high, low, lambda s, sub: w.goal_energy(free, sub, 4)(s), goal, START.to(d), every=2, close=0.1)
    return agent.act(torch.zeros_like(goal)).detach(), agent.subgoal


def errands(place, step, wall, door):
    given = w.Errands(place, place.flip(0))
    return w.run_errands(lambda p, live: given.goal[live] - p, given, w.two_rooms(wall, door), budget=5)


# name, more after a comma: the call and its tensors
PURE = {
    "ContactDynamics": (lambda s, a: contacts(s)(s, a), [PLACE, STEP]),
    "ContactDynamics, share": (lambda s, a: contacts(s).share(s, a), [PLACE, STEP]),
    "GatedDynamics": (lambda s, a: gated(s)(s, a), [PLACE, STEP]),
    "Keypoints": (lambda x: keypoints(x)(x), [draw(3, 2, 12, 12)]),
    "Policy": (lambda s: policy(s)(s), [PLACE]),
    "WorldModel": (lambda x, a: world_model(x).criterion(x, a), [draw(3, 4, 2, 12, 12), draw(3, 3, 2, seed=1)]),
    "Replanner": (replanned, [GOAL, START]),
    "adjoint": (lambda s, a: w.adjoint(free, lambda s, a: a.square().sum(-1), near(1), s, a), [GOAL, START]),
    "advise": (lambda s: w.advise(lambda s: -s / 2, free, s, 3), [GOAL]),
    "backup": (lambda v, c, t: w.backup(v, c, t), [draw(5), COSTS, NEXT]),
    "draw_dot": (lambda p: w.draw_dot(p), [PLACE]),
    "draw_walls": (lambda x, y: everything(w.two_rooms(x, y)), [WALL, DOOR]),
    "effective_sample_size": (lambda e: w.effective_sample_size(w.plan_weights(e, 0.5)), [draw(9, 2)]),
    "goal_energy": (lambda s, g, a: w.goal_energy(free, g, 4)(s)(a), [0 * GOAL, GOAL, draw(6, 3, 4, 2)]),
    "grid_world": (lambda walls: w.grid_world(walls), [torch.tensor([[False, True], [False, False]])]),
    "is_free": (lambda p, x, y: w.is_free(p, w.two_rooms(x, y)), [PLACE, WALL, DOOR]),
    "lqr": (lambda A, B: w.lqr(A, B, B @ B.mT, B @ B.mT, B @ B.mT, 5), [SQUARES, 2 * SQUARES]),
    "move": (lambda p, a, x, y: w.move(p, a, w.two_rooms(x, y)), [PLACE, STEP, WALL, DOOR]),
    "plan_by_gradient": (lambda g, a: w.plan_by_gradient(bowl(g), a, steps=9)[:2], [GOAL, START]),
    "plan_weights": (lambda e: w.plan_weights(e, 0.5), [draw(9, 2)]),
    "propose": (lambda s: w.propose(policy(s), free, s, 3), [PLACE]),
    "render": (lambda p, x, y: w.render(p, w.two_rooms(x, y)), [PLACE, WALL, DOOR]),
    "rollout": (lambda s, a: w.rollout(free, s, a), [GOAL, START]),
    "room_of": (lambda p, x, y: w.room_of(p, w.two_rooms(x, y)), [PLACE, WALL, DOOR]),
    "run_errands": (errands, [PLACE, STEP, WALL, DOOR]),
    "shift": (lambda a: w.shift(a), [draw(3, 4, 2)]),
    "shortest": (lambda p, x, y: w.shortest(p, p.flip(0), w.two_rooms(x, y)), [PLACE, WALL, DOOR]),
    "trajectory_energy": (
        lambda s, a: w.trajectory_energy(free, lambda s, a: a.square().sum(-1), near(1))(s)(a),
        [GOAL, START],
    ),
    "two_rooms": (lambda x, y: w.two_rooms(x, y), [WALL, DOOR]),
    "value_iteration": (lambda c, t: w.value_iteration(c, t, horizon=4), [COSTS, NEXT]),
}
# name: a call with a device and a generator
DRAWING = {
    "Replay": lambda d, g: w.Replay(draw(3, 9, 2).to(d), draw(3, 8, 1).to(d), window=2).draw(20, g),
    "TwoLevels": two_levels,
    "cem": lambda d, g: w.cem(bowl(GOAL.to(d)), START.to(d), spread=0.5, samples=30, elites=5, generator=g),
    "mppi": lambda d, g: w.mppi(bowl(GOAL.to(d)), START.to(d), spread=0.5, samples=30, generator=g),
    "cross_room": lambda d, g: w.cross_room(layouts(d, g), distance=0.3, generator=g),
    "draw_layouts": layouts,
    "draw_mazes": mazes,
    "draw_places": lambda d, g: w.draw_places(layouts(d, g), samples=(3,), generator=g),
    "imitate": taught(lambda model, s, g: w.imitate(model, s, -s, steps=4, batch_size=8, generator=g)),
    "learn_dynamics": learned,
    "learn_through": taught(
        lambda model, s, g: w.learn_through(
            model, free, lambda s: lambda a: (s + a.sum(-2)).square().sum(-1), s, H=2, steps=4, generator=g
        )
    ),
    "look": lambda d, g: w.look(torch.full((4, 2), 0.4, dtype=F64, device=d), w.room_views(mazes(d, g))),
    "room_views": lambda d, g: w.room_views(mazes(d, g), 1),
    "sample_tree": lambda d, g: two_levels(d, g)[1],
    "walks": lambda d, g: w.walks(layouts(d, g), 12, generator=g),
}
ELSEWHERE = {"tree_search"}  # a loop over a queue, on tables; its answer is of numbers
# what other files test wholly
ELSEWHERE |= set("Actor Agent Configurator Cost Critic ResidualMemory ShortTermMemory".split())
ELSEWHERE |= set("discounted learn_critic plan_energy with_goal".split())


def tensors(value):
    if isinstance(value, torch.nn.Module):
        value = list(value.state_dict().values())
    if isinstance(value, tuple | list):
        return [part for item in value for part in tensors(item)]
    return [value] if isinstance(value, torch.Tensor) else []


def same(one, other):
    """Equal, NaN (no door) being equal to NaN."""
    return one.shape == other.shape and torch.allclose(one.double(), other.double(), 0, 0, equal_nan=True)


def test_every_public_function_and_module_is_held_to_the_contract():
    public = {name for name in w.__all__ if not issubclass(kind(getattr(w, name)), tuple)} - {"Rooms"}
    assert {name.split(",")[0] for name in PURE} | set(DRAWING) | ELSEWHERE == public


def kind(thing):
    return thing if inspect.isclass(thing) else object


@pytest.mark.parametrize("name", PURE)
def test_dtypes_follow_and_nothing_is_written_into(name):
    call, given = PURE[name]
    for dtype in (torch.float32, F64):
        cast = [t.to(dtype) if t.is_floating_point() else t.clone() for t in given]
        kept = [t.clone() for t in cast]
        found = [part for part in tensors(call(*cast)) if part.is_floating_point()]
        assert all(part.dtype == dtype for part in found) or name == "grid_world"
        assert all(torch.equal(a, b) for a, b in zip(cast, kept, strict=True))


@pytest.mark.parametrize("name", DRAWING)
def test_draws_are_those_of_the_generator(name):
    state = torch.get_rng_state()
    first, again = (tensors(DRAWING[name]("cpu", seeded(1))) for _ in range(2))
    assert first
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert torch.equal(torch.get_rng_state(), state), "the global generator was drawn from"
    other = tensors(DRAWING[name]("cpu", seeded(2)))
    assert any(not same(a, b) for a, b in zip(first, other, strict=True))
