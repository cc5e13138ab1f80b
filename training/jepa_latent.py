"""Train JEPAs of films that fork in three, with latent variables of every kind, from too little capacity to too much.

    python training/jepa_latent.py                  # all parts; writes training/results/jepa_latent.json and .npz
    python training/jepa_latent.py --only sparse    # one part; what is stored of the others stays

2,000 films of ``ebm_lib.data.fork_films`` with three roads train, 300 others are measured, all of whose futures are
known. Every run is repeated over seeds that change the films, the weights and the draws; the films to judge by stay.

"together": encoder and predictor learn together, without a latent variable, with K values of one, and with one that is
free to say all; with and without the terms that ask the representations for information.

"discrete", "sparse", "noisy", "bounded": the encoder is that of the JEPA with K = 3, and stays as it is. A predictor
with a latent variable is trained on its representations, at several capacities, so that all numbers are about the same
representations. The sparse one, whose z is searched for, takes half the passes.

Energies are in units of the variance of s_y over the films: 1 is what its mean scores.
"""

import argparse
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from record import run_parts
from torch import Tensor, nn

from ebm_lib import data
from ebm_lib.jepa import JEPA, Bounded, Dictionary, Discrete, Inferred, Noisy, Predictor, Sparse, variance_covariance
from ebm_lib.joint import collapse, effective_rank, learn, linear_probe
from ebm_lib.latent.variational import descend, project_ball
from ebm_lib.nn import MLP

RESULTS = Path(__file__).parent / "results" / "jepa_latent"
ROADS, TRAIN, TEST, TEST_SEED = 3, 2000, 300, 1000
PIXELS, D, HIDDEN = 768, 8, 64
DRAWS = 16
FREE = 1e4  # β at which a nat costs next to nothing
TOGETHER: dict[str, tuple[str, float, bool]] = {
    "no z": ("none", 0, True),
    "K = 2": ("discrete", 2, True),
    "K = 3": ("discrete", 3, True),
    "K = 6": ("discrete", 6, True),
    "free z": ("noisy", FREE, True),
    "no z, no information": ("none", 0, False),
    "K = 3, no information": ("discrete", 3, False),
    "free z, no information": ("noisy", FREE, False),
}
CAPACITIES: dict[str, tuple[float, ...]] = {
    "discrete": (1, 2, 3, 4, 6, 12, 32, 128),
    "sparse": (10.0, 1.0, 0.3, 0.1, 0.03, 0.003),  # λ
    "noisy": (1.0, 3.0, 10.0, 30.0, 100.0, 1e3, FREE),  # β
    "bounded": (10.0, 3.0, 1.0, 0.5, 0.2, 0.05, 0.01),  # σ
}

Result = tuple[dict[str, Tensor], dict[str, Any]]


def seeded(seed: int) -> torch.Generator:
    """Return a source of randomness."""
    return torch.Generator().manual_seed(seed)


@functools.cache
def films(seed: int) -> data.Films:
    """Return films to learn from."""
    return data.fork_films(TRAIN, branches=ROADS, generator=seeded(seed))


@functools.cache
def unseen() -> tuple[data.Films, Tensor, Tensor]:
    """Return films to judge by, where their dot is, and for each the number of a film whose dot is far aside."""
    test = data.fork_films(TEST, branches=ROADS, generator=seeded(TEST_SEED))
    frames = test.x.unflatten(-1, test.past_shape)
    place = (frames.sum((1, 2)) * torch.arange(16.0)).sum(-1) / frames.sum((1, 2, 3))  # mean column, in pixels
    order = place.argsort()
    stranger = torch.empty_like(order)
    stranger[order] = order.roll(TEST // 2)
    return test, place, stranger


def build(kind: str, capacity: float, generator: torch.Generator) -> tuple[nn.Module, nn.Module | None]:
    """Return a predictor and its latent variable."""
    latent: nn.Module | None = None
    if kind == "discrete":
        latent = Discrete(int(capacity))
    elif kind == "sparse":
        latent = Sparse(D, capacity, steps=6)
    elif kind == "noisy":
        latent = Noisy(D, D, beta=capacity, hidden=(HIDDEN,), generator=generator)
    elif kind == "bounded":
        latent = Bounded(D, D, noise=capacity, hidden=(HIDDEN,), generator=generator)
    if kind == "sparse":
        return Dictionary(D, D, hidden=(HIDDEN,), generator=generator), latent
    return Predictor(D, 0 if latent is None else latent.L, hidden=(HIDDEN,), generator=generator), latent


def pairs(batch: Tensor, generator: torch.Generator | None) -> tuple[Tensor, ...]:
    """Return x and y, which are stored side by side."""
    return batch.unbind(1)


def train_together(kind: str, capacity: float, seed: int, epochs: int, *, informed: bool = True) -> JEPA:
    """Train encoder, predictor and latent variable on films."""
    g = seeded(seed)
    encoder = MLP((PIXELS, HIDDEN, D), activation="silu", generator=g)
    predictor, latent = build(kind, capacity, g)
    information = variance_covariance if informed else None
    model = JEPA(encoder, predictor, latent=latent, information_x=information, information_y=information)
    both = torch.stack([films(seed).x, films(seed).y], 1)
    learn(model, both, pairs, epochs=epochs, batch_size=64, lr=3e-3, generator=g, progress=False)
    return model.eval()


@functools.cache
def encoded(seed: int, epochs: int) -> tuple[nn.Module, Tensor]:
    """Return the encoder of the JEPA with K = 3, and what it makes of the films, (N, 2, D)."""
    encoder = train_together("discrete", ROADS, seed, epochs).encoder.requires_grad_(False)
    return encoder, torch.stack([encoder(films(seed).x), encoder(films(seed).y)], 1)


def train_predictor(kind: str, capacity: float, seed: int, epochs: int, passes: int) -> JEPA:
    """Train predictor and latent variable on representations that stay as they are."""
    g = seeded(100 + seed)
    encoder, representations = encoded(seed, epochs)
    predictor, latent = build(kind, capacity, g)
    model = JEPA(nn.Identity(), predictor, latent=latent)
    learn(model, representations, pairs, epochs=passes, batch_size=64, lr=3e-3, generator=g, progress=False)
    model.encoder = encoder
    return model.eval()


def infer(model: JEPA, s_x: Tensor, s_y: Tensor, generator: torch.Generator) -> Inferred:
    """Return ž; by a longer search than in training where it is searched for."""
    if not isinstance(model.latent, Sparse):
        return model.infer(s_x, s_y, generator)
    longer = Sparse(model.latent.L, model.latent.weight, steps=60).eval()
    return longer.infer(lambda z: model.compare(s_x, s_y, z), s_x, s_y)


def free_energy(model: JEPA, s_x: Tensor, s_y: Tensor) -> Tensor:
    """Return E + R on average over 8 draws, if z is drawn."""
    if model.latent is None:
        return model.compare(s_x, s_y)
    g, times = seeded(3), 8 if isinstance(model.latent, Noisy | Bounded) else 1
    found = [infer(model, s_x, s_y, g) for _ in range(times)]
    return torch.stack([model.compare(s_x, s_y, f.z) + f.cost for f in found]).mean(0)


def searched_energy(model: JEPA, s_x: Tensor, s_y: Tensor) -> Tensor:
    """Return E at a z that is searched for from the network's, whatever it costs, but within the ball if it has one."""
    start = model.latent.encode(s_x, s_y).mean

    def energy(z: Tensor) -> Tensor:
        allowed = project_ball(z, radius=math.sqrt(D)) if isinstance(model.latent, Bounded) else z
        return model.compare(s_x, s_y, allowed)

    return energy(descend(energy, start, steps=200))


def order(low: Tensor, high: Tensor) -> float:
    """Return how often one of ``low`` is under one of ``high``: the area under the curve."""
    low, high = low.flatten(), high.flatten()
    return ((low[:, None] < high).double().mean() + (low[:, None] == high).double().mean() / 2).item()


def explained(z: Tensor, value: Tensor) -> float:
    """Return the share of a value's variance that is linear in z."""
    features = torch.cat([z, torch.ones_like(z[:, :1])], 1).double()
    value = value.double().unsqueeze(-1)
    fitted = features @ torch.linalg.lstsq(features, value, driver="gelsd").solution
    return 1 - ((value - fitted).square().sum() / (value - value.mean()).square().sum()).item()


def message(found: Inferred, model: JEPA) -> float | None:
    """Return nats: how evenly the values are used, or what the code costs; None where that is not known."""
    if isinstance(model.latent, Discrete):
        p = found.z.flatten(0, -2).mean(0)
        return -torch.xlogy(p, p).sum().item()
    return found.cost.mean().item() * model.latent.beta if isinstance(model.latent, Noisy) else None


@torch.no_grad()
def judge(model: JEPA, seed: int) -> dict[str, Any]:
    """Measure the representation, the energies of possible and impossible futures, the draws, and what z says."""
    test, place, stranger = unseen()
    s_x, s_y, futures = model.represent(test.x), model.represent_target(test.y), model.represent_target(test.futures)
    unit = s_y.var(0).mean()
    known = model.represent_target(films(seed).y)
    with torch.enable_grad():
        probe = linear_probe(known, films(seed).turn, s_y, test.turn, steps=100).accuracy
    verdict = collapse(s_y)
    possible = free_energy(model, s_x[:, None], futures) / unit
    impossible = free_energy(model, s_x[:, None], futures[stranger]) / unit
    facts = {
        "probe": probe,
        "verdict": verdict.verdict,
        "spread": verdict.spread,
        "rank": effective_rank(s_y, center=True).item(),
        "std": s_y.std(0).mean().item(),
        "turn": ((futures - futures.mean(1, keepdim=True)).square().mean() / unit).item(),
        "possible": possible.mean().item(),
        "impossible": impossible.mean().item(),
        "order": order(possible, impossible),
    }
    drawn = model.predictor(s_x)[:, None] if model.latent is None else model.futures(test.x, DRAWS, seeded(4))
    errors = (drawn[:, :, None] - futures[:, None]).square().mean(-1) / unit  # (n, draws, roads)
    facts |= {"best": errors.amin(1).mean().item(), "astray": errors.amin(2).mean().item()}
    if model.latent is None:
        return facts
    found = infer(model, s_x[:, None], futures, seeded(5))
    turns = torch.arange(ROADS).repeat(TEST)
    z, half = found.z.flatten(0, 1), TEST // 2 * ROADS
    with torch.enable_grad():
        told = linear_probe(z[:half], turns[:half], z[half:], turns[half:], steps=100).accuracy
    facts |= {
        "says_turn": told,
        "says_place": explained(z, place.repeat_interleave(ROADS)),
        "nats": message(found, model),
        "active": (z.abs() > 1e-3).double().sum(-1).mean().item(),
        "price": (found.cost.mean() / unit).item(),
        "error": (model.compare(s_x[:, None], futures, found.z).mean() / unit).item(),
    }
    if isinstance(model.latent, Noisy | Bounded):
        with torch.enable_grad():
            low, high = (searched_energy(model, s_x[:, None], s) / unit for s in (futures, futures[stranger]))
        facts |= {"searched_possible": low.mean().item(), "searched_impossible": high.mean().item()}
        facts |= {"searched_order": order(low, high)}
    return facts


def together(args: argparse.Namespace) -> Result:
    """Learn all at once, in eight ways."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for name, (kind, capacity, informed) in TOGETHER.items():
        for seed in range(args.seed, args.seed + args.seeds):
            model = train_together(kind, capacity, seed, args.epochs, informed=informed)
            runs.setdefault(name, []).append(judge(model, seed))
            print(name, seed, short(runs[name][-1]), flush=True)
    return {}, {"runs": runs}


def sweep(args: argparse.Namespace, kind: str) -> Result:
    """Train predictors with one kind of latent variable, at several capacities."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for capacity in CAPACITIES[kind]:
        for seed in range(args.seed, args.seed + args.seeds):
            passes = args.passes // 2 if kind == "sparse" else args.passes
            model = train_predictor(kind, capacity, seed, args.epochs, passes)
            runs.setdefault(f"{capacity:g}", []).append(judge(model, seed))
            print(kind, capacity, seed, short(runs[f"{capacity:g}"][-1]), flush=True)
    return {}, {"runs": runs}


def short(facts: dict[str, Any]) -> str:
    """Return numbers in a line."""
    return " ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in facts.items())


PARTS: dict[str, Callable[[argparse.Namespace], Result]] = {"together": together} | {
    kind: functools.partial(sweep, kind=kind) for kind in CAPACITIES
}


def main() -> None:
    """Train, measure, store."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=PARTS)
    p.add_argument("--epochs", type=int, default=20, help="through the films, where the encoder learns")
    p.add_argument("--passes", type=int, default=30, help="through the representations, where it does not")
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--seed", type=int, default=0, help="the first")
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    facts = {"command": "python training/jepa_latent.py", "roads": ROADS, "films": TRAIN, "epochs": args.epochs,
             "passes": args.passes, "draws": DRAWS, "log_roads": math.log(ROADS)}  # fmt: skip
    run_parts(PARTS, args, facts)


if __name__ == "__main__":
    main()
