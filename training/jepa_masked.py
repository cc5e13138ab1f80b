"""Masked pictures and films: train JEPA's variants, a masked auto-encoder and VICReg alike, and ask what each keeps.

    python training/jepa_masked.py                          # all; writes training/results/jepa_masked.npz and .json
    python training/jepa_masked.py --only "pictures: EMA"   # one of them; what is stored of the others stays

Each way is trained from several seeds, which draw weights, batches, masks and views. Pictures: the same encoder, 4,000
sprites, as many passes; judged on 1,000 others by probes of the patches' mean, and by how much of the representation
differs between pictures. Films: moving digits; judged by probes of a frame, or of two, and by the shape of the paths.
"""

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from readout import explained
from record import run_parts
from sprite_studies import AUGMENTATION
from torch import Tensor, nn

from ebm_lib import data, joint
from ebm_lib.jepa import (
    FramePredictor,
    MaskedJEPA,
    PatchEncoder,
    PatchPredictor,
    Pixels,
    Pooled,
    VideoJEPA,
    block_masks,
    gaussianity,
    masked_views,
    place_free,
    scattered_masks,
    split_film,
    variance_covariance,
)
from ebm_lib.nn import init_

RESULTS = Path(__file__).parent / "results" / "jepa_masked"
SIZE, PATCH = 24, 4
GRID = SIZE // PATCH
DIM, LAYERS, HIDDEN = 48, 2, 96
COUNT, HELD_OUT = 4000, 1000
JUDGES = 2026  # the seed of what is judged by: settings were chosen on other draws
STRONG = functools.partial(variance_covariance, covariance=1.0)
GAUSS = functools.partial(gaussianity, slices=64)
BLOCKS = functools.partial(block_masks, grid=GRID)
SCATTERED = functools.partial(scattered_masks, grid=GRID, hidden=0.55)  # as many patches are seen, on average
PICTURES: dict[str, dict[str, Any]] = {
    "random encoder": {},
    "VICReg, augmented views": {},
    "masked auto-encoder": {"target": "pixels"},
    "EMA": {"target": "slow"},
    "EMA + VICReg": {"target": "slow", "information_x": variance_covariance},
    "shared + VICReg": {"information_y": variance_covariance},
    "shared + VICReg, stronger": {"information_x": STRONG, "information_y": STRONG},
    "shared + SIGReg": {"information_y": GAUSS},
    "shared, nothing else": {},
    "teacher never moves": {"target": "fixed"},
    "EMA + VICReg, scattered": {"target": "slow", "information_x": variance_covariance, "draw": SCATTERED},
    "masked auto-encoder, scattered": {"target": "pixels", "draw": SCATTERED},
}
T, PAST, D = 10, 4, 16
FILMS, NEW_FILMS = 1500, 1000
LOOK = 5  # the frame that is probed, and the one before it
BOTH = {"information_x": functools.partial(variance_covariance, covariance=1.0)}
BOTH["information_y"] = BOTH["information_x"]
PATHS: dict[str, dict[str, Any]] = {
    "random encoder": {},
    "prediction": BOTH,
    "prediction, slow": BOTH | {"slowness": 5.0},
    "prediction, linear": BOTH | {"linearity": 5.0},
    "prediction, straight": BOTH | {"curvature": 1.0},
    "slow alone": BOTH | {"slowness": 5.0, "prediction": 0.0},
    "EMA": {"target": "slow"},
    "nothing else": {},
}

Result = tuple[dict[str, Tensor], dict[str, Any]]


def seeded(seed: int) -> torch.Generator:
    """Return a generator."""
    return torch.Generator().manual_seed(seed)


def r2(known: Tensor, wanted: Tensor, new: Tensor, truth: Tensor) -> float:
    """Return the share of the variance of factors, (N, K), that a linear readout explains, in percent."""
    return round(100 * explained(known, wanted, new, truth, penalty=1e-3), 2)


@functools.cache
def sprites(held_out: bool) -> data.Sprites:
    """Return pictures to learn from, or to judge by: a draw of their own, on which nothing was chosen."""
    return data.sprites(HELD_OUT if held_out else COUNT, size=SIZE, generator=seeded(JUDGES if held_out else 0))


def build(name: str, seed: int) -> tuple[joint.Method | None, PatchEncoder, Callable | None]:
    """Return a method with fresh weights, its encoder, and how it draws its views."""
    g, way = seeded(seed), dict(PICTURES[name])
    encoder = PatchEncoder(GRID, PATCH, DIM, 4, LAYERS, hidden=HIDDEN, generator=g)
    if name == "random encoder":
        return None, encoder, None
    if name.startswith("VICReg"):
        views = joint.Views(*[joint.Augmentation(SIZE, **AUGMENTATION)] * 2)
        return joint.VICReg(Pooled(encoder), D=128, hidden=128, generator=g), encoder, views
    target, draw = way.pop("target", None), way.pop("draw", BLOCKS)
    made = {"pixels": lambda: Pixels(PATCH), "slow": lambda: joint.Momentum(encoder, momentum=0.99),
            "fixed": lambda: joint.Momentum(encoder, momentum=1.0), None: lambda: None}[target]()  # fmt: skip
    predictor = PatchPredictor(GRID, DIM, out=3 * PATCH**2 if target == "pixels" else None, generator=g)
    return MaskedJEPA(encoder, predictor, target=made, **way), encoder, masked_views(draw)


@torch.no_grad()
def judge(method: joint.Method | None, encoder: PatchEncoder, draw: Callable) -> dict[str, Any]:
    """Probe the mean of the patches' representations; measure what differs between pictures; and the energy."""
    learnt, judged = sprites(False), sprites(True)
    known, new = (joint.represent(Pooled(encoder), drawn.images) for drawn in (learnt, judged))
    s = joint.represent(encoder, judged.images)
    with torch.enable_grad():
        probe = joint.linear_probe(known, learnt.labels, new, judged.labels, penalty=1e-3, steps=100)
    free = place_free(s)
    spread = (free.square().sum() / s.square().sum()).sqrt().item()
    rank = joint.effective_rank(free[:: GRID // 2], center=True).item()
    facts = {
        "probe": round(100 * probe.accuracy, 2),
        "spread": round(spread, 4),
        "rank": round(rank, 2),
        "verdict": "complete" if spread < 0.1 else "dimensional" if rank < 2 else "none",
    }
    for factor in ("place", "radius", "ground", "figure"):
        wanted, truth = (getattr(drawn, factor).reshape(len(drawn.images), -1) for drawn in (learnt, judged))
        facts[factor] = r2(known, wanted, new, truth)
    if isinstance(method, MaskedJEPA):
        x = judged.images
        energy = method.energy(x, x, draw(HELD_OUT, generator=seeded(7))).mean().item()
        variance = place_free(method.represent_target(x)).square().mean().item()
        facts |= {"energy": energy, "relative": energy / max(variance, 1e-12)}
    return facts


def picture(args: argparse.Namespace, name: str) -> Result:
    """Train on pictures in one of the ways, from each seed, and judge at the end; keep the weights of the first."""
    runs, arrays = [], {}
    for seed in range(args.seed, args.seed + args.seeds):
        method, encoder, views = build(name, seed)
        if method is not None:
            options = {"epochs": args.epochs, "batch_size": args.batch, "lr": args.lr, "progress": False}
            history = joint.learn(method, sprites(False).images, views, generator=seeded(seed), **options)
            arrays[f"loss/{seed}"] = torch.tensor(history.loss)
            if seed == args.seed and name in ("EMA + VICReg", "masked auto-encoder"):
                arrays |= {f"weights/{key}": value for key, value in method.state_dict().items()}
        runs.append(judge(method, encoder, PICTURES[name].get("draw", BLOCKS)))
        print(name, seed, runs[-1], flush=True)
    return arrays, {"runs": runs}


@functools.cache
def films(held_out: bool) -> data.Journeys:
    """Return films to learn from, or to judge by: held-out digits, and a draw on which nothing was chosen."""
    g = seeded(JUDGES if held_out else 0)
    return data.digit_journeys(NEW_FILMS if held_out else FILMS, T, held_out=held_out, generator=g)


def frame_encoder(g: torch.Generator) -> nn.Module:
    """Return a small convolutional network of one frame."""
    layers = [nn.Unflatten(1, (1, 16)), nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()]
    return init_(nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 128), nn.ReLU(), nn.Linear(128, D)), g)


@torch.no_grad()
def judge_paths(model: VideoJEPA) -> dict[str, Any]:
    """Ask what frames, and pairs of them, say; and what the paths look like."""
    known, new = films(False), films(True)
    s, t = (
        joint.represent(model.encoder, f.frames.flatten(0, 1)).unflatten(0, f.frames.shape[:2]) for f in (known, new)
    )
    frame, pair = (lambda s: s[:, LOOK]), (lambda s: s[:, LOOK - 1 : LOOK + 1].flatten(1))

    def named(look: Callable, labels: Callable) -> float:
        with torch.enable_grad():
            return round(
                100 * joint.linear_probe(look(s), labels(known), look(t), labels(new), penalty=1e-3).accuracy, 2
            )

    everything = t.flatten(0, 1)
    length = 2 * everything.var(0).sum()
    return {
        "place": r2(frame(s), known.place[:, LOOK], frame(t), new.place[:, LOOK]),
        "velocity": r2(pair(s), known.place.diff(dim=1)[:, LOOK - 1], pair(t), new.place.diff(dim=1)[:, LOOK - 1]),
        "digit": named(frame, lambda f: f.labels),
        "goal": named(pair, lambda f: f.corner[:, LOOK]),
        "bend": joint.bend(t.double() + 1e-9 * torch.randn(t.shape, generator=seeded(3), dtype=torch.float64))
        .mean()
        .item(),
        "linear": joint.linear_predictability(t).item(),
        "step": (t.diff(dim=1).square().sum(-1).mean() / length).item(),
        "rank": joint.effective_rank(everything, center=True).item(),
        "spread": joint.relative_spread(everything).item(),
        "energy": model.energy(new.frames[:, :PAST], new.frames[:, PAST:]).mean(0).tolist(),
    }


def path(args: argparse.Namespace, name: str) -> Result:
    """Train on films in one of the ways, from each seed, and judge."""
    runs, arrays = [], {}
    for seed in range(args.seed, args.seed + args.seeds):
        g, way = seeded(seed), dict(PATHS[name])
        encoder = frame_encoder(g)
        target = joint.Momentum(encoder, momentum=0.99) if way.pop("target", None) else None
        model = VideoJEPA(encoder, FramePredictor(PAST, T - PAST, D, generator=g), target=target, **way)
        if name != "random encoder":
            options = {"epochs": args.film_epochs, "batch_size": 64, "lr": args.lr, "progress": False}
            history = joint.learn(model, films(False).frames, split_film(PAST), generator=seeded(seed), **options)
            arrays[f"loss/{seed}"] = torch.tensor(history.loss)
        runs.append(judge_paths(model))
        print(name, seed, runs[-1], flush=True)
    return arrays, {"runs": runs}


PARTS = {f"pictures: {name}": functools.partial(picture, name=name) for name in PICTURES}
PARTS |= {f"films: {name}": functools.partial(path, name=name) for name in PATHS}


def main() -> None:
    """Train, measure, store."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=PARTS)
    p.add_argument("--epochs", type=int, default=8, help="passes through the pictures")
    p.add_argument("--film-epochs", type=int, default=10, help="passes through the films")
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    facts = {"command": "python training/jepa_masked.py", "epochs": args.epochs, "film_epochs": args.film_epochs,
             "batch": args.batch, "lr": args.lr, "count": COUNT, "held_out": HELD_OUT, "size": SIZE, "patch": PATCH,
             "dim": DIM, "layers": LAYERS, "hidden": HIDDEN, "films": FILMS, "frames": T, "past": PAST}  # fmt: skip
    run_parts(PARTS, args, facts)


if __name__ == "__main__":
    main()
