"""Forward models of two rooms, from places: what makes a wall solid, measured one thing at a time, over three seeds.

    python training/forward_models.py                 # all parts; writes training/results/forward_models.npz and .json
    python training/forward_models.py --only "seed 1"  # one part; what is stored of the others stays

A model is trained for 800 updates on windows of random walks in rooms whose wall is in the middle and whose door is
anywhere. What differs: its form (a perceptron, a perceptron with a gate, ``ContactDynamics``), the walks (which turn
away when they are stopped, or keep pushing), how windows are drawn (evenly, or half of them by their errors), and how
many steps a window has (6, or 1). Judged by its errors on new walks of the first kind; by fifteen pushes to the right
from many heights, which of them pass the wall; and by plans for errands from one room to the other, of which it is
counted how many lead through the wall in the model's mind, and how many arrive when they are carried out to the end
without looking again. Everything runs on one thread.
"""

import argparse
import functools
from pathlib import Path
from typing import Any, NamedTuple

import torch
from record import run_parts
from torch import Tensor, nn
from torch.nn.functional import pad

from ebm_lib.nn import MLP
from ebm_lib.world import (
    ContactDynamics,
    GatedDynamics,
    Layout,
    Replay,
    cem,
    cross_room,
    draw_layouts,
    learn_dynamics,
    move,
    rollout,
    two_rooms,
    walks,
)
from ebm_lib.world.rooms import OPENING, REACH

RESULTS = Path(__file__).parent / "results" / "forward_models"
SEEDS = (0, 1, 2)
SCALE = torch.tensor([3.5, 3.5, 5.0])  # makes the standard deviations of place and door about 1
DOORS = (0.2, 0.8)
WALKS, LONG, CALLS, UPDATES, WIDTHS = 8000, 17, 1020, 800, (64, 64, 64)
H, ERRANDS, WITHIN = 24, 200, 0.06
SEARCH = functools.partial(
    cem,
    spread=2 * REACH,
    hold=4,
    samples=128,
    elites=8,
    iterations=5,
    least_spread=0.3 * REACH,
    bounds=(-REACH, REACH),
)


class Recipe(NamedTuple):
    """A form of model and how it learns."""

    form: str
    pushes: bool = False
    replay: bool = False
    window: int = 6


RECIPES = {
    "plain, one step": Recipe("plain", window=1),
    "plain": Recipe("plain"),
    "plain, pushes": Recipe("plain", pushes=True),
    "plain, replay": Recipe("plain", replay=True),
    "plain, pushes, replay": Recipe("plain", pushes=True, replay=True),
    "gated": Recipe("gated"),
    "gated, pushes, replay": Recipe("gated", pushes=True, replay=True),
    "contact": Recipe("contact"),
    "contact, pushes": Recipe("contact", pushes=True),
    "contact, replay": Recipe("contact", replay=True),
    "contact, pushes, replay": Recipe("contact", pushes=True, replay=True),
    "contact, pushes, replay, one step": Recipe("contact", pushes=True, replay=True, window=1),
}


def seeded(seed: int) -> torch.Generator:
    """Return a source of randomness."""
    return torch.Generator().manual_seed(seed)


def state(place: Tensor, layout: Layout) -> Tensor:
    """Return place and door, standardised."""
    door = layout.door.expand(place.shape[:-1])[..., None]
    return (torch.cat([place, door], -1) - 0.5) * SCALE


def place_of(s: Tensor) -> Tensor:
    """Read the place off a state."""
    return s[..., :2] / SCALE[:2] + 0.5


class Plain(nn.Module):
    """A perceptron that says what is added to the place."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.mlp = MLP((5, *WIDTHS, 2), activation="relu", generator=generator)

    def forward(self, s: Tensor, a: Tensor) -> Tensor:
        """Return the state after action a."""
        lead = torch.broadcast_shapes(s.shape[:-1], a.shape[:-1])
        s, a = s.expand(*lead, -1), a.expand(*lead, -1)
        return s + pad(self.mlp(torch.cat([s, a / REACH], -1)), (0, 1))


def make(form: str, seed: int) -> nn.Module:
    """Return a model, untrained."""
    if form == "plain":
        return Plain(seeded(seed))
    kind = GatedDynamics if form == "gated" else ContactDynamics
    return kind(2, 2, fixed=1, hidden=WIDTHS, scale=REACH, generator=seeded(seed))


def wander(N: int, T: int, pushes: bool, seed: int) -> tuple[Layout, Tensor, Tensor]:
    """Return rooms, places and actions of random walks."""
    layout = draw_layouts(N, door=DOORS, generator=seeded(seed))
    how = {"turn": 0.2, "rebound": False} if pushes else {}
    return layout, *walks(layout, T, generator=seeded(seed + 1), **how)


def train(recipe: Recipe, seed: int) -> nn.Module:
    """Return a model that has learned."""
    layout, places, actions = wander(WALKS, LONG, recipe.pushes, 1000 * seed)
    share = 0.5 if recipe.replay else 0.0
    store = Replay(state(places, layout.at((..., None))), actions, window=recipe.window, share=share)
    model, size = make(recipe.form, seed), CALLS // recipe.window
    learn_dynamics(model, store, steps=UPDATES, batch_size=size, lr=3e-3, generator=seeded(seed + 7), progress=False)
    return model.requires_grad_(False)


def pixels(s: Tensor, truth: Tensor) -> Tensor:
    """Return the distance of two places, in a picture of 28 pixels."""
    return 28 * (place_of(s) - place_of(truth)).norm(dim=-1)


def errors(model: nn.Module) -> dict[str, Tensor]:
    """Return errors on new walks that turn away: of one step, free and stopped, and of rollouts, (31,)."""
    layout, places, actions = wander(1000, 31, False, 99_000)
    stopped = (places[:, 1:] != places[:, :-1] + actions).any(-1)
    s = state(places, layout.at((..., None)))
    once, ahead = pixels(model(s[:, :-1], actions), s[:, 1:]), pixels(rollout(model, s[:, 0], actions), s).mean(0)
    return {"free": once[~stopped].mean(), "stopped": once[stopped].mean(), "mean": once.mean(), "ahead": ahead}


def push(model: nn.Module, heights: int = 48, times: int = 15) -> dict[str, Tensor]:
    """Push at the wall, and through the door; return the shares that end beyond."""
    y, found = torch.linspace(0.03, 0.97, heights), []
    onward = torch.tensor([REACH, 0.0]).expand(heights, times, 2)
    start = torch.stack([torch.full_like(y, 0.3), y], -1)
    for door in (0.3, 0.5, 0.7):
        room = two_rooms(torch.tensor(0.5), torch.tensor(door))
        beyond = place_of(rollout(model, state(start, room), onward))[:, -1, 0] > 0.54
        aside = (y - door).abs()
        found.append(torch.stack([beyond[aside > 0.12].float().mean(), beyond[aside < 0.06].float().mean()]))
    wall, door = torch.stack(found).mean(0)
    return {"through wall": wall, "through door": door}


def crosses(paths: Tensor, layout: Layout) -> Tensor:
    """Say which paths, (N, T, 2), cross the middle of the wall outside its door."""
    before, after = paths[:, :-1], paths[:, 1:]
    middle = layout.wall[:, None]
    over = (before[..., 0] < middle) != (after[..., 0] < middle)
    part = ((middle - before[..., 0]) / (after[..., 0] - before[..., 0])).nan_to_num().clamp(0, 1)
    height = before[..., 1] + part * (after[..., 1] - before[..., 1])
    return (over & ((height - layout.door[:, None]).abs() > OPENING / 2)).any(1)


def plans(model: nn.Module | None) -> dict[str, Tensor]:
    """Plan once for each errand, in a model or in the world; return what came of it."""
    g = seeded(2026)
    layout = draw_layouts(ERRANDS, door=DOORS, generator=g)
    start, goal = cross_room(layout, distance=0.4, generator=g)

    def world(p: Tensor, a: Tensor) -> Tensor:
        return move(p, a, layout)

    def imagined(actions: Tensor) -> Tensor:
        return rollout(world, start, actions) if model is None else place_of(rollout(model, first, actions))

    def energy(actions: Tensor) -> Tensor:
        return ((imagined(actions)[..., 1:, :] - goal[:, None]).norm(dim=-1) * weights).sum(-1)

    first = state(start, layout)
    weights = (torch.arange(1, H + 1) / H) ** 2
    weights = weights / weights.sum()
    actions = SEARCH(energy, torch.zeros(ERRANDS, H, 2), generator=seeded(1)).actions
    away = (rollout(world, start, actions)[:, 1:] - goal[:, None]).norm(dim=-1).amin(1)
    promised = (imagined(actions)[:, 1:] - goal[:, None]).norm(dim=-1).amin(1)
    return {
        "plans through the wall": crosses(imagined(actions), layout).float().mean(),
        "promised": (promised < WITHIN).float().mean(),
        "arrived": (away < WITHIN).float().mean(),
    }


@torch.no_grad()
def world_part(args: argparse.Namespace) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Plan in the world itself: what the planner could do."""
    return {}, {name: round(value.item(), 4) for name, value in plans(None).items()}


def seed_part(seed: int, args: argparse.Namespace) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Train by every recipe from one seed, and judge."""
    arrays, facts = {}, {}
    for name, recipe in RECIPES.items():
        model = train(recipe, seed)
        with torch.no_grad():
            found = errors(model) | push(model) | plans(model)
        arrays[f"{name}/ahead"] = found.pop("ahead")
        facts[name] = {key: round(value.item(), 4) for key, value in found.items()}
        print(seed, name, facts[name], flush=True)
    return arrays, facts


def main() -> None:
    """Run the parts."""
    parts = {"world": world_part} | {f"seed {seed}": functools.partial(seed_part, seed) for seed in SEEDS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=parts)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    args.seed = SEEDS[0]
    run_parts(parts, args, {"updates": UPDATES, "errands": ERRANDS})


if __name__ == "__main__":
    main()
