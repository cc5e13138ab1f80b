"""Train models of traffic, drive by them, and count crashes: what a latent variable and an uncertainty cost are worth.

    python training/driving.py                 # all parts; writes training/results/driving.npz and driving.json
    python training/driving.py --only "seed 1" # one of them; what is stored of the others stays

The traffic is ``ebm_lib.world.driving``'s: 15 cars on a ring road of 250 m with three lanes. 10,000 transitions of 0.4
s are recorded, of a car that drives like the others. On them are trained a forward model without and one with a latent
variable; through each, policies without and with the uncertainty cost, for the same number of steps. All are then
test-driven in the same 200 worlds that no record comes from, for up to 40 s; an episode ends where it crashes or leaves
the road. Every seed changes the record, the weights and the draws.

"seed 0" to "seed 7": the recorded driver errs a little. Besides, a policy that imitates it. Seed 0 also tests a driver
who does nothing, and the traffic's own, and all of them where the others do not see our car, as in Henaff, Canziani and
LeCun (ICLR 2019). Kept of seed 0: the weights of models and policies.

"calm 0" to "calm 3": the recorded driver never errs, so that the record holds little but sensible actions. Kept of
calm 0: the weights of the deterministic model and of its policies.

"promise": what a policy costs in 4 s, by its model and in the traffic, from the test worlds as they are and with our
car put somewhere else; followed are the cars that are nearest at the start, and no state costs more than 2. "doubt":
the uncertainty of the model on the way.

"latent drop-out": latent models without and with it, at two prices of a nat, on the records of two seeds. By exact
mechanics another car's speed relative to ours changes by -0.4 s times our acceleration; "obeys" is the share of this
slope that the model has, with z drawn from the prior.

"draws": how far the futures of a car spread after 4 s, and how many of them end in another lane than they began, in the
traffic itself, asked 30 times, and by latent models that were trained in several ways; of the cars that may go either
way, whose true futures spread by more than 1.2 m, and of cars near ours that never do, by less than 0.15 m.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from record import restored, run_parts
from torch import Tensor

from ebm_lib.world.driving import (
    HOLD,
    DrivingPolicy,
    ForwardModel,
    Traffic,
    Transitions,
    costs,
    draw_traffic,
    drive,
    imagine,
    neighbourhood,
    record,
    road_test,
    uncertainty,
)
from ebm_lib.world.driving.traffic import DT

RESULTS = Path(__file__).parent / "results" / "driving"
WORLDS, ACTIONS, WARM = 100, 100, 100  # of the record; steps before it begins
TEST, TEST_SEED = 200, 999
L, HORIZON, MASKS, LAMBDA = 2, 10, 3, 10.0
MODEL_STEPS, CLONE_STEPS, POLICY_STEPS = 1500, 1500, 500
FUTURES = 20
SEEDS, CALM_SEEDS, DROP_SEEDS = range(8), range(4), range(2)
BETAS = (3.0, 1000.0)
DRAWS = 30
TRIALS = {
    "no hidden drop-out": (4000, {"drop": 0.0}),
    "nor latent drop-out": (4000, {"drop": 0.0, "latent_drop": 0.0}),
    "a nat costs a twentieth": (4000, {"drop": 0.0, "beta": 60.0}),
}  # steps, and what differs, of models for "draws"
MOST = 2.0  # that a state costs where promises are compared
AWAY = (1.5, 5.0, 0.05)  # how far our car is put elsewhere, at most: m, m/s, rad
POLICIES = {
    "deterministic": (0, 0.0),
    "deterministic, uncertainty": (0, LAMBDA),
    "latent": (L, 0.0),
    "latent, uncertainty": (L, LAMBDA),
}


def seeded(seed: int) -> torch.Generator:
    """Return a source of randomness."""
    return torch.Generator().manual_seed(seed)


def warmed(N: int, generator: torch.Generator) -> Traffic:
    """Return traffic that has driven a while."""
    cars = draw_traffic(N, generator=generator)
    for _ in range(WARM):
        cars = drive(cars, generator=generator)
    return cars


def nothing(own: Tensor, cars: Tensor) -> Tensor:
    """Neither pull nor turn."""
    return own.new_zeros(len(own), 2)


def road_results(policy: Any, worlds: Traffic, *, seen: bool = True) -> dict[str, float]:
    """Count crashes and metres."""
    drives = road_test(policy, worlds, seen=seen, generator=seeded(TEST_SEED))
    return {
        "crashed": drives.crashed.float().mean().item(),
        "off": drives.off.float().mean().item(),
        "metres": drives.distance.mean().item(),
        "speed": (drives.distance.sum() / drives.seconds.sum()).item(),
    }


@torch.no_grad()
def promise(model: ForwardModel, policy: DrivingPolicy, worlds: Traffic) -> dict[str, float]:
    """Compare what the model says of the policy's next actions with what comes, and how sure it is."""
    look = neighbourhood(worlds)
    z = torch.randn(HORIZON, *look.cars.shape[:-1], model.L, generator=seeded(TEST_SEED))
    film = imagine(model, policy, look.own, look.cars, z)
    own, cars = (torch.cat([a[None], b[:-1]]) for a, b in ((look.own, film.own), (look.cars, film.cars)))
    doubt = uncertainty(model, own, cars, film.action, z, masks=20, generator=seeded(TEST_SEED))
    g, true = seeded(TEST_SEED), []
    for _ in range(HORIZON):
        now = neighbourhood(worlds)
        action = policy(now.own, now.cars)
        for _ in range(HOLD):
            worlds = drive(worlds, action, generator=g)
        then = neighbourhood(worlds, who=look.who)
        true.append(costs(then.own, then.cars).total.clamp(max=MOST))
    said = costs(film.own, film.cars).total.clamp(max=MOST)
    return {"promised": said.mean().item(), "true": torch.stack(true).mean().item(), "doubt": doubt.mean().item()}


def elsewhere(worlds: Traffic) -> Traffic:
    """Put our car a little aside, at another speed, and turned: where no recorded driver was."""
    by = (2 * torch.rand(3, len(worlds.x), generator=seeded(TEST_SEED)) - 1) * torch.tensor(AWAY)[:, None]
    parts = {"y": worlds.y.clone(), "speed": worlds.speed.clone(), "heading": worlds.heading.clone()}
    for part, change in zip(parts.values(), by, strict=True):
        part[:, 0] += change
    return worlds._replace(**parts)


@torch.no_grad()
def judge_model(model: ForwardModel, held: Transitions, seed: int) -> dict[str, float]:
    """Measure one step ahead, in units of what usually changes: with z = 0, the mean of draws, the best of them."""
    z = torch.randn(FUTURES, *held.cars.shape[:-1], model.L, generator=seeded(seed))
    draws = torch.stack([model.energy(held, one) for one in z])
    faster = held.action + torch.tensor([1.0, 0.0])
    slope = model(held.own, held.cars, faster, z[0])[1] - model(held.own, held.cars, held.action, z[0])[1]
    obeys = (slope[..., 2] * held.stays).sum() / held.stays.sum() / (-HOLD * DT)
    return {
        "zero": model.energy(held).mean().item(),
        "drawn": draws.mean().item(),
        "best": draws.amin(0).mean().item(),
        "obeys": obeys.item(),
    }


def recorded(seed: int, **how: Any) -> tuple[Transitions, Transitions]:
    """Return what models learn from, and what they are measured on."""
    g = seeded(seed)
    train, _ = record(warmed(WORLDS, g), ACTIONS, generator=g, **how)
    held, _ = record(warmed(50, seeded(500 + seed)), 20, generator=g, **how)
    return train, held


def one_seed(seed: int, calm: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Train and measure everything once."""
    train, held = recorded(seed, **({"noise": (0.0, 0.0)} if calm else {}))
    worlds = warmed(TEST, seeded(TEST_SEED))
    first = seed == 0
    models, drivers = {}, {}
    verdict = {"models": {}, "policies": {}}
    for size in (0, L):
        models[size] = ForwardModel(size, generator=seeded(10 + seed))
        models[size].learn(train, steps=MODEL_STEPS, generator=seeded(20 + seed))
        name = "latent" if size else "deterministic"
        verdict["models"][name] = judge_model(models[size], held, seed)
        print(seed, name, verdict["models"][name], flush=True)
    if not calm:
        drivers["cloned"] = DrivingPolicy(generator=seeded(30 + seed))
        drivers["cloned"].clone(train, steps=CLONE_STEPS, generator=seeded(40 + seed))
    for name, (size, weight) in POLICIES.items():
        drivers[name] = DrivingPolicy(generator=seeded(30 + seed))
        how = {"horizon": HORIZON, "uncertainty_weight": weight, "masks": MASKS, "steps": POLICY_STEPS}
        drivers[name].learn(models[size], train, generator=seeded(40 + seed), **how)
    tested = drivers | ({"nothing": nothing, "traffic's own": None} if first and not calm else {})
    for name, driver in tested.items():
        found = verdict["policies"][name] = road_results(driver, worlds)
        if first and not calm:
            found["unseen"] = road_results(driver, worlds, seen=False)
        if name in POLICIES:
            model = models[POLICIES[name][0]]
            found["promise"] = promise(model, driver, worlds)
            found["promise elsewhere"] = promise(model, driver, elsewhere(worlds))
        print(seed, name, found, flush=True)
    arrays: dict[str, Tensor] = {}
    if first:
        kept = {"model 0": models[0]} | ({} if calm else {"model 2": models[L]})
        kept |= {name: driver for name, driver in drivers.items() if not (calm and name.startswith("latent"))}
        for name, module in kept.items():
            arrays |= {f"{name}/{key}": value for key, value in module.state_dict().items()}
    return arrays, verdict


def drop_out(_: argparse.Namespace) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Train latent models without and with latent drop-out."""
    found: dict[str, Any] = {}
    for seed in DROP_SEEDS:
        train, held = recorded(seed)
        for beta in BETAS:
            for share in (0.0, 0.5):
                model = ForwardModel(L, beta=beta, latent_drop=share, generator=seeded(10 + seed))
                model.learn(train, steps=MODEL_STEPS, generator=seeded(20 + seed))
                found.setdefault(f"beta {beta:g}, drop {share:g}", []).append(judge_model(model, held, seed))
                print(seed, beta, share, found[f"beta {beta:g}, drop {share:g}"][-1], flush=True)
    return {}, {"models": found}


def across(own: Tensor, cars: Tensor) -> Tensor:
    """Places across the road, (..., K), of the cars that are in sight; of the others not a number."""
    return torch.where(cars[..., 4] > 0, own[..., None, 0] + cars[..., 1], torch.nan)


@torch.no_grad()
def true_ends(policy: DrivingPolicy, worlds: Traffic, draws: int) -> Tensor:
    """Where the cars now near ours are across the road later, (draws, N, K), with other moods each time."""
    N, g = len(worlds.x), seeded(3)
    who = neighbourhood(worlds).who.repeat(draws, 1)
    many = worlds._replace(**{k: v.repeat(draws, 1) for k, v in worlds._asdict().items() if k != "ring"})
    for _ in range(HORIZON):
        look = neighbourhood(many)
        action = policy(look.own, look.cars)
        for _ in range(HOLD):
            many = drive(many, action, generator=g)
    look = neighbourhood(many, who=who)
    return across(look.own, look.cars).unflatten(0, (draws, N))


@torch.no_grad()
def drawn_ends(model: ForwardModel, policy: DrivingPolicy, worlds: Traffic, draws: int) -> Tensor:
    """The same by a model, whose z is drawn."""
    look = neighbourhood(worlds)
    own, cars = (part.expand(draws, *part.shape) for part in (look.own, look.cars))
    film = imagine(model, policy, own, cars, torch.randn(HORIZON, *cars.shape[:-1], model.L, generator=seeded(4)))
    return across(film.own[-1], film.cars[-1])


def draws_part(args: argparse.Namespace) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Train latent models in several ways, and compare their draws with the traffic."""
    worlds, train = warmed(40, seeded(TEST_SEED)), recorded(0)[0]
    policy = restored(args.out, "seed 0/latent, uncertainty/", DrivingPolicy())
    look = neighbourhood(worlds)
    begin, near = across(look.own, look.cars), look.cars[..., 0].abs() < 30
    ends = {"traffic": true_ends(policy, worlds, DRAWS)}
    ends["as used"] = drawn_ends(restored(args.out, "seed 0/model 2/", ForwardModel(L)), policy, worlds, DRAWS)
    for name, (steps, how) in TRIALS.items():
        model = ForwardModel(L, generator=seeded(10), **how)
        model.learn(train, steps=steps, generator=seeded(20))
        ends[name] = drawn_ends(model, policy, worlds, DRAWS)
    true = ends["traffic"].std(0)
    facts: dict[str, Any] = {}
    for kind, cars in {"either way": true > 1.2, "stays": near & (true < 0.15)}.items():
        for name, end in ends.items():
            spread = (end - end.nanmean(0))[:, cars].square().nanmean().sqrt().item()
            moved = (end - begin)[:, cars].abs()
            facts.setdefault(name, {})[kind] = {
                "spread": spread,
                "another lane": (moved > 2).float().mean().item(),
                "cars": int(cars.sum()),
            }
    print(facts, flush=True)
    return {}, {"ends": facts}


def main() -> None:
    """Train what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {f"seed {seed}": lambda _, seed=seed: one_seed(seed, calm=False) for seed in SEEDS}
    parts |= {f"calm {seed}": lambda _, seed=seed: one_seed(seed, calm=True) for seed in CALM_SEEDS}
    parts |= {"latent drop-out": drop_out, "draws": draws_part}
    parser.add_argument("--only", choices=parts)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    run_parts(parts, parser.parse_args(), {"command": "python training/driving.py", "worlds": TEST, "seconds_each": 40})


if __name__ == "__main__":
    main()
