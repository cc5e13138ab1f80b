"""What does a JEPA keep, and what its generative counterparts? And which of its terms can it do without?

    python training/jepa.py                     # all parts; writes training/results/jepa.npz and .json
    python training/jepa.py --only capacity     # one part; what is stored of the others stays

Films of a disc that moves before a texture: x are the first two frames, y the next two. An auto-encoder (x from x), a
generative predictor (y from x) and a JEPA, with the same encoder, hidden layer, films and number of steps, are judged
by what can be read off s_x on new films, beside an encoder that was never trained: against the texture's strength, the
size of the representation, and how far the texture can be foreseen. Then the JEPA's terms are removed one at a time.
Weights of two models are stored in half precision (``weights``). A seed draws films, weights and batches.
"""

import argparse
import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from readout import explained
from record import run_parts
from torch import Tensor, nn

from ebm_lib import data, jepa
from ebm_lib.joint import Momentum, collapse, learn
from ebm_lib.nn import init_

RESULTS = Path(__file__).parent / "results" / "jepa"
MODELS = ("auto-encoder", "generative", "JEPA")
CENTRE = {"D": 8, "strength": 0.3, "persistence": 0.7}  # what is not varied
SWEEPS: dict[str, list[dict[str, float]]] = {
    "centre": [{}],
    "strength": [{"strength": s} for s in (0.0, 0.15, 0.6)],
    "redrawn": [{"strength": s, "persistence": 0.0} for s in (0.0, 0.15, 0.3, 0.6)],
    "capacity": [{"D": d} for d in (2, 4, 16, 32)],
    "redrawn capacity": [{"D": d, "persistence": 0.0} for d in (2, 4, 16, 32)],
    "persistence": [{"persistence": p} for p in (0.5, 0.9, 1.0)],
}
COUNT, FITTED, JUDGED = 8192, 2000, 1000

Result = tuple[dict[str, Tensor], dict[str, Any]]


class Free:
    """A latent variable that may say all of y and pays nothing."""

    def __init__(self, L: int) -> None:
        self.L = L

    def infer(self, energy: Callable, s_x: Tensor, s_y: Tensor, generator: torch.Generator | None) -> jepa.Inferred:
        """Let z be s_y."""
        return jepa.Inferred(s_y, s_y.new_zeros(s_y.shape[:-1]))

    def sample(self, s_x: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
        """Return what nobody knows the distribution of."""
        raise NotImplementedError


def encoder(D: int, g: torch.Generator, *, normed: bool = False) -> nn.Module:
    """Two frames of 16 × 16 to D numbers; ``normed`` to standardise them over the batch."""
    layers = [nn.Conv2d(2, 16, 5, 2, 2), nn.SiLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.SiLU(), nn.Flatten(),
              nn.Linear(512, 64), nn.SiLU(), nn.Linear(64, D)]  # fmt: skip
    return init_(nn.Sequential(*layers, *([nn.BatchNorm1d(D, affine=False)] if normed else [])), g)


def predictor(D: int, g: torch.Generator, L: int = 0, out: int | None = None) -> nn.Module:
    """One hidden layer."""
    return jepa.Predictor(D, L, out=out, hidden=(64,), generator=g)


VICREG = jepa.variance_covariance
SIGREG = partial(jepa.gaussianity, weight=0.005, slices=64)  # a tenth of the library's default weight


def build(name: str, D: int, g: torch.Generator) -> jepa.JEPA:
    """Return one of the models that are compared."""
    enc = encoder(D, g)
    if name == "JEPA":
        return jepa.JEPA(enc, predictor(D, g), information_x=VICREG, information_y=VICREG)
    return jepa.generative(enc, predictor(D, g, out=512))


def make(
    D: int, g: torch.Generator, *, x: Any = VICREG, y: Any = VICREG, own: bool = False, L: int = 0, **options: Any
) -> jepa.JEPA:
    """Return a JEPA with information terms x and y, which ``own`` gives an encoder of y of its own."""
    target = {"target": encoder(D, g)} if own else {}
    latent = {"latent": Free(L)} if L else {}
    enc, pred = encoder(D, g), predictor(D, g, L)
    return jepa.JEPA(enc, pred, information_x=x, information_y=y, **target, **latent, **options)


def ema(D: int, g: torch.Generator, *, normed: bool = True, predict: bool = True, slow: bool = True) -> jepa.JEPA:
    """Return a JEPA without information terms, whose target follows its encoder."""
    enc = encoder(D, g, normed=normed)
    pred = predictor(D, g) if predict else nn.Identity()
    return jepa.JEPA(enc, pred, target=Momentum(enc, momentum=0.9) if slow else None, stop_gradient=slow)


WAYS: dict[str, Callable[[int, torch.Generator], jepa.JEPA]] = {
    "shared, all": make,
    "shared, no I(x)": partial(make, x=None),
    "shared, no I(y)": partial(make, y=None),
    "shared, neither": partial(make, x=None, y=None),
    "shared, no prediction": partial(make, prediction=0.0),
    "own, all": partial(make, own=True),
    "own, no I(x)": partial(make, own=True, x=None),
    "own, no I(y)": partial(make, own=True, y=None),
    "own, neither": partial(make, own=True, x=None, y=None),
    "own, no prediction": partial(make, own=True, prediction=0.0),
    "variance alone": partial(make, **dict.fromkeys("xy", partial(VICREG, covariance=0.0))),
    "covariance alone": partial(make, **dict.fromkeys("xy", partial(VICREG, variance=0.0))),
    "SIGReg": partial(make, x=SIGREG, y=SIGREG),
    "SIGReg, tenfold": partial(make, **dict.fromkeys("xy", partial(SIGREG, weight=0.05))),
    "EMA": ema,
    "EMA, no predictor": partial(ema, predict=False),
    "EMA, no slow target": partial(ema, slow=False),
    "EMA, not normalised": partial(ema, normed=False),
    "z without price": partial(make, L=CENTRE["D"]),
}


def ahead(films: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """The past and the future."""
    return films[:, :2], films[:, 2:]


def itself(films: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """The past, twice: what an auto-encoder learns from."""
    return films[:, :2], films[:, :2]


def linear(s: Tensor, factor: Tensor) -> float:
    """R² of factors (N, F) from representations (N, D), fitted on some films, on the others."""
    return explained(s[:FITTED], factor[:FITTED], s[FITTED:], factor[FITTED:], penalty=1e-4)


def directions(s: Tensor, features: Tensor) -> float:
    """How many of the whitened directions of s (N, D) are linear functions of features (N, F), counted in parts."""
    s, features = (v.double() - v.double().mean(0) for v in (s, features))
    left, sigma, _ = torch.linalg.svd(s, full_matrices=False)
    basis = torch.linalg.qr(features)[0]
    return (basis.T @ left[:, sigma > 1e-4 * sigma[0]]).square().sum().item()


def cubic(motion: Tensor) -> Tensor:
    """All products of up to three of the standardised variables (N, V)."""
    motion = (motion - motion.mean(0)) / motion.std(0)
    powers = itertools.chain(*(itertools.combinations_with_replacement(range(motion.shape[1]), k) for k in (1, 2, 3)))
    return torch.stack([motion[:, list(columns)].prod(1) for columns in powers], 1)


def rounded(facts: dict[str, Any]) -> dict[str, Any]:
    """The same with four digits behind the point."""
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in facts.items()}


@torch.no_grad()
def judge(model: jepa.JEPA, films: data.TexturedFilms, *, both: bool) -> dict[str, Any]:
    """Measure what representations of new films hold; ``both`` for that of y as well."""
    model.eval()
    x, y = ahead(films.frames)
    found: dict[str, Any] = {}
    sides = {"x": (model.represent(x), 1)} | ({"y": (model.represent_target(y), 3)} if both else {})
    for side, (s, frame) in sides.items():
        state = collapse(s)
        found |= {f"{side}_{k}": v for k, v in state._asdict().items()} | {
            f"{side}_position": linear(s, films.place[:, frame]),
            f"{side}_velocity": linear(s, films.velocity),
            f"{side}_texture": linear(s, films.texture[:, frame]),
        }
    s = sides["x"][0]
    found["motion_directions"] = directions(s, cubic(torch.cat([films.place[:, 1], films.velocity], 1)))
    found["texture_directions"] = directions(s, films.texture[:, :2].flatten(1))
    return rounded(found)


def world(seed: int, strength: float, persistence: float, count: int = COUNT) -> data.TexturedFilms:
    """Films by seed."""
    g = torch.Generator().manual_seed(seed)
    return data.textured_films(count, strength=strength, persistence=persistence, generator=g)


def train(args: argparse.Namespace, model: jepa.JEPA, films: Tensor, views: Callable, g: torch.Generator) -> None:
    """Train with the settings that all runs share."""
    learn(model, films, views, epochs=args.epochs, batch_size=args.batch, lr=args.lr, generator=g, progress=False)


def sweep(args: argparse.Namespace, points: list[dict[str, float]]) -> Result:
    """Train the three models at each point, from each seed, and judge s_x."""
    runs = []
    for point, seed in itertools.product(points, range(args.seed, args.seed + args.seeds)):
        at = CENTRE | point
        films = world(100 + seed, at["strength"], at["persistence"])
        new = world(999, at["strength"], at["persistence"], FITTED + JUDGED)
        for name in MODELS:
            g = torch.Generator().manual_seed(seed)
            model = build(name, at["D"], g)
            if name == "JEPA":
                runs.append({"model": "untrained", **at, "seed": seed} | judge(model, new, both=False))
                model.train()
            train(args, model, films.frames, itself if name == "auto-encoder" else ahead, g)
            runs.append({"model": name, **at, "seed": seed} | judge(model, new, both=False))
            print(runs[-1], flush=True)
    return {}, {"runs": runs}


def ablate(args: argparse.Namespace, name: str) -> Result:
    """Train in one of the ways, where the texture is drawn anew in each frame, and judge s_x, s_y and the energy."""
    runs, at = [], CENTRE | {"persistence": 0.0}
    new = world(999, at["strength"], at["persistence"], FITTED + JUDGED)
    x, y = ahead(new.frames)
    for seed in range(args.seed, args.seed + args.seeds):
        g = torch.Generator().manual_seed(seed)
        model = WAYS[name](at["D"], g)
        train(args, model, world(100 + seed, at["strength"], at["persistence"]).frames, ahead, g)
        facts = judge(model, new, both=True)
        with torch.no_grad():
            pairs, strangers = (model.free_energy(x, other).mean().item() for other in (y, y.roll(1, 0)))
        facts |= {"pairs": float(f"{pairs:.3g}"), "strangers": float(f"{strangers:.3g}")}
        runs.append({"seed": seed} | facts)
        print(name, runs[-1], flush=True)
    return {}, {"runs": runs}


def keep(args: argparse.Namespace) -> Result:
    """Train a generative model and a JEPA where the texture is drawn anew in each frame, and store their weights."""
    films, arrays = world(100 + args.seed, CENTRE["strength"], 0.0).frames, {}
    for name in ("generative", "JEPA"):
        g = torch.Generator().manual_seed(args.seed)
        model = build(name, CENTRE["D"], g)
        train(args, model, films, ahead, g)
        arrays |= {f"{name}.{k}": v for k, v in model.state_dict().items() if v.is_floating_point()}
    return arrays, {"models": ["generative", "JEPA"]}


PARTS = {
    **{name: partial(sweep, points=points) for name, points in SWEEPS.items()},
    **{name: partial(ablate, name=name) for name in WAYS},
    "weights": keep,
}


def main() -> None:
    """Train, measure, store."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=PARTS)
    p.add_argument("--epochs", type=int, default=8)
    p.add_argument("--batch", type=int, default=256)
    p.add_argument("--lr", type=float, default=4e-3)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    facts = {"command": "python training/jepa.py", "epochs": args.epochs, "batch": args.batch, "lr": args.lr,
             "count": COUNT, "held_out": FITTED + JUDGED, "centre": CENTRE}  # fmt: skip
    run_parts(PARTS, args, facts)


if __name__ == "__main__":
    main()
