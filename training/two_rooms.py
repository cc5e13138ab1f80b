"""World models of two rooms, from pixels and random walks alone: train them, plan with them, count who arrives.

    python training/two_rooms.py                  # all parts; writes training/results/two_rooms.npz and .json
    python training/two_rooms.py --only "a 0"     # one part; what is stored of the others stays

Three tiers: (a) one layout; (b) a wall in the middle, the door anywhere; (c) wall and door anywhere. What is learned
from are pictures of 28 x 28 pixels in two channels and the actions between them, of walks that know nothing of doors or
goals. First encoder and model learn together, on short films drawn anew at each step (``WorldModel.criterion``); then
the encoder stays, a store of walks is encoded once, and the model goes on learning on it, by longer rollouts
(``learn_dynamics``). Everything runs on one thread; processor seconds are what one core needs.

"TIER SEED, cem": a stored model judged; "with memory": by an agent that corrects it where it was wrong since the
errand began (``ResidualMemory``). "planners": the stored model of seed 0, planned in by MPPI and by gradient descent
from several starts as well, and the milliseconds of one decision in one room. "cloning": a policy that imitates the
same walks, told a later place of the walk as its goal; judged on the same errands, and on near ones that stay in a
room, beside the planner. "without TERM": tier b with one of the criterion's terms left out, one number more in a state
than there are things to know, and less training.

Judged on errands that no training has seen: from one room to the other, at least 0.4 as the crow flies, at most 60
steps, done within 0.06 of the goal. The planner sees pictures only: of where it is, and of where it is to be.
"""

import argparse
import functools
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from record import restored, run_parts
from torch import Tensor, nn

from ebm_lib.energy import Energy
from ebm_lib.world import (
    ContactDynamics,
    Errands,
    Keypoints,
    Layout,
    Plan,
    Policy,
    Replay,
    ResidualMemory,
    Trials,
    WorldModel,
    cem,
    cross_room,
    draw_layouts,
    draw_places,
    goal_energy,
    imitate,
    learn_dynamics,
    move,
    mppi,
    plan_by_gradient,
    render,
    room_of,
    run_errands,
    shift,
    walks,
)
from ebm_lib.world.rooms import REACH

RESULTS = Path(__file__).parent / "results" / "two_rooms"


class Tier(NamedTuple):
    """A kind of rooms, and how long is learned.

    Attributes:
        rooms: ranges that layouts are drawn from.
        D: dimensions of a state: what differs between pictures, and no more if predictions are to be good.
        updates: of encoder and model together.
        store: walks that are encoded for the second phase.
        later: updates of the model alone.
    """

    rooms: dict[str, float | tuple[float, float]]
    D: int
    updates: int
    store: int
    later: int


TIERS = {
    "a": Tier({"wall": 0.5, "door": 0.5}, D=2, updates=2000, store=4096, later=5000),
    "b": Tier({"wall": 0.5, "door": (0.2, 0.8)}, D=3, updates=8000, store=8192, later=10000),
    "c": Tier({"wall": (0.25, 0.75), "door": (0.2, 0.8)}, D=4, updates=24000, store=16384, later=36000),
}
SEEDS = (0, 1, 2)
FILMS, SHORT, LONG, TURN = 128, 5, 65, 0.2  # films at a time; pictures in a short and in a stored walk; radians
H, BUDGET, DISTANCE = 32, 60, 0.4
RADIUS = 0.04  # of goal_energy, in units of states, whose deviation is about 1; of places, in PLACE
PLACE = 0.01
JUDGES, ERRANDS = 2026, 200  # the seed of the errands, and their number
BOUNDS = (-REACH, REACH)
SAMPLES = functools.partial(cem, samples=128, elites=8, iterations=1, bounds=BOUNDS)
WEIGHED = functools.partial(
    mppi, spread=1.5 * REACH, hold=4, samples=384, iterations=1, temperature=0.03, bounds=BOUNDS
)
ALIKE = {"size": 32, "width": 0.4, "reach": 0.5 * REACH}  # of states and actions, where an agent remembers errors
TERMS = ("nothing", "variance", "covariance", "similarity", "inverse")
SHORTER = {"D": 4, "updates": 3000, "store": 4096, "later": 3000}  # of tier b, for leaving terms out
ABLATED = 50  # errands by which a model without one of the terms is judged
Actor = Callable[[Tensor, Tensor], Tensor]


def seeded(seed: int) -> torch.Generator:
    """Return a source of randomness."""
    return torch.Generator().manual_seed(seed)


def make(D: int, seed: int = 0) -> WorldModel:
    """Return a model of pictures, untrained."""
    g = seeded(seed)
    dynamics = ContactDynamics(D, 2, hidden=(256, 256, 256), scale=REACH, generator=g)
    return WorldModel(Keypoints(2, D, generator=g), dynamics, D, 2, scale=REACH, generator=g)


def wander(rooms: dict[str, Any], N: int, T: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Layout]:
    """Return places and actions of walks that keep pushing at what stops them, and the rooms they are in."""
    layout = draw_layouts(N, **rooms, generator=generator)
    return *walks(layout, T, turn=TURN, rebound=False, generator=generator), layout


def learn_together(model: WorldModel, tier: Tier, seed: int, lr: float = 2e-3, **weights: float) -> dict[str, float]:
    """Train encoder and model on short films; return what each term was at the end."""
    g = seeded(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, tier.updates, pct_start=0.05)
    batches = 32  # drawn at a time: many worlds at once move faster
    for update in range(tier.updates):
        if update % batches == 0:
            places, actions, layout = wander(tier.rooms, batches * FILMS, SHORT, g)
        these = slice(update % batches * FILMS, (update % batches + 1) * FILMS)
        terms = model.criterion(render(places[these], layout.at((these, None))), actions[these], **weights)
        optimizer.zero_grad()
        terms.loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    return {name: round(value.item(), 5) for name, value in terms._asdict().items()}


@torch.no_grad()
def encoded(model: WorldModel, tier: Tier, seed: int) -> Replay:
    """Return a store of walks as the model sees them."""
    places, actions, layout = wander(tier.rooms, tier.store, LONG, seeded(seed))
    parts = [slice(i, i + 64) for i in range(0, tier.store, 64)]
    states = torch.cat([model.represent(render(places[these], layout.at((these, None)))) for these in parts])
    return Replay(states, actions)


class Test(NamedTuple):
    """Errands to judge by, and the rooms that they are in."""

    errands: Errands
    layout: Layout


def draw_test(tier: str, N: int = ERRANDS, seed: int = JUDGES) -> Test:
    """Return N errands from room to room."""
    g = seeded(seed)
    layout = draw_layouts(N, **TIERS[tier].rooms, generator=g)
    return Test(cross_room(layout, distance=DISTANCE, generator=g), layout)


def look_around(energy: Energy, start: Tensor, *, generator: torch.Generator) -> Plan:
    """Plan by samples of all kinds of ways, in long and in short pieces; then by samples near the best so far.

    What is left of the last plan competes. Were it the mean of all samples, an agent that waits behind a wall would go
    on looking where it is.
    """
    best, lowest = start, energy(start[None])[0]
    for hold in (8, 4):
        found = SAMPLES(energy, torch.zeros_like(start), spread=2 * REACH, hold=hold, generator=generator)
        lower = found.energy < lowest
        best, lowest = torch.where(lower[:, None, None], found.actions, best), torch.where(lower, found.energy, lowest)
    return SAMPLES(energy, best, spread=0.5 * REACH, hold=4, generator=generator)


def planner(
    model: WorldModel,
    test: Test,
    generator: torch.Generator,
    search: Callable[..., Plan] = look_around,
    remembers: bool = False,
) -> Actor:
    """Return an agent that sees pictures, and plans anew at each step from what is left of its last plan.

    One that remembers corrects the model where it was wrong since the errand began.
    """
    goals = model.represent(render(test.errands.goal, test.layout))
    plans, states, actions = (
        torch.zeros(len(goals), H, 2),
        torch.full_like(goals, torch.nan),
        torch.zeros(len(goals), 2),
    )
    memory = ResidualMemory(model, len(goals), **ALIKE)

    def act(places: Tensor, live: Tensor) -> Tensor:
        state = model.represent(render(places, test.layout.at(live)))
        if remembers and not states[live].isnan().any():  # something was done before
            memory.write(live, states[live], actions[live], state)
        energy = goal_energy(memory.step(live), goals[live], H, radius=RADIUS)
        found = search(energy(state), plans[live], generator=generator)
        plans[live], states[live], actions[live] = shift(found.actions), state, found.actions[:, 0]
        return found.actions[:, 0]

    return act


def knower(test: Test, generator: torch.Generator) -> Actor:
    """Return the same planner on the true places and the true dynamics: what the planner could do with a model."""
    plans = torch.zeros(len(test.errands.goal), H, 2)

    def act(places: Tensor, live: Tensor) -> Tensor:
        layout = test.layout.at(live)
        energy = goal_energy(lambda p, a: move(p, a, layout), test.errands.goal[live], H, radius=PLACE)
        found = look_around(energy(places), plans[live], generator=generator)
        plans[live] = shift(found.actions)
        return found.actions[:, 0]

    return act


def count(trials: Trials) -> dict[str, Any]:
    """Say how many arrived, and how soon."""
    took = trials.steps[trials.reached].double()
    return {
        "errands": len(trials.reached),
        "reached": int(trials.reached.sum()),
        "in 40 steps": int((trials.reached & (trials.steps <= 40)).sum()),
        "steps": round(took.mean().item(), 1) if len(took) else None,
    }


@torch.no_grad()
def errors(model: WorldModel, tier: Tier, seed: int = 99, steps: int = 24) -> dict[str, Any]:
    """Say, in pixels, what a linear readout of states makes of places, walls and doors, and of predicted states."""
    places, actions, layout = wander(tier.rooms, 3000, steps + 1, seeded(seed))
    truth = torch.cat([places[:, 0], layout.wall[:, None], layout.door[:, None]], -1)
    state = model.represent(render(places[:, 0], layout))
    fit, rest = slice(None, 2000), slice(2000, None)

    def readout(s: Tensor) -> Tensor:
        return torch.cat([s, torch.ones_like(s[:, :1])], -1)

    weights = torch.linalg.lstsq(readout(state[fit]), truth[fit], driver="gelsd").solution
    found = {"readout": (readout(state[rest]) @ weights - truth[rest]).square().mean(0).sqrt() * 28}
    for k in range(steps):
        state = model(state, actions[:, k])
        if k + 1 in (1, 4, 12, 24):
            away = readout(state[rest]) @ weights[:, :2] - places[rest, k + 1]
            found[f"after {k + 1}"] = away.square().mean(0).sqrt() * 28
    return {name: [round(x, 3) for x in value.tolist()] for name, value in found.items()}


def descend(
    energy: Energy, start: Tensor, *, generator: torch.Generator, starts: int = 8, steps: int = 24, hold: int = 4
) -> Plan:
    """Plan by gradient, from what is left of the last plan and from random ones; keep the lowest."""
    headings = torch.randn(starts - 1, *start.shape[:-2], H // hold, 2, generator=generator)
    wild = (2 * REACH * headings).repeat_interleave(hold, -2)
    found = plan_by_gradient(energy, torch.cat([start[None], wild]), steps=steps, lr=0.3 * REACH, bounds=BOUNDS)
    best = found.energy.argmin(0)
    actions = found.actions.take_along_dim(best[None, ..., None, None], 0)[0]
    return Plan(actions, found.energy.amin(0), actions, found.history)


def planners_part(tier: str, args: argparse.Namespace) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Plan in the stored model in other ways, and take the time of a decision in one world."""
    model, test, one = restored(args.out, f"{tier} 0/", make(TIERS[tier].D)), draw_test(tier), draw_test(tier, 1)
    facts: dict[str, Any] = {}
    for name, search in {"cem": look_around, "mppi": WEIGHED, "gradient": descend}.items():
        if name != "cem":  # has a part of its own
            facts[name] = count(run_errands(planner(model, test, seeded(0), search), *test, budget=BUDGET))
        act = planner(model, one, seeded(0), search)
        times = []
        for _ in range(11):
            begun = time.perf_counter()
            act(one.errands.start, torch.arange(1))
            times.append(time.perf_counter() - begun)
        facts[f"{name} milliseconds"] = round(1e3 * sorted(times)[len(times) // 2], 1)
        print(tier, name, facts, flush=True)
    return {}, facts


def cloning_part(tier: str, args: argparse.Namespace) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Imitate the walks, with a goal that each of them came to later."""
    plan, g = TIERS[tier], seeded(7)
    model, test = restored(args.out, f"{tier} 0/", make(plan.D)), draw_test(tier)
    places, actions, layout = wander(plan.rooms, 4096, 64, g)
    parts = [slice(i, i + 64) for i in range(0, len(places), 64)]
    states = torch.cat([model.represent(render(places[these], layout.at((these, None)))) for these in parts])
    policy = Policy(2 * plan.D, 2, bounds=BOUNDS, generator=g)
    walk = torch.arange(len(states))[:, None].expand(-1, 32)
    now, later = torch.randint(32, walk.shape, generator=g), 1 + torch.randint(31, walk.shape, generator=g)
    told = torch.cat([states[walk, now], states[walk, now + later]], -1).flatten(0, 1)
    imitate(policy, told, actions[walk, now].flatten(0, 1), steps=4000, batch_size=1024, generator=g)
    near = Test(_within(test.layout, seeded(8)), test.layout)
    facts: dict[str, Any] = {}
    for name, errands in {"across": test, "within": near}.items():
        goals = model.represent(render(errands.errands.goal, errands.layout))

        def act(places: Tensor, live: Tensor, errands: Test = errands, goals: Tensor = goals) -> Tensor:
            here = model.represent(render(places, errands.layout.at(live)))
            with torch.no_grad():
                return policy(torch.cat([here, goals[live]], -1))

        facts[f"cloned {name}"] = count(run_errands(act, *errands, budget=BUDGET))
    facts["planned within"] = count(run_errands(planner(model, near, seeded(0)), *near, budget=BUDGET))
    return {}, facts


def _within(layout: Layout, generator: torch.Generator, farthest: float = 0.3) -> Errands:
    """Return starts and goals in one room, not far from each other."""
    start, goal = (draw_places(layout, generator=generator) for _ in range(2))
    while True:
        far = (start - goal).norm(dim=-1)
        bad = (far < 0.1) | (far > farthest) | (room_of(start, layout) != room_of(goal, layout))
        if not bad.any():
            return Errands(start, goal)
        goal = torch.where(bad[:, None], draw_places(layout, generator=generator), goal)


def without_part(term: str, seed: int, args: argparse.Namespace) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Leave a term out of the criterion, train as ever, and judge."""
    plan = TIERS["b"]._replace(**SHORTER)
    model, terms, history = trained(plan, seed, **({} if term == "nothing" else {term: 0.0}))
    test = draw_test("b", ABLATED)
    with torch.no_grad():
        places, _, layout = wander(plan.rooms, 1000, 2, seeded(5))
        spread = model.represent(render(places[:, 0], layout)).std(0)
    facts = {
        "terms": terms,
        "error": round(history[-200:].mean().item(), 5),
        "deviations": [round(x, 4) for x in spread.tolist()],
        "pixels": errors(model, plan),
        "cem": count(run_errands(planner(model, test, seeded(seed)), *test, budget=BUDGET)),
    }
    print("without", term, seed, facts, flush=True)
    return {}, facts


def trained(tier: Tier, seed: int, **weights: float) -> tuple[WorldModel, dict[str, float], Tensor]:
    """Return a model after both phases, what the criterion's terms were, and the errors of the second phase."""
    model = make(tier.D, seed)
    terms = learn_together(model, tier, seed, **weights)
    replay = encoded(model.requires_grad_(False), tier, 1000 + seed)
    model.dynamics.requires_grad_(True)
    history = learn_dynamics(model.dynamics, replay, steps=tier.later, generator=seeded(seed), progress=False)
    return model.eval().requires_grad_(False), terms, history


def tier_part(tier: str, seed: int, args: argparse.Namespace) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Train a model of a tier; keep the weights."""
    plan, begun = TIERS[tier], time.process_time()
    model, terms, history = trained(plan, seed)
    took = time.process_time() - begun
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    facts = {
        "training": {
            "processor_seconds": round(took, 1),
            "pictures": plan.updates * FILMS * SHORT + plan.store * LONG,
            "gigabytes": round(memory, 2),
        },
        "terms": terms,
        "error": round(history[-200:].mean().item(), 5),
        "pixels": errors(model, plan),
    }
    print(tier, seed, facts, flush=True)
    return dict(model.state_dict()), facts


def judged_part(
    tier: str, seed: int, remembers: bool, args: argparse.Namespace
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Judge a stored model, with an agent that remembers where it was wrong, or one that does not."""
    model, test = restored(args.out, f"{tier} {seed}/", make(TIERS[tier].D)), draw_test(tier)
    agent = planner(model, test, seeded(seed), remembers=remembers)
    facts = count(run_errands(agent, *test, budget=BUDGET))
    print(tier, seed, remembers, facts, flush=True)
    return {}, facts


def truth_part(tier: str, args: argparse.Namespace) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Judge the planner on the true dynamics."""
    test = draw_test(tier)
    return {}, count(run_errands(knower(test, seeded(0)), *test, budget=BUDGET))


def main() -> None:
    """Run what the command line asks for."""
    parts: dict[str, Any] = {f"{tier} truth, cem": functools.partial(truth_part, tier) for tier in TIERS}
    parts |= {f"{tier} {seed}": functools.partial(tier_part, tier, seed) for tier in TIERS for seed in SEEDS}
    for name, remembers in {"cem": False, "cem with memory": True}.items():
        parts |= {
            f"{tier} {seed}, {name}": functools.partial(judged_part, tier, seed, remembers)
            for tier in TIERS
            for seed in SEEDS
        }
    parts |= {f"{tier} planners": functools.partial(planners_part, tier) for tier in TIERS}
    parts |= {f"{tier} cloning": functools.partial(cloning_part, tier) for tier in TIERS}
    parts |= {f"without {term} {seed}": functools.partial(without_part, term, seed) for term in TERMS for seed in SEEDS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=parts)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    args.seed = 0
    run_parts(parts, args, {})


if __name__ == "__main__":
    main()
