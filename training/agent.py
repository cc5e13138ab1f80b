"""A critic against a longer horizon: planning h steps ahead with it, h without, and 4h without, in the two rooms.

    python training/agent.py                      # all parts; writes training/results/agent.npz and .json
    python training/agent.py --only "critic 1"    # one of them; what is stored of the others stays

The world model is the one of tier a that ``training/two_rooms.py`` stores ("a 0"): one layout, seen as pictures. The
discomfort of a state is log(1 + d / r), d being its root mean square difference from where it is to be.

"memory": the planner, at horizon 4h, does errands of its own, from anywhere to anywhere; its short-term memory keeps
states and discomforts, in episodes that go on where it arrived. A policy imitates the moves. "critic k": a critic
learns, from that memory, the discounted discomfort that is still to come, and the planner is judged at horizon h with
the critic at its end.
"horizon h": judged without. Judged on errands that were not remembered, from room to room, at least 0.4 as the crow
flies, done within 0.06 of the goal, given up after 60 steps. An evaluation is one step of the model for one plan.
"""

import argparse
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import two_rooms
from record import restored, run_parts, stored
from torch import Tensor

from ebm_lib.world import (
    Cost,
    Critic,
    Errands,
    Policy,
    ShortTermMemory,
    Trials,
    cem,
    draw_places,
    imitate,
    learn_critic,
    plan_energy,
    render,
    run_errands,
    shift,
    with_goal,
)
from ebm_lib.world.rooms import REACH

Result = tuple[dict[str, Tensor], dict[str, Any]]
RESULTS = Path(__file__).parent / "results" / "agent"
SHORT, LONG, BUDGET = 6, 24, 60
RADIUS = 0.1  # r, in units of the states, whose deviation is about 1
REMEMBERED, JUDGED = 256, 200  # errands
GAMMA, WINDOW = 0.95, 24  # of the critic's sum
BOUNDS = (-REACH, REACH)
SEARCH = {"spread": 2 * REACH, "hold": 4, "samples": 64, "elites": 6, "iterations": 3, "least_spread": 0.3 * REACH}
SEEDS = 3
seeded = two_rooms.seeded


def engine() -> Any:
    """Return the world model."""
    return restored(two_rooms.RESULTS, "a 0/", two_rooms.make(two_rooms.TIERS["a"].D))


def represent(model: Any, places: Tensor, layout: Any) -> Tensor:
    """Return the states of places, as they are seen."""
    with torch.no_grad():
        return model.represent(render(places, layout))


def discomfort(told: Tensor) -> Tensor:
    """Return log(1 + d / r) of a state with its goal behind it."""
    state, goal = told.chunk(2, -1)
    return ((state - goal).square().mean(-1).sqrt() / RADIUS).log1p()


def horizon(H: int, critic: bool) -> Tensor:
    """Return how much each step counts: with a critic as the critic's sum has it, without as ``goal_energy``."""
    if critic:
        return GAMMA ** torch.arange(H)
    return torch.arange(1, H + 1) / torch.arange(1.0, H + 1).sum()


class Planner:
    """Plans for many errands at once, with or without a critic, and counts what that takes."""

    def __init__(self, model: Any, test: two_rooms.Test, H: int, critic: Critic | None = None, seed: int = 0) -> None:
        self.model, self.test, self.generator = model, test, seeded(seed)
        self.goals = represent(model, test.errands.goal, test.layout)
        trainable = {} if critic is None else {"critic": lambda told: GAMMA**H * critic(told)}
        cost = Cost({"discomfort": discomfort}, trainable)
        self.energy = plan_energy(with_goal(model, self.goals.shape[-1]), cost, horizon(H, critic is not None))
        self.plans = torch.zeros(len(self.goals), H, 2)
        self.decisions, self.evaluations = 0, (SEARCH["iterations"] * (SEARCH["samples"] + 1) + 1) * H

    def __call__(self, places: Tensor, live: Tensor) -> Tensor:
        """Plan anew from what is left of the last plans, and return the first actions."""
        state = represent(self.model, places, self.test.layout.at(live))
        energy = self.energy(torch.cat([state, self.goals[live]], -1))
        found = cem(energy, self.plans[live], bounds=BOUNDS, generator=self.generator, **SEARCH)
        self.plans[live] = shift(found.actions)
        self.decisions += len(live)
        return found.actions[:, 0]


def judged(model: Any, H: int, critic: Critic | None = None, seed: int = 0) -> dict[str, Any]:
    """Judge a planner, and time its decisions in one world."""
    test = two_rooms.draw_test("a", JUDGED)
    agent = Planner(model, test, H, critic, seed)
    trials = run_errands(agent, *test, budget=BUDGET)
    one = two_rooms.draw_test("a", 1)
    alone, times = Planner(model, one, H, critic), []
    for _ in range(11):
        begun = time.perf_counter()
        alone(one.errands.start, torch.arange(1))
        times.append(time.perf_counter() - begun)
    facts = two_rooms.count(trials) | {
        "evaluations": agent.evaluations,
        "decisions": agent.decisions,
        "milliseconds": round(1e3 * sorted(times)[len(times) // 2], 1),
    }
    print(H, "with a critic" if critic else "without", facts, flush=True)
    return facts


def remember(args: argparse.Namespace) -> Result:
    """Do errands at the long horizon, remember them, and imitate the moves."""
    g, layout = seeded(1), two_rooms.draw_test("a", REMEMBERED, seed=1).layout
    anywhere = Errands(draw_places(layout, generator=g), draw_places(layout, generator=g))
    model, test = engine(), two_rooms.Test(anywhere, layout)
    agent = Planner(model, test, LONG, seed=1)
    trials = run_errands(agent, *test, budget=BUDGET)
    states = represent(model, trials.places, test.layout)
    told = torch.cat([states, agent.goals.expand_as(states)], -1).transpose(0, 1)
    policy, (told_then, moves) = Policy(4, 2, hidden=(64, 64), bounds=BOUNDS, generator=seeded(0)), moved(trials, told)
    errors = imitate(policy, told_then, moves, steps=3000, lr=3e-3, generator=seeded(0))
    facts = two_rooms.count(trials) | {"imitation": round(errors[-100:].mean().item(), 3), "moves": len(moves)}
    weights = {f"policy/{k}": v.detach() for k, v in policy.mlp.state_dict().items()}
    return weights | {"told": told, "places": trials.places}, facts


def moved(trials: Trials, told: Tensor) -> tuple[Tensor, Tensor]:
    """Return told states and the moves made there, of errands that ended well."""
    moves = trials.places.diff(dim=0).transpose(0, 1)
    under_way = (torch.arange(BUDGET) < trials.steps[:, None]) & trials.reached[:, None]
    return told[:, :-1][under_way], moves[under_way]


def remembered(args: argparse.Namespace) -> ShortTermMemory:
    """Return the memory that an earlier part stored."""
    arrays, _ = stored(args.out, without="")
    if "memory/told" not in arrays:
        raise SystemExit("run part 'memory' first")
    told = torch.from_numpy(arrays["memory/told"]).float()
    memory = ShortTermMemory(told.shape[0] * told.shape[1])
    for states in told:
        memory.store(states, discomfort(states))
    return memory


def critic_part(args: argparse.Namespace, seed: int) -> Result:
    """Learn a critic from the memory, and judge the short horizon with it."""
    pairs = remembered(args).pairs(GAMMA, WINDOW)
    critic = Critic(pairs.states.shape[-1], scale=pairs.values.mean().item(), generator=seeded(seed))
    errors = learn_critic(critic, pairs, steps=args.steps, generator=seeded(seed))
    facts = {"pairs": len(pairs.values), "error": round(errors[-100:].mean().item(), 4), "scale": critic.scale}
    facts |= judged(engine(), SHORT, critic.requires_grad_(False), seed)
    return dict(critic.state_dict()), facts


def horizon_part(args: argparse.Namespace, H: int) -> Result:
    """Judge a horizon without a critic."""
    return {}, judged(engine(), H)


PARTS: dict[str, Callable[[argparse.Namespace], Result]] = {"memory": remember}
PARTS |= {f"critic {k}": functools.partial(critic_part, seed=k) for k in range(SEEDS)}
PARTS |= {f"horizon {H}": functools.partial(horizon_part, H=H) for H in (SHORT, LONG)}


def main() -> None:
    """Remember, learn, judge, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--steps", type=int, default=3000, help="of a critic's fit")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    args.seed = 0
    facts = {"command": "python training/agent.py", "judged": JUDGED, "budget": BUDGET, "search": SEARCH,
             "gamma": GAMMA, "window": WINDOW, "radius": RADIUS, "horizons": [SHORT, LONG]}  # fmt: skip
    run_parts(PARTS, args, facts)


if __name__ == "__main__":
    main()
