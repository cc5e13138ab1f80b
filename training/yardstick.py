"""Measure the low-energy volume of every model of chapter 5 on the same points of the plane.

    python training/yardstick.py                     # writes training/results/yardstick.npz and yardstick.json
    python training/yardstick.py --only flow PCA     # some models, or --parts eye/moons; what is stored else stays

Each model learns 500 points and is judged by 1,000 others: the share of the square from -2.5 to 2.5, in 60 × 60 cells,
where its energy is at most the 0.9-quantile of theirs plus a tolerance of 0.001 (ebm_lib.latent.low_energy_volume).
A seed draws the points, the weights and the batches. Three data sets: two moons, two rings, eight Gaussians in a ring.

The moons are learned twice where that makes sense: the points themselves ("plane"), and what a retina of 7 × 7
receptors makes of them ("eye", 49 numbers a point), for in the plane a linear decoder is too poor for curves. Settings
were chosen by hand on moons, and are the same for all seeds and data sets.

Stored: all shares, and of the first seed of the moons the energies of all cells as ranks, in eight bits, with which
cells are inside.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from record import machine, write
from torch import Tensor

from ebm_lib import data, latent, score
from ebm_lib.energy import Energy, grid
from ebm_lib.latent import low_energy_volume, sparse
from ebm_lib.nn import MLP, EnergyMLP
from ebm_lib.train import fit

RESULTS = Path(__file__).parent / "results" / "yardstick"
CELLS = grid([-2.5, -2.5], [2.5, 2.5], 60)
RECEPTORS = grid([-3.0, -3.0], [3.0, 3.0], 7).points
PARTS = ["plane/moons", "eye/moons", "plane/rings", "plane/gaussians"]
SEEDS = {"moons": 3, "rings": 2, "gaussians": 2}
Maker = Callable[[Tensor, int], Energy]


class Entry(NamedTuple):
    """A model of the table: which family it is of, what limits it, and how to learn it on 2 and on 49 numbers."""

    family: str
    limit: str
    plane: Maker | None
    eye: Maker | None


def seeded(seed: int) -> torch.Generator:
    """Return a generator of this seed."""
    return torch.Generator().manual_seed(seed)


def points(name: str, n: int, seed: int) -> Tensor:
    """Points of one of the three data sets, (n, 2)."""
    generator = seeded(seed)
    if name == "moons":
        return 1.4 * (data.two_moons(n, noise=0.08, generator=generator) - torch.tensor([0.5, 0.25]))
    if name == "rings":
        return data.rings(n, radii=(0.8, 1.8), noise=0.08, generator=generator)
    return data.ring_of_gaussians(n, radius=1.8, noise=0.15, generator=generator)


def look(y: Tensor) -> Tensor:
    """What the retina makes of points y (..., 2): (..., 49)."""
    return torch.exp(-2 * (y[..., None, :] - RECEPTORS).square().sum(-1))


def learned(make: Callable[[torch.Generator], torch.nn.Module], **options: object) -> Maker:
    """A maker that builds a model with a generator and lets it learn with another of the same seed."""

    def maker(y: Tensor, seed: int) -> Energy:
        model = make(seeded(seed))
        model.learn(y, generator=seeded(seed), **options)
        return model

    return maker


def closed(make: Callable[[torch.Generator], torch.nn.Module]) -> Maker:
    """A maker for models whose learning draws nothing."""

    def maker(y: Tensor, seed: int) -> Energy:
        model = make(seeded(seed))
        model.learn(y)
        return model

    return maker


def sparsely(make: Callable[[torch.Generator], torch.nn.Module], rounds: int, search: dict, **learning: int) -> Maker:
    """A maker for dictionaries, whose inference takes the same options in learning and in use."""

    def maker(y: Tensor, seed: int) -> Energy:
        model = make(seeded(seed))
        model.learn(y, rounds=rounds, generator=seeded(seed), progress=False, **search, **learning)
        return lambda p: model.energy(p, model.infer(p, **search))

    return maker


class FewAtoms(sparse.LinearDecoder):
    """L0: at most n atoms at a time, found greedily; R is 0 there and infinite elsewhere."""

    def __init__(self, D: int, K: int, atoms: int, generator: torch.Generator) -> None:
        super().__init__(D, K, lam=1.0, generator=generator)
        self.atoms = atoms

    def price(self, z: Tensor) -> Tensor:
        """Return 0."""
        return torch.zeros_like(z[..., 0])

    def infer(self, y: Tensor) -> Tensor:
        """Return the code of orthogonal matching pursuit."""
        return sparse.orthogonal_matching_pursuit(y, self.W.detach(), self.atoms)


def by_scores(y: Tensor, seed: int) -> Energy:
    """A network whose energy is learned by denoising score matching."""
    generator = seeded(seed)
    energy = EnergyMLP((2,), (64, 64), activation="silu", generator=generator)
    fit(
        energy,
        lambda F, y: score.denoising_score_matching(F, y, 0.15, generator=generator).mean(),
        y,
        steps=1500,
        batch_size=100,
        lr=3e-3,
        generator=generator,
        progress=False,
    )
    return energy


def quantised(D: int, L: int, K: int) -> Callable[[torch.Generator], torch.nn.Module]:
    """Build VQ auto-encoders of D numbers with K code vectors of L numbers."""
    return lambda g: latent.VQAutoEncoder(MLP((D, 64, L), generator=g), MLP((L, 64, D), generator=g), L, K, generator=g)


STEPS = {"steps": 1000, "lr": 3e-3, "batch_size": 100}
FASTER = {"lr": 1e-2}
FINE, SLOW = {"tol": 1e-3}, {"steps": 100}
A1, A2, A3, A4, NONE = "A1", "A2", "A3", "A4", "none"
MODELS = {
    "free z, linear": Entry(
        NONE,
        "nothing",
        learned(lambda g: latent.Unregularized(2, 2, generator=g), steps=40, lr=2e-2, batch_size=100),
        learned(lambda g: latent.Unregularized(49, 60, generator=g), steps=40, lr=2e-2, batch_size=100),
    ),
    "free z, deep": Entry(
        NONE,
        "nothing",
        learned(
            lambda g: latent.Unregularized(2, 2, (32, 32), activation="tanh", generator=g),
            steps=100,
            lr=2e-2,
            batch_size=100,
        ),
        None,
    ),
    "wide auto-encoder": Entry(
        NONE,
        "nothing but its training",
        learned(lambda g: latent.AutoEncoder(2, 32, (64,), generator=g), **STEPS),
        learned(lambda g: latent.AutoEncoder(49, 64, (64,), generator=g), **STEPS),
    ),
    "PCA": Entry(
        A1,
        "dimension",
        closed(lambda g: latent.PCA(2, 1, generator=g)),
        closed(lambda g: latent.PCA(49, 10, generator=g)),
    ),
    "linear auto-encoder, tied": Entry(
        A1,
        "dimension",
        learned(lambda g: latent.LinearAutoEncoder(2, 1, tied=True, generator=g), **STEPS | FASTER),
        learned(lambda g: latent.LinearAutoEncoder(49, 10, tied=True, generator=g), **STEPS | FASTER),
    ),
    "linear auto-encoder, untied": Entry(
        A1,
        "dimension",
        learned(lambda g: latent.LinearAutoEncoder(2, 1, generator=g), **STEPS | FASTER),
        learned(lambda g: latent.LinearAutoEncoder(49, 10, generator=g), **STEPS | FASTER),
    ),
    "bottleneck auto-encoder": Entry(
        A1,
        "dimension",
        learned(lambda g: latent.AutoEncoder(2, 1, (64, 64), generator=g), **STEPS | FASTER),
        learned(lambda g: latent.AutoEncoder(49, 1, (64, 64), generator=g), **STEPS),
    ),
    "implicit rank": Entry(
        A1,
        "effective dimension",
        learned(lambda g: latent.AutoEncoder(2, 16, (64,), extra_linear=4, generator=g), **STEPS),
        learned(lambda g: latent.AutoEncoder(49, 16, (64,), extra_linear=4, generator=g), **STEPS),
    ),
    "K-means": Entry(
        A1,
        "20 prototypes",
        learned(lambda g: latent.KMeans(2, 20, generator=g), restarts=5),
        learned(lambda g: latent.KMeans(49, 20, generator=g), restarts=5),
    ),
    "Gaussian mixture": Entry(
        A1,
        "normalised",
        learned(lambda g: latent.GaussianMixture(2, 10, generator=g), restarts=3),
        learned(
            lambda g: latent.GaussianMixture(49, 10, covariance="spherical", generator=g), restarts=3, reg_covar=1e-3
        ),
    ),
    "VQ auto-encoder": Entry(
        A1,
        "20 codes",
        learned(quantised(2, 2, 20), **STEPS),
        learned(quantised(49, 2, 20), **STEPS),
    ),
    "flow": Entry(
        A1,
        "normalised",
        learned(lambda g: latent.Flow(2, 6, (64, 64), generator=g), steps=800, progress=False),
        None,
    ),
    "square ICA": Entry(A1, "normalised", closed(lambda g: latent.ICA(2, generator=g)), None),
    "fixed prior": Entry(
        A1,
        "entropy of the prior",
        learned(
            lambda g: latent.FixedPrior(
                2, latent.latent_prior("normal", 2, 512, generator=g), beta=50.0, hidden=(64, 64), generator=g
            ),
            steps=1000,
            lr=3e-3,
            batch_size=100,
        ),
        learned(
            lambda g: latent.FixedPrior(
                49, latent.latent_prior("normal", 2, 512, generator=g), beta=50.0, hidden=(64, 64), generator=g
            ),
            steps=1000,
            lr=3e-3,
            batch_size=100,
        ),
    ),
    "L0, matching pursuit": Entry(
        A2,
        "few atoms",
        sparsely(lambda g: FewAtoms(2, 8, 1, g), 10, {}),
        sparsely(lambda g: FewAtoms(49, 60, 2, g), 6, {}),
    ),
    "L1": Entry(
        A2,
        "price of the code",
        sparsely(lambda g: sparse.SparseCoding(2, 8, lam=0.3, generator=g), 10, FINE),
        sparsely(lambda g: sparse.SparseCoding(49, 60, lam=0.3, generator=g), 6, FINE),
    ),
    "L1, atoms free": Entry(
        A2,
        "void",
        sparsely(lambda g: sparse.SparseCoding(2, 8, lam=0.3, normalize=False, generator=g), 300, FINE, min_gain=0),
        sparsely(lambda g: sparse.SparseCoding(49, 60, lam=0.3, normalize=False, generator=g), 60, FINE, min_gain=0),
    ),
    "lateral inhibition": Entry(
        A2,
        "rivals",
        sparsely(
            lambda g: sparse.InhibitedSparseCoding(2, sparse.competition(8, 8, 1.0), lam=0.03, generator=g), 10, SLOW
        ),
        sparsely(
            lambda g: sparse.InhibitedSparseCoding(49, sparse.competition(60, 20, 1.0), lam=0.03, generator=g), 6, SLOW
        ),
    ),
    "group sparsity": Entry(
        A2,
        "price of a pool",
        sparsely(lambda g: sparse.GroupSparseCoding(2, sparse.disjoint_pools(8, 2), lam=0.3, generator=g), 10, SLOW),
        sparsely(lambda g: sparse.GroupSparseCoding(49, sparse.disjoint_pools(60, 3), lam=0.3, generator=g), 6, SLOW),
    ),
    "variance-regularised": Entry(
        A2,
        "price, variance kept",
        learned(lambda g: sparse.VarianceSparseCoding((6, 32, 2), lam=0.1, generator=g), steps=150, progress=False),
        learned(lambda g: sparse.VarianceSparseCoding((20, 64, 49), lam=0.05, generator=g), steps=150, progress=False),
    ),
    "sparse auto-encoder": Entry(
        A2,
        "price, in learning",
        learned(lambda g: latent.SparseAutoEncoder(2, 32, (64,), lam=0.1, generator=g), **STEPS),
        learned(lambda g: latent.SparseAutoEncoder(49, 60, (64,), lam=0.1, generator=g), **STEPS),
    ),
    "PSD": Entry(
        A2,
        "price and prediction",
        learned(lambda g: sparse.PSD(2, 8, lam=0.3, generator=g), progress=False),
        learned(lambda g: sparse.PSD(49, 60, lam=0.3, generator=g), progress=False),
    ),
    "contractive auto-encoder": Entry(
        A3,
        "slope of G",
        learned(
            lambda g: latent.ContractiveAutoEncoder(
                2, 32, (64,), lam=0.1, of="reconstruction", code="linear", weights="free", generator=g
            ),
            **STEPS,
        ),
        learned(
            lambda g: latent.ContractiveAutoEncoder(
                49, 64, (64,), lam=0.1, of="reconstruction", code="linear", weights="free", generator=g
            ),
            **STEPS | {"steps": 400},
        ),
    ),
    "saturating auto-encoder": Entry(
        A3,
        "flat units",
        learned(lambda g: latent.SaturatingAutoEncoder(2, 32, (64,), lam=0.03, generator=g), **STEPS),
        learned(lambda g: latent.SaturatingAutoEncoder(49, 60, (64,), lam=0.03, generator=g), **STEPS),
    ),
    "score matching": Entry(A4, "slope and curvature", by_scores, None),
}


def true_distance(name: str) -> Energy:
    """Squared distance to where the points lie before their noise."""
    if name == "gaussians":
        centres = data.ring_means(radius=1.8)
    else:
        centres = {
            "moons": lambda: 1.4 * (data.two_moons(2000, noise=0.0, generator=seeded(5)) - torch.tensor([0.5, 0.25])),
            "rings": lambda: data.rings(2000, radii=(0.8, 1.8), noise=0.0, generator=seeded(5)),
        }[name]()
    return lambda y: torch.cdist(y, centres).square().amin(-1)


def measure(entry: Entry, view: str, name: str, seed: int) -> tuple[latent.LowEnergyVolume, Tensor]:
    """Learn and judge: the volume, and the energy of every cell."""
    y, fresh = points(name, 500, 10 * seed), points(name, 1000, 10 * seed + 1)
    see = look if view == "eye" else lambda p: p
    energy = getattr(entry, view)(see(y), seed)

    def seen(p: Tensor) -> Tensor:
        return energy(see(p))

    volume = low_energy_volume(seen, fresh, CELLS)
    with torch.no_grad():
        values = torch.cat([seen(block) for block in CELLS.points.split(1200)])
    return volume, values


def ranks(values: Tensor) -> np.ndarray:
    """Energies as their ranks over the box, in eight bits: a picture that no scale can hide anything in."""
    order = values.argsort().argsort().double() / (len(values) - 1)
    return (255 * order).round().to(torch.uint8).numpy()


def store(out: Path, arrays: dict[str, np.ndarray], rows: dict) -> None:
    """Write what has been measured so far."""
    truth = {
        name: round(low_energy_volume(true_distance(name), points(name, 1000, 1), CELLS).share, 4) for name in SEEDS
    }
    facts = {
        "models": {model: rows[model] for model in MODELS if model in rows},
        "truth": truth,
        "command": "python training/yardstick.py",
        "seeds": SEEDS,
        **machine(),
        "processor_seconds": round(sum(sum(row["seconds"].values()) for row in rows.values())),
    }
    write(out, arrays, facts)


def main() -> None:
    """Measure, print, store after each model."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", nargs="+", choices=list(MODELS), metavar="MODEL")
    p.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    torch.set_num_threads(1)
    arrays, rows = {}, {}
    if (args.only or args.parts != PARTS) and args.out.with_suffix(".json").exists():
        rows = json.loads(args.out.with_suffix(".json").read_text())["models"]
        with np.load(args.out.with_suffix(".npz")) as old:
            arrays = dict(old)
    for model in args.only or MODELS:
        entry = MODELS[model]
        row = rows.setdefault(model, {"family": entry.family, "limit": entry.limit, "seconds": {}, "share": {}})
        for part in args.parts:
            view, name = part.split("/")
            if getattr(entry, view) is None:
                continue
            began, shares = time.process_time(), []
            for seed in range(SEEDS[name]):
                volume, values = measure(entry, view, name, seed)
                shares.append(round(volume.share, 4))
                if name == "moons" and seed == 0:
                    arrays[f"{view}/{model}/energy"] = ranks(values)
                    arrays[f"{view}/{model}/inside"] = np.packbits(volume.inside.numpy())
            row["share"][part], row["seconds"][part] = shares, round(time.process_time() - began, 1)
            print(model, part, row["seconds"][part], shares, flush=True)
        store(args.out, arrays, rows)


if __name__ == "__main__":
    main()
