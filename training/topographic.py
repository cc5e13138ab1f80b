"""Learn topographic maps of natural patches: group sparsity with overlapping pools on a torus of 16 by 16 units.

    python training/topographic.py                       # all sheets, one after the other
    python training/topographic.py --only "blocks of 3"  # one kind; the others stay as they are in the file

writes ``training/results/topographic.npz`` (dictionaries in half precision) and ``.json`` (what was measured,
command, seeds, time). Patches of 12 by 12 pixels to learn from come from the left four fifths of ten photographs, and
what is measured is measured on patches from the right fifth. The photographs are whitened as a whole and without their
finest detail; the flattest fifth of the patches is dropped and the others scaled to a coordinate's variance of one.
The kinds differ in the pools only, and in a price that lets each explain about as much:

``blocks of 3``   a pool of 3 by 3 units for every unit; five seeds, all of them stored
``alone``         every unit is its own pool: ordinary sparse coding with rounded corners; two seeds, one stored
``blocks of 2``   smaller pools; two seeds
``blocks of 6``   larger pools, as large as the lectures'; two seeds, one stored
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from record import machine, stored, write
from torch import Tensor

from ebm_lib import data
from ebm_lib.latent import fit_gabor
from ebm_lib.latent.sparse import (
    GroupSparseCoding,
    map_smoothness,
    orientation_map,
    pinwheel_centers,
    torus_pools,
)

RESULTS = Path(__file__).parent / "results" / "topographic"
SIDE, PATCH = 16, 12
CUTOFF = 0.25  # cycles per pixel: finer detail of the photographs is mostly noise
SHUFFLES = 1000


class Kind(NamedTuple):
    """One kind of sheet: the width of its pools, its price, how many seeds, and how many of them to store."""

    size: int
    lam: float
    seeds: int = 2
    stored: int = 0


KINDS = {
    "blocks of 3": Kind(3, 2.5, seeds=5, stored=5),
    "alone": Kind(1, 4.5, stored=1),
    "blocks of 2": Kind(2, 2.9),
    "blocks of 6": Kind(6, 2.0, stored=1),
}


def cut(seed: int, n: int, *, held_out: bool = False) -> Tensor:
    """Patches without their mean, from the left four fifths of each whitened photograph or from the right fifth."""
    pictures = []
    for picture in data.load_photographs().values():
        white, edge = data.whiten_picture(picture, cutoff=CUTOFF), round(0.8 * picture.shape[2])
        pictures.append(white[:, :, edge:] if held_out else white[:, :, :edge])
    y = data.cut_patches(pictures, n, PATCH, generator=torch.Generator().manual_seed(seed))
    return even_contrast(y - y.mean(-1, keepdim=True))


def even_contrast(y: Tensor) -> Tensor:
    """Drop the flattest fifth; scale the others so that a coordinate has variance one."""
    length = y.norm(dim=-1, keepdim=True)
    return (y.shape[1] ** 0.5 * y / length)[(length > length.quantile(0.2))[:, 0]]


def judge(model: GroupSparseCoding, other: Tensor, generator: torch.Generator) -> dict[str, float]:
    """What the sheet explains, how good its filters are, and how its orientations lie."""
    z = model.infer(other, steps=100)
    filters = model.W.detach().T
    orientation = orientation_map(filters, (PATCH, PATCH))
    angle = orientation.angle.reshape(SIDE, SIDE)
    order = torch.stack([torch.randperm(SIDE * SIDE, generator=generator) for _ in range(SHUFFLES)])
    shuffled = orientation.angle[order].reshape(SHUFFLES, SIDE, SIDE)
    pinwheels = int((pinwheel_centers(angle) != 0).sum())
    among_shuffled = (pinwheel_centers(shuffled) != 0).sum((-2, -1)).float()
    fit = fit_gabor(filters.reshape(-1, PATCH, PATCH))
    return {
        "energy": round(model.energy(other, z).mean().item(), 2),
        "explained": round(1 - ((other - model.decode(z)).square().sum() / other.square().sum()).item(), 3),
        "gabor_share": round((fit.r2 >= 0.5).float().mean().item(), 3),
        "selectivity": round(orientation.selectivity.median().item(), 3),
        "smoothness": round(map_smoothness(angle).item(), 3),
        "smoothness_shuffled": round(map_smoothness(shuffled).max().item(), 3),
        "pinwheels": pinwheels,
        "pinwheels_shuffled": round(among_shuffled.mean().item(), 1),
        "fewest_shuffled": int(among_shuffled.min()),
    }


@torch.no_grad()
def learn(kind: Kind, args: argparse.Namespace) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """All seeds of one kind: the dictionaries to store and a line of facts for each."""
    y, other = cut(0, args.patches), cut(1, 1250, held_out=True)
    stored, rows = {}, []
    for seed in range(kind.seeds):
        begun = time.perf_counter()
        g = torch.Generator().manual_seed(seed)
        pools = torus_pools(SIDE, SIDE, kind.size)
        model = GroupSparseCoding(PATCH**2, pools, lam=kind.lam, generator=g)
        record = model.learn(y, rounds=args.rounds, batch_size=256, steps=30, min_gain=0, generator=g, progress=False)
        seconds = time.perf_counter() - begun
        loss = [round(value, 2) for value in record.loss]
        rows.append({"seed": seed, "seconds": round(seconds, 1), "loss": loss, **judge(model, other, g)})
        print(rows[-1], flush=True)
        if seed < kind.stored:
            stored[f"W_{seed}"] = model.W.detach()
    return stored, rows


def main() -> None:
    """Learn, judge, store."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=KINDS)
    p.add_argument("--patches", type=int, default=10_000)
    p.add_argument("--rounds", type=int, default=6)
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    torch.set_num_threads(1)
    for name in [args.only] if args.only else KINDS:
        begun, kind = time.perf_counter(), KINDS[name]
        arrays, rows = learn(kind, args)
        kept, facts = stored(args.out, without=name)
        kept |= {f"{name}/{key}": value.numpy().astype(np.float16) for key, value in arrays.items()}
        facts.setdefault("kinds", {})[name] = {
            "size": kind.size,
            "lam": kind.lam,
            "seconds": round(time.perf_counter() - begun, 1),
            "seeds": rows,
        }
        facts |= {
            "command": "python training/topographic.py",
            "side": SIDE,
            "patch": PATCH,
            "cutoff": CUTOFF,
            "patches": args.patches,
            "rounds": args.rounds,
            "shuffles": SHUFFLES,
            **machine(),
        }
        size = write(args.out, kept, facts)
        print(name, facts["kinds"][name]["seconds"], "s", size, "bytes")


if __name__ == "__main__":
    main()
