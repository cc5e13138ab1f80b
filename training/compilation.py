"""Compiling Mode-2 into Mode-1 in two rooms: what a policy can do after each round, and at what price.

    python training/compilation.py                    # all parts; writes training/results/compilation.npz and .json
    python training/compilation.py --only "seed 1"    # one part; what is stored of the others stays

Wall and door stand anywhere. The agent is told numbers: its place, the wall, the door, the goal. "model" learns what
actions do from random walks, and plans in it (Mode-2: the cross-entropy method, anew at each step). From each of three
seeds a policy imitates what the planner did on errands of its own (round 0), and is then advised by it wherever the
policy went itself, as many pairs again in each of three rounds. Beside it: as many pairs as the last round's, all of
the planner's own errands; random walks, with a later place for a goal; the planner's energy descended through the
model, from scratch, and from the compiled policy.

The rest is about Mode-2, with the policy of seed 0. "energies" and "nothing, 1" to "narrow, 1" let the search start
from nothing, from the last plan's rest, and from what the policy proposes, in wide or narrow samples; "times" takes the
processor's milliseconds of one decision in one world. Judged on the same 200 errands throughout, in rooms that no
training has seen: from one room to the other, at least 0.4 as the crow flies, at most 80 steps, done within 0.06 of
the goal. Everything runs on one thread.
"""

import argparse
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from record import restored, run_parts
from torch import Tensor, nn

from ebm_lib.energy import Energy
from ebm_lib.world import (
    ContactDynamics,
    Errands,
    Layout,
    Policy,
    Replanner,
    Replay,
    advise,
    cem,
    cross_room,
    draw_layouts,
    draw_places,
    goal_energy,
    imitate,
    learn_dynamics,
    learn_through,
    move,
    propose,
    run_errands,
    shift,
    walks,
    with_goal,
)
from ebm_lib.world.rooms import REACH

RESULTS = Path(__file__).parent / "results" / "compilation"
ROOMS = {"wall": (0.25, 0.75), "door": (0.2, 0.8)}
SCALE = torch.tensor([4.0, 4.0, 6.0, 5.0])  # makes the deviations of place, wall and door about 1
SEEDS, ROUNDS = (0, 1, 2), 3
WALKS, LONG, UPDATES = 4096, 65, 6000  # what a model learns from, and how long
WORLDS, STEPS = 64, 24  # of the errands in a round: a pair for each step of each
FITS, THROUGH = 800, 250  # steps of a policy's fit, and of its descent through the model
H, BUDGET, DISTANCE = 24, 80, 0.4
JUDGES, ERRANDS = 2026, 200  # the seed of the errands, and their number
BOUNDS = (-REACH, REACH)
SEARCH = {
    "spread": 2 * REACH,
    "hold": 4,
    "samples": 64,
    "elites": 6,
    "iterations": 3,
    "least_spread": 0.3 * REACH,
    "bounds": BOUNDS,
}
ITERATIONS, NARROW = (1, 2, 3, 4, 6, 8), 0.5 * REACH
STARTS = [("nothing", 1), ("nothing", 2), ("rest", 1), ("policy", 1), ("narrow", 1)]

Act = Callable[[Tensor, Tensor], Tensor]
Result = tuple[dict[str, Tensor], dict[str, Any]]


def seeded(seed: int = 0) -> torch.Generator:
    """Return a source of randomness."""
    return torch.Generator().manual_seed(seed)


def state_of(place: Tensor, layout: Layout) -> Tensor:
    """Return what the model is told, (..., 4): place, wall and door."""
    room = torch.stack([layout.wall, layout.door], -1).expand(*place.shape[:-1], 2)
    return (torch.cat([place, room], -1) - 0.5) * SCALE


def told_of(place: Tensor, layout: Layout, goal: Tensor) -> Tensor:
    """Return what the policy is told, (..., 6): the goal as well."""
    return torch.cat([state_of(place, layout), (goal - 0.5) * SCALE[:2]], -1)


def energy_in(model: nn.Module) -> Callable[[Tensor], Energy]:
    """Return the energy of plans from where, and to where, the agent is told that it is and goes."""

    def energy(told: Tensor) -> Energy:
        goal = torch.cat([told[..., 4:], told[..., 2:4]], -1)
        return goal_energy(model, goal, H)(told[..., :4])

    return energy


def new_model(seed: int = 0) -> ContactDynamics:
    """Return a forward model, untrained."""
    return ContactDynamics(2, 2, fixed=2, hidden=(64, 64, 64), scale=REACH, generator=seeded(seed))


def new_policy(seed: int = 0) -> Policy:
    """Return a policy, untrained."""
    return Policy(6, 2, hidden=(128, 128), bounds=BOUNDS, generator=seeded(seed))


def compiled(args: argparse.Namespace) -> tuple[nn.Module, Policy]:
    """Return the model, and the policy of seed 0 after the last round."""
    policy = new_policy()
    restored(args.out, f"seed 0/round {ROUNDS}/", policy.mlp)
    return restored(args.out, "model/", new_model()), policy.requires_grad_(False)


def draw_test() -> tuple[Errands, Layout]:
    """Return the errands to judge by, and the rooms that they are in."""
    layout = draw_layouts(ERRANDS, **ROOMS, generator=seeded(JUDGES))
    return cross_room(layout, distance=DISTANCE, generator=seeded(JUDGES + 1)), layout


def at_once(policy: nn.Module, errands: Errands, layout: Layout) -> Act:
    """Mode-1."""
    return lambda places, live: policy(told_of(places, layout.at(live), errands.goal[live]))


def by_plan(
    model: nn.Module,
    errands: Errands,
    layout: Layout,
    start: str = "rest",
    policy: nn.Module | None = None,
    **search: Any,
) -> Act:
    """Mode-2: plan at every step, from nothing, the last plan's rest, or what a policy proposes (narrowly)."""
    plans = torch.zeros(len(errands.goal), H, 2)
    search = SEARCH | ({"spread": NARROW} if start == "narrow" else {}) | search
    find = functools.partial(cem, generator=seeded(3), **search)

    def act(places: Tensor, live: Tensor) -> Tensor:
        told = told_of(places, layout.at(live), errands.goal[live])
        begin = propose(policy, with_goal(model, 4), told, H) if start in ("policy", "narrow") else plans[live]
        found = find(energy_in(model)(told), begin)
        if start == "rest":
            plans[live] = shift(found.actions)
        return found.actions[:, 0]

    return act


def judge(act: Act) -> dict[str, Any]:
    """Count who arrives, and how soon."""
    trials = run_errands(act, *draw_test(), budget=BUDGET)
    took = trials.steps[trials.reached].double()
    steps = round(took.mean().item(), 1) if len(took) else None
    return {"errands": len(trials.reached), "reached": int(trials.reached.sum()), "steps": steps}


def model_part(args: argparse.Namespace) -> Result:
    """Learn a model from walks that keep pushing, and plan in it."""
    g, model = seeded(1), new_model()
    layout = draw_layouts(WALKS, **ROOMS, generator=g)
    places, actions = walks(layout, LONG, turn=0.2, rebound=False, generator=g)
    store = Replay(state_of(places, layout.at((..., None))), actions)
    errors = learn_dynamics(model, store, steps=UPDATES, batch_size=128, lr=3e-3, generator=g, progress=False)
    facts = {"error": round(errors[-100:].mean().item(), 4), "updates": UPDATES}
    print(facts, flush=True)
    facts["Mode-2"] = judge(by_plan(model.requires_grad_(False), *draw_test()))
    return dict(model.state_dict()), facts


def advice(model: nn.Module, g: torch.Generator, actor: nn.Module | None = None) -> tuple[Tensor, Tensor]:
    """Send somebody on new errands, the planner if None, and ask the planner everywhere: states and actions."""
    layout = draw_layouts(WORLDS, **ROOMS, generator=g)
    place, goal = cross_room(layout, distance=DISTANCE / 2, generator=g)

    def world(told: Tensor, action: Tensor) -> Tensor:
        return told_of(move(told[..., :2] / SCALE[:2] + 0.5, action, layout), layout, goal)

    plan = functools.partial(cem, generator=g, **SEARCH)
    expert = Replanner(plan, energy_in(model), torch.zeros(WORLDS, H, 2))
    found = advise(expert.act, world, told_of(place, layout, goal), STEPS, actor=actor)
    return found.states.flatten(0, 1), found.actions.flatten(0, 1)


def wandered(pairs: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Take random walks as if they had meant to go where they went: a later place is the goal."""
    layout = draw_layouts(pairs // 16, **ROOMS, generator=g)
    places, actions = walks(layout, 49, turn=0.2, rebound=False, generator=g)
    later = torch.arange(16) + torch.randint(1, 33, (16,), generator=g)
    told = told_of(places[:, :16], layout.at((..., None)), places[:, later])
    return told.flatten(0, 1), actions[:, :16].flatten(0, 1)


def anywhere(N: int, g: torch.Generator) -> Tensor:
    """Return what is told at places anywhere, with goals anywhere."""
    layout = draw_layouts(N, **ROOMS, generator=g)
    return told_of(draw_places(layout, generator=g), layout, draw_places(layout, generator=g))


def join(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Put pairs together."""
    states, actions = zip(*parts, strict=True)
    return torch.cat(states), torch.cat(actions)


def seed_part(seed: int, args: argparse.Namespace) -> Result:
    """Compile plans; and learn policies in the other ways."""
    g, test, model = seeded(100 + seed), draw_test(), restored(args.out, "model/", new_model())
    arrays: dict[str, Tensor] = {}
    facts: dict[str, Any] = {}

    def keep(name: str, policy: Policy, **more: Any) -> None:
        facts[name] = judge(at_once(policy, *test)) | more
        print(seed, name, facts[name], flush=True)
        if seed == 0 and name in ("round 0", f"round {ROUNDS}", "through the model"):
            arrays.update({f"{name}/{key}": value.clone() for key, value in policy.mlp.state_dict().items()})

    fit = functools.partial(imitate, steps=FITS, lr=2e-3, generator=g)
    policy, memory = new_policy(seed), []
    for k in range(ROUNDS + 1):
        memory.append(advice(model, g, policy if k else None))
        errors = fit(policy, *join(memory))
        keep(f"round {k}", policy, pairs=WORLDS * STEPS * (k + 1), error=round(errors[-100:].mean().item(), 3))

    through = functools.partial(
        learn_through, step=with_goal(model, 4), energy=energy_in(model), H=H, batch_size=64, generator=g
    )
    through(policy, states=torch.cat([join(memory)[0], anywhere(len(memory[0][0]), g)]), steps=THROUGH // 2, lr=5e-4)
    keep("compiled, then through the model", policy)
    policy = new_policy(seed)
    path = through(policy, states=anywhere(4096, g), steps=THROUGH, lr=2e-3)
    keep("through the model", policy, energy=round(path[-50:].mean().item(), 3))
    policy = new_policy(seed)
    fit(policy, *wandered((ROUNDS + 1) * WORLDS * STEPS, g))
    keep("random walks cloned", policy)
    policy = new_policy(seed)
    fit(policy, *join([memory[0], *(advice(model, g) for _ in range(ROUNDS))]))
    keep("cloned, as many pairs", policy)
    return arrays, facts


@torch.no_grad()
def energies_part(args: argparse.Namespace) -> Result:
    """Search at states that the planner comes to, from nothing and from what the policy proposes, ever longer."""
    model, policy = compiled(args)
    told, _ = advice(model, seeded(5))
    told = told[torch.randperm(len(told), generator=seeded(6))[:96]]
    energy, arrays = energy_in(model)(told), {}
    for name, spread in {"nothing": 2 * REACH, "policy": 2 * REACH, "policy, narrow": NARROW}.items():
        start = torch.zeros(len(told), H, 2) if name == "nothing" else propose(policy, with_goal(model, 4), told, H)
        found = [energy(start)]
        for iterations in ITERATIONS:
            options = SEARCH | {"iterations": iterations, "spread": spread}
            found.append(cem(energy, start, **options, generator=seeded(7)).energy)
        arrays[name] = torch.stack(found)
        print(name, [round(x, 3) for x in arrays[name].mean(1).tolist()], flush=True)
    return arrays, {"iterations": [0, *ITERATIONS]}


def start_part(start: str, iterations: int, args: argparse.Namespace) -> Result:
    """Judge Mode-2 by what its search starts from, with few iterations."""
    model, policy = compiled(args)
    found = judge(by_plan(model, *draw_test(), start, policy, iterations=iterations))
    print(start, iterations, found, flush=True)
    return {}, found


@torch.no_grad()
def times_part(args: argparse.Namespace) -> Result:
    """Take the time of one decision in one world, in either mode."""
    (model, policy), (errands, layout) = compiled(args), draw_test()
    one = (Errands(*(x[:1] for x in errands)), layout.at(slice(1)))
    facts = {}
    for name, act, repeats in (
        ("Mode-1", at_once(policy, *one), 200),
        ("Mode-2, 1 iteration", by_plan(model, *one, iterations=1), 20),
        ("Mode-2, from the policy, 1 iteration", by_plan(model, *one, "policy", policy, iterations=1), 20),
        ("Mode-2", by_plan(model, *one), 20),
    ):
        found = []
        for _ in range(repeats):
            begun = time.process_time()
            act(one[0].start, torch.arange(1))
            found.append(time.process_time() - begun)
        facts[name] = round(1e3 * sorted(found)[repeats // 2], 3)
    return {}, {"milliseconds": facts}


def main() -> None:
    """Run what the command line asks for."""
    parts: dict[str, Any] = {"model": model_part} | {f"seed {k}": functools.partial(seed_part, k) for k in SEEDS}
    parts |= {"energies": energies_part, "times": times_part}
    parts |= {f"{start}, {n}": functools.partial(start_part, start, n) for start, n in STARTS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=parts)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    args.seed = SEEDS[0]
    run_parts(parts, args, {"command": "python training/compilation.py", "budget": BUDGET, "horizon": H})


if __name__ == "__main__":
    main()
