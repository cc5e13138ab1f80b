"""Take BYOL and SimSiam apart on small sprites: one part out, what becomes of the embedding, the part put back.

    python training/distillation.py                      # all ways; writes training/results/distillation.npz and .json
    python training/distillation.py --only "SimSiam"     # one of them; what is stored of the others stays

Each way is trained from several seeds, which draw weights, batches and views; all see the same 3,000 sprites, as many
times. Along the way the embeddings of 1,000 other sprites, at length 1, are judged by the course's thresholds, and the
features by a linear probe; before the first step it judges a random encoder.
"""

import argparse
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from record import run_parts
from sprite_studies import AUGMENTATION, CHANNELS, COUNT, HELD_OUT, sprites
from torch import Tensor
from torch.nn.functional import normalize

from ebm_lib.joint import (
    BYOL,
    Augmentation,
    SimSiam,
    SmallEncoder,
    Views,
    alignment,
    collapse,
    learn,
    linear_probe,
    relative_spread,
    represent,
)
from ebm_lib.joint.methods.base import Method

RESULTS = Path(__file__).parent / "results" / "distillation"
SIZES = {"SimSiam": {"D": 128, "bottleneck": 32}, "BYOL": {"momentum": 0.9}}
WAYS: dict[str, dict[str, Any]] = {
    "SimSiam": {},
    "SimSiam, no predictor": {"predictor": False},
    "SimSiam, no stop-gradient": {"stop_gradient": False},
    "SimSiam, no normalisation in the head": {"batch_norm": False},
    "SimSiam, no normalisation at all": {"batch_norm": False, "encoder": False},
    "SimSiam, stop-gradient back halfway": {"stop_gradient": False, "back": "stop_gradient"},
    "BYOL": {},
    "BYOL, no predictor": {"predictor": False},
    "BYOL, no moving average": {"momentum": None},
    "BYOL, neither moving average nor stop-gradient": {"momentum": None, "stop_gradient": False},
    "BYOL, teacher never moves": {"momentum": 1.0},
    "BYOL, no normalisation at all": {"batch_norm": False, "encoder": False},
}

Result = tuple[dict[str, Tensor], dict[str, Any]]


def build(name: str, seed: int) -> Method:
    """Return the method, in one of the ways, with fresh weights."""
    g = torch.Generator().manual_seed(seed)
    way = {k: v for k, v in WAYS[name].items() if k not in ("encoder", "back")}
    encoder = SmallEncoder(CHANNELS, batch_norm=WAYS[name].get("encoder", True), generator=g)
    kind = name.split(",")[0]
    return {"SimSiam": SimSiam, "BYOL": BYOL}[kind](encoder, generator=g, **SIZES[kind] | way)


@torch.no_grad()
def judge(method: Method, sets: tuple[Tensor, Tensor, Tensor, Tensor], views: Callable) -> dict[str, Any]:
    """Measure features by a probe, and embeddings of pictures that were not learned from."""
    train, labels, test, truth = sets
    training = method.training
    method.eval()
    known, new = represent(method.encoder, train), represent(method.encoder, test)
    pair = [method.head(represent(method.encoder, v)) for v in views(test, torch.Generator().manual_seed(5))]
    z = normalize(method.head(new), dim=1)
    method.train(training)
    found = collapse(z)
    with torch.enable_grad():
        probe = linear_probe(known, labels, new, truth, steps=100).accuracy
    return {
        "probe": round(100 * probe, 2),
        "verdict": found.verdict,
        "spread": round(found.spread, 4),
        "rank": round(found.rank, 2),
        "std": z.std(0).mean().item() * z.shape[1] ** 0.5,  # 1 for points spread evenly over the sphere
        "alignment": alignment(*pair).item(),
        "feature_spread": relative_spread(new).item(),
    }


def way(args: argparse.Namespace, name: str) -> Result:
    """Train in one of the ways, from each seed, and judge at the beginning, at the end, and between."""
    sets = sprites()
    views = Views(*[Augmentation(32, **AUGMENTATION)] * 2)
    runs, losses = [], []
    for seed in range(args.seed, args.seed + args.seeds):
        method, rows = build(name, seed), []

        def look(images: Tensor, generator: torch.Generator, method: Method = method, rows: list = rows) -> None:
            epoch = round(int(method.steps) / (COUNT // args.batch))
            if epoch in args.looks:
                rows.append({"epoch": epoch} | judge(method, sets, views))
            if epoch == args.epochs // 2 and "back" in WAYS[name]:
                setattr(method, WAYS[name]["back"], True)

        method.begin_epoch = look  # called before each pass through the data
        g = torch.Generator().manual_seed(seed)
        options = {"epochs": args.epochs, "batch_size": args.batch, "generator": g, "progress": False}
        history = learn(method, sets[0], views, **options)
        rows.append({"epoch": args.epochs} | judge(method, sets, views))
        losses.append(torch.tensor(history.loss))
        runs.append(rows)
        print(name, seed, rows[-1], flush=True)
    return {"loss": torch.stack(losses)}, {"runs": runs}


PARTS = {name: functools.partial(way, name=name) for name in WAYS}


def main() -> None:
    """Train, measure, store."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=PARTS)
    p.add_argument("--epochs", type=int, default=4)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--looks", type=int, nargs="+", default=[0, 1, 2], help="epochs before which to measure")
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    facts = {"command": "python training/distillation.py", "epochs": args.epochs, "batch": args.batch,
             "count": COUNT, "held_out": HELD_OUT, "channels": CHANNELS}  # fmt: skip
    run_parts(PARTS, args, facts)


if __name__ == "__main__":
    main()
