"""Plan in mazes of nine rooms on learned models: with one level and with two, at the same compute.

    python training/hierarchical_planning.py                  # all parts, into training/results/hierarchical_planning.*
    python training/hierarchical_planning.py --only "seed 1"  # one part; what is stored of the others stays

Mazes of 3 × 3 rooms whose doors are a spanning tree, another maze for each of the walks that train and for each episode
that tests. A state is the dot's place; the models see, besides, where in its room that is, and the doors of the room
(fast level) or of the block of 3 × 3 rooms around it (slow level): perception is given, not learned. All data are
random walks, which know of no goal.

The fast level's model is ``ContactDynamics``, taught by long walks that keep pushing, half of whose windows are drawn
by their errors. The slow level's model says where the dot is 12 steps later: one of K places, the latent variable
says which, and each costs what it is improbable. Start and goal are at least four doors apart; an episode succeeds when
the dot is within a step's reach of the goal within 80 steps.

"seed N" trains both models, says what they know, and plans: with two levels whose latents are drawn at their price
("priced"), at three times that ("dear"), as if all had the same ("alike"), or not at all (the "mean" over all); and
with one level, with two horizons ("H 24"), at the same number of model evaluations. "cross": either level's model
exchanged for the truth, on the models of seed 0. "more": what one level does with four times the evaluations. "tree":
what it does with the slow level's search in place of its own. The weights of seed 0 are stored; they were rounded to
half precision before being judged.
"""

import argparse
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from record import restored, run_parts
from torch import Tensor, nn

from ebm_lib.nn import MLP
from ebm_lib.world import (
    ContactDynamics,
    Errands,
    Maze,
    Replanner,
    Replay,
    TwoLevels,
    cem,
    cross_room,
    draw_mazes,
    draw_places,
    goal_energy,
    is_free,
    learn_dynamics,
    look,
    move,
    room_of,
    room_views,
    run_errands,
    sample_tree,
    shortest,
    walks,
)
from ebm_lib.world.rooms import REACH, THICKNESS

RESULTS = Path(__file__).parent / "results" / "hierarchical_planning"
ROWS = COLUMNS = 3
LOCAL = 4 * ROWS  # a room's coordinates go from -2 to 2
AHEAD, TURN = 12, 0.2  # steps of the slow level; how fast the walkers turn, in radians
UNIT, K, BETA = 0.2, 48, 200.0  # of displacement; places to choose from; 1/β is what a nat costs, in UNIT²
FAST, SLOW = (192, 192, 192), (256, 256)  # widths
WALKERS, LONG, WINDOW = 4096, 65, 8
PRICES = {"priced": 1.0, "dear": 3.0, "alike": 0.0}  # what a nat of a latent costs when it is drawn, in 1/β
DOORS, BUDGET, TEST_SEED = 4, 80, 2026
H, SAMPLES, ITERATIONS, CLOSE = 12, 32, 2, 0.04
LOW = {"spread": 2 * REACH, "hold": 4, "least_spread": 0.3 * REACH, "bounds": (-REACH, REACH)}
TREE = {"depth": 12, "width": 24, "branches": 32, "apart": 0.05, "price": 0.03}
JUMPS = TREE["branches"] * (1 + TREE["width"] * (TREE["depth"] - 1))  # evaluations of the slow level in a tree
EVALUATIONS = H * ((SAMPLES + 1) * ITERATIONS + 1) + JUMPS * math.ceil(BUDGET / AHEAD) / BUDGET  # for an action

Result = tuple[dict[str, Tensor], dict[str, Any]]
Model = Callable[[Tensor, Tensor], Tensor]
Sample = Callable[[Tensor, int, torch.Generator | None], Tensor]


class Task(NamedTuple):
    """Mazes, and a place to start from and one to go to in each, (N, 2)."""

    maze: Maze
    start: Tensor
    goal: Tensor


class Fast(nn.Module):
    """One step of the dot, by a model that sees its room."""

    def __init__(self, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.step = ContactDynamics(2, 2, fixed=16, hidden=FAST, scale=REACH, generator=generator)

    def forward(self, place: Tensor, action: Tensor, views: Tensor) -> Tensor:
        """Where an action takes the dot, (..., 2)."""
        seen = look(place, views)
        return place + (self.step(seen, action.clamp(-REACH, REACH)) - seen)[..., :2] / LOCAL


class Numbered(nn.Module):
    """The fast level for states that say in which of many mazes they are: x, y, number."""

    def __init__(self, fast: Fast, views: Tensor) -> None:
        super().__init__()
        self.fast, self.views = fast, views

    def forward(self, s: Tensor, a: Tensor) -> Tensor:
        """Where the action takes the dot, in the same maze, (..., 3)."""
        return torch.cat([self.fast(s[..., :2], a, self.views[s[..., 2].long()]), s[..., 2:]], -1)


class Slow(nn.Module):
    """Where the dot may be twelve steps later, by what it sees of nine rooms: K places, each at a price."""

    def __init__(self, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.mlp = MLP((2 + 64, *SLOW, 3 * K), activation="relu", generator=generator)

    def futures(self, place: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
        """The K places, (..., K, 2), and the logarithms of their probabilities, (..., K)."""
        moves, scores = self.mlp(look(place, views)).split([2 * K, K], -1)
        return place[..., None, :] + UNIT * moves.unflatten(-1, (K, 2)), scores.log_softmax(-1)

    def forward(self, place: Tensor, z: Tensor, views: Tensor) -> Tensor:
        """Where the dot is later if z comes about, a unit vector (..., K): (..., 2)."""
        return (z[..., None, :] @ self.futures(place, views)[0]).squeeze(-2)

    def free_energy(self, place: Tensor, later: Tensor, views: Tensor, beta: float = BETA) -> Tensor:
        """F of a pair of places, (...), in units of UNIT²."""
        ends, log_p = self.futures(place, views)
        energies = ((ends - later[..., None, :]) / UNIT).square().sum(-1)
        return -torch.logsumexp(log_p - beta * energies, -1) / beta

    def sample(self, place: Tensor, n: int, generator: torch.Generator | None, views: Tensor, how: str) -> Tensor:
        """Latents, (..., n, K): drawn at a multiple of their price, or the mean of all."""
        log_p = self.futures(place, views)[1]
        if how == "mean":
            return log_p.exp()[..., None, :].expand(*place.shape[:-1], n, K)
        chances = (PRICES[how] * log_p).softmax(-1).reshape(-1, K)
        index = torch.multinomial(chances, n, replacement=True, generator=generator)
        return torch.eye(K, dtype=place.dtype)[index.view(*place.shape[:-1], n)]


def seeded(seed: int) -> torch.Generator:
    """Return a source of randomness."""
    return torch.Generator().manual_seed(seed)


def mazes(N: int, generator: torch.Generator) -> Maze:
    """Return N mazes whose walls are as thick as those of the two rooms."""
    return draw_mazes(N, ROWS, COLUMNS, thickness=THICKNESS, generator=generator)


def train_fast(fast: Fast, updates: int, seed: int) -> float:
    """Learn one step from walks that keep pushing, each in a maze of its own; return the last errors' mean."""
    g = seeded(seed)
    maze = mazes(WALKERS, g)
    places, actions = walks(maze, LONG, turn=TURN, rebound=False, generator=g)
    number = torch.arange(WALKERS).to(places)[:, None, None].expand(WALKERS, LONG, 1)
    store = Replay(torch.cat([places, number], -1), actions, window=WINDOW)
    model = Numbered(fast, room_views(maze))
    return learn_dynamics(model, store, steps=updates, lr=3e-3, generator=g, progress=False)[-100:].mean().item()


def train_slow(slow: Slow, updates: int, seed: int, lr: float = 2e-3, batch_size: int = 512) -> float:
    """Learn what is twelve steps later from walks that turn away from walls; return the last energies' mean."""
    g, losses = seeded(seed), []
    optimizer = torch.optim.AdamW(slow.parameters(), lr=lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, updates, pct_start=0.05)
    for update in range(updates):
        if update % 500 == 0:
            maze = mazes(WALKERS, g)
            places, views = walks(maze, LONG, turn=TURN, generator=g).places, room_views(maze, 1)
        walk = torch.randint(WALKERS, (batch_size,), generator=g)
        t = torch.randint(LONG - AHEAD, (batch_size,), generator=g)
        beta = BETA * min(1.0, 0.05 + 1.5 * update / updates)  # wide at first: all places are to be of use
        loss = slow.free_energy(places[walk, t], places[walk, t + AHEAD], views[walk], beta).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(slow.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return sum(losses[-100:]) / 100


def doors_between(maze: Maze) -> Tensor:
    """How many doors lie on the way from each room to each other one, (N, rooms, rooms): Floyd and Warshall."""
    has = ~maze.doors.isnan().flatten(1, 2)
    count = torch.full((len(has), has.shape[1], has.shape[1]), torch.inf)
    count.diagonal(dim1=1, dim2=2).zero_()
    for room in range(ROWS * COLUMNS):
        for k, other in ((0, room + 1), (1, room + COLUMNS)):
            if other < ROWS * COLUMNS:
                there = torch.where(has[:, room, k], 1.0, torch.inf)
                count[:, room, other] = torch.minimum(count[:, room, other], there)
                count[:, other, room] = count[:, room, other]
    for room in range(ROWS * COLUMNS):
        count = torch.minimum(count, count[:, :, room, None] + count[:, room, None])
    return count


def draw_task(N: int, seed: int, doors: int = DOORS) -> Task:
    """Draw mazes with starts and goals at least so many doors apart."""
    g = seeded(seed)
    maze = mazes(8 * N, g)
    start, goal = cross_room(maze, generator=g)
    apart = doors_between(maze)[torch.arange(8 * N), room_of(start, maze), room_of(goal, maze)]
    index = (apart >= doors).nonzero()[:N, 0]
    return Task(maze.at(index), start[index], goal[index])


def distance(place: Tensor, goal: Tensor) -> Tensor:
    """Root of the mean squared difference, (...)."""
    return (place - goal).square().mean(-1).sqrt()


class Counter:
    """A model, and how many states it was evaluated at."""

    def __init__(self, model: Model) -> None:
        self.model, self.rows = model, 0

    def __call__(self, s: Tensor, x: Tensor) -> Tensor:
        """Evaluate, and count."""
        ahead = self.model(s, x)
        self.rows += ahead[..., 0].numel()
        return ahead


def true_step(task: Task) -> Counter:
    """The world itself."""
    return Counter(lambda place, action: move(place, action, task.maze))


def learned_step(fast: Fast, task: Task) -> Counter:
    """The fast level's model in these mazes."""
    return Counter(partial(fast, views=room_views(task.maze)))


def true_jump(task: Task, generator: torch.Generator) -> tuple[Counter, Sample]:
    """Where walks are that begin here, for the slow level: as if its model were right."""

    def ends(place: Tensor, z: Tensor) -> Tensor:
        place = place.expand(*z.shape[:-1], 2)
        maze = task.maze
        for _ in range(place.ndim - task.start.ndim):
            maze = maze.at(None)
        return walks(maze, AHEAD + 1, turn=TURN, start=place, generator=generator).places[..., -1, :]

    return Counter(ends), lambda place, n, generator: place.new_zeros(*place.shape[:-1], n, 1)


def learned_jump(slow: Slow, task: Task, how: str = "priced") -> tuple[Counter, Sample]:
    """The slow level's model in these mazes, and how its latents are drawn."""
    views = room_views(task.maze, 1)
    return Counter(partial(slow, views=views)), partial(slow.sample, views=views, how=how)


def one_level(step: Counter, task: Task, g: torch.Generator, horizon: int, more: float = 1.0) -> tuple:
    """The cross-entropy method with a long horizon, and no fewer model evaluations than two levels have."""
    samples = math.ceil((more * EVALUATIONS / horizon - 1) / ITERATIONS) - 1
    search = partial(cem, samples=samples, elites=max(2, samples // 8), iterations=ITERATIONS, generator=g, **LOW)
    agent = Replanner(
        search, goal_energy(step, task.goal, horizon, radius=0.03), torch.zeros(len(task.goal), horizon, 2)
    )
    return agent, [step]


def two_levels(
    step: Counter,
    jump: Counter,
    sample: Sample,
    task: Task,
    g: torch.Generator,
    tree: dict[str, Any] = TREE,
) -> tuple:
    """The fast level, told where to go by a tree of the slow one's predictions."""
    cost = partial(distance, goal=task.goal)
    high = partial(lambda s, **options: sample_tree(jump, cost, s, sample, **options), generator=g, **tree)
    low = partial(cem, samples=SAMPLES, elites=4, iterations=ITERATIONS, generator=g, **LOW)
    agent = TwoLevels(
        high, low, lambda s, aim: goal_energy(step, aim, H, radius=0.03)(s), task.goal,
        torch.zeros(len(task.goal), H, 2), every=AHEAD, close=CLOSE,
    )  # fmt: skip
    return agent, [step, jump]


def one_level_tree(step: Counter, task: Task, g: torch.Generator, width: int) -> tuple:
    """One model, searched as the slow one is: a tree of single steps, whose actions are drawn as the walkers'."""

    def sample(s: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
        return REACH * (2 * torch.rand(*s.shape[:-1], n, 2, generator=generator) - 1)

    tree = TREE | {"depth": 4 * TREE["depth"], "width": width, "price": TREE["price"] / AHEAD}
    agent, counters = two_levels(step, step, sample, task, g, tree)
    return agent, counters[:1]


@torch.no_grad()
def judge(agent: Any, models: list[Counter], task: Task) -> dict[str, Any]:
    """Live the episodes, and tell what came of them and what it took."""
    begun, decisions = time.process_time(), 0

    def act(places: Tensor, live: Tensor) -> Tensor:
        nonlocal decisions
        decisions += len(task.goal)
        return agent.act(task.goal.index_copy(0, live, places))[live]

    trials = run_errands(act, Errands(task.start, task.goal), task.maze, budget=BUDGET)
    took = trials.steps[trials.reached]
    return {
        "episodes": len(trials.reached),
        "successes": int(trials.reached.sum()),
        "steps": round(took.double().mean().item(), 1) if len(took) else None,
        "evaluations": round(sum(model.rows for model in models) / decisions),
        "microseconds": round(1e6 * (time.process_time() - begun) / decisions),
    }


def depth_in_wall(place: Tensor, maze: Maze) -> Tensor:
    """How deep in a wall, or how far outside, a place is, (...); negative in free space."""
    inside = torch.minimum(place[..., None, :] - maze.walls[..., :2], maze.walls[..., 2:] - place[..., None, :])
    return torch.maximum(inside.amin(-1).amax(-1), torch.maximum(-place, place - 1).amax(-1))


@torch.no_grad()
def slow_facts(slow: Slow, seed: int = 99, draws: int = 32, pairs: int = 200) -> dict[str, dict[str, float]]:
    """What the slow level's futures are worth: can they be reached, and is what came about among them?"""
    g = seeded(seed)
    maze = mazes(400, g)
    walk, views = walks(maze, AHEAD + 1, turn=TURN, generator=g).places, room_views(maze, 1)
    place, later = walk[:, 0], walk[:, -1]
    facts = {}
    for how in (*PRICES, "mean"):
        ahead = slow(place, slow.sample(place, draws, g, views, how).movedim(-2, 0), views)
        free, few, at = is_free(ahead, maze), maze.at(slice(pairs)), place[:pairs]
        end = torch.where(free[0, :pairs, None], ahead[0, :pairs], at)
        way = torch.where(free[0, :pairs], shortest(at, end, few), torch.inf)  # one draw each: it takes long
        facts[how] = {
            "in wall": (~free).float().mean().item(),
            "deep in wall": (depth_in_wall(ahead, maze) > 0.01).float().mean().item(),
            "reachable": (way <= AHEAD * REACH).float().mean().item(),
            "nearest": (ahead - later).norm(dim=-1).amin(0).mean().item(),
            "moved": (ahead - place).norm(dim=-1).mean().item(),
        }
    return facts | {"truth": {"moved": (later - place).norm(dim=-1).mean().item()}}


@torch.no_grad()
def fast_facts(fast: Fast, seed: int = 99, headings: int = 16) -> dict[str, float]:
    """What is left of walls after twelve pushes in one heading, from anywhere."""
    g = seeded(seed)
    maze = mazes(400, g)
    views = room_views(maze)
    angle = 2 * math.pi * torch.arange(headings) / headings
    push = (REACH * torch.stack([angle.cos(), angle.sin()], -1))[:, None].expand(headings, 400, 2)
    true = model = draw_places(maze, generator=g).expand(headings, 400, 2)
    facts = {}
    for t in range(AHEAD):
        true, model = move(true, push, maze), fast(model, push, views)
        if t == 0:
            facts["error of a step"] = (true - model).norm(dim=-1).mean().item()
    rooms = room_of(true, maze), room_of(model, maze)
    return facts | {
        "error of twelve": (true - model).norm(dim=-1).mean().item(),
        "deep in wall": (depth_in_wall(model, maze) > 0.01).float().mean().item(),
        "in another room": ((rooms[0] != rooms[1]) & (torch.minimum(*rooms) >= 0)).float().mean().item(),
    }


def halved(model: nn.Module) -> nn.Module:
    """Round the weights to what is stored of them."""
    model.load_state_dict({name: x.half().float() for name, x in model.state_dict().items()})
    return model.eval().requires_grad_(False)


def models_of_seed_0(args: argparse.Namespace) -> tuple[nn.Module, nn.Module]:
    """Return the stored fast and slow models."""
    return restored(args.out, "seed 0/fast.", Fast()), restored(args.out, "seed 0/slow.", Slow())


def tell(part: str, name: str, facts: dict[str, Any]) -> dict[str, Any]:
    """Print, and return."""
    print(f"{part}: {name}", facts, flush=True)
    return facts


def seed_part(seed: int, args: argparse.Namespace) -> Result:
    """Train both levels, and plan with them."""
    begun = time.process_time()
    fast, slow = Fast(seeded(seed)), Slow(seeded(seed))
    losses = {
        "fast": train_fast(fast, args.updates, 100 + seed),
        "slow": train_slow(slow, args.jumps, 200 + seed),
    }
    took = round(time.process_time() - begun)
    facts: dict[str, Any] = {"training": took, "losses": losses}
    parts = {"fast": halved(fast), "slow": halved(slow)}
    facts["fast"] = tell(str(seed), "fast", fast_facts(fast))
    facts["slow"] = tell(str(seed), "slow", slow_facts(slow))
    task, runs = draw_task(args.episodes, args.test + seed), {}
    for how in (*PRICES, "mean"):
        agent = two_levels(learned_step(fast, task), *learned_jump(slow, task, how), task, seeded(seed))
        runs[how] = tell(str(seed), how, judge(*agent, task))
    for horizon in (24, 48):
        agent = one_level(learned_step(fast, task), task, seeded(seed), horizon)
        runs[f"H {horizon}"] = tell(str(seed), f"H {horizon}", judge(*agent, task))
    facts["way"] = shortest(task.start, task.goal, task.maze).mean().item()
    weights = {f"{name}.{key}": value for name, model in parts.items() for key, value in model.state_dict().items()}
    return weights if seed == 0 else {}, facts | {"runs": runs}


def cross_part(args: argparse.Namespace) -> Result:
    """Exchange either level's model for the truth."""
    fast, slow = models_of_seed_0(args)
    task, runs, g = draw_task(args.episodes, args.test), {}, seeded(0)
    steps = {"true": partial(true_step, task), "learned": partial(learned_step, fast, task)}
    jumps = {"true": partial(true_jump, task, g), "learned": partial(learned_jump, slow, task)}
    for fast_name, slow_name in (("true", "true"), ("true", "learned"), ("learned", "true")):
        name = f"{fast_name} fast, {slow_name} slow"
        agent = two_levels(steps[fast_name](), *jumps[slow_name](), task, g)
        runs[name] = tell("cross", name, judge(*agent, task))
    runs["true H 24"] = tell("cross", "true H 24", judge(*one_level(steps["true"](), task, g, 24), task))
    return {}, {"runs": runs}


def more_part(args: argparse.Namespace) -> Result:
    """Give one level four times the evaluations."""
    fast, _ = models_of_seed_0(args)
    task = draw_task(args.episodes, args.test)
    agent = one_level(learned_step(fast, task), task, seeded(0), 24, 4)
    return {}, {"runs": {"H 24, 4 times": tell("more", "H 24", judge(*agent, task))}}


def tree_part(args: argparse.Namespace) -> Result:
    """Search single steps as the slow level searches its own."""
    fast, _ = models_of_seed_0(args)
    task = draw_task(args.episodes, args.test)
    agent = one_level_tree(learned_step(fast, task), task, seeded(0), 6)
    return {}, {"runs": {"tree of steps": tell("tree", "6", judge(*agent, task))}}


def main() -> None:
    """Train, plan, store."""
    parts: dict[str, Any] = {f"seed {seed}": partial(seed_part, seed) for seed in range(3)}
    parts |= {"cross": cross_part, "more": more_part, "tree": tree_part}
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=parts)
    p.add_argument("--updates", type=int, default=5000, help="of the fast level")
    p.add_argument("--jumps", type=int, default=9000, help="updates of the slow level")
    p.add_argument("--episodes", type=int, default=70, help="for each seed")
    p.add_argument("--test", type=int, default=TEST_SEED, help="seed of the first one's mazes, starts and goals")
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    args.seed = 0
    facts = {"command": "python training/hierarchical_planning.py", "rooms": [ROWS, COLUMNS], "doors": DOORS,
             "budget": BUDGET, "ahead": AHEAD, "horizon": H, "samples": SAMPLES, "iterations": ITERATIONS,
             "tree": TREE, "updates": [args.updates, args.jumps], "places": K, "beta": BETA,
             "episodes": args.episodes}  # fmt: skip
    run_parts(parts, args, facts)


if __name__ == "__main__":
    main()
