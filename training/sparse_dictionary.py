"""Learn dictionaries by sparse coding: natural patches, digits, patches to be restored, decoders of several layers.

    python training/sparse_dictionary.py                   # all parts, one after the other
    python training/sparse_dictionary.py --only patches    # one part; the others stay as they are in the file

writes ``training/results/sparse_dictionary.npz`` (dictionaries in half precision) and ``.json`` (what was measured,
command, seed, time). Patches to learn from come from the left four fifths of ten photographs, and what is measured is
measured on patches from the right fifth. Parts:

``patches``     256 atoms for whitened patches of 12 by 12 pixels, all of the same contrast, the flattest three tenths
                dropped; Gabor functions fitted to the atoms after each pass, and to filters that nobody has learned
``scale``       64 atoms for smaller patches, with and without atoms of norm 1
``digits``      144 atoms for digits; codes only add; atoms of ink, and atoms of either sign
``windows``     120 atoms of ink for windows of 12 by 12 pixels cut from digits; how many are single strokes, and how
                many of what is not learned, or learned from whole digits (needs ``digits`` in the file)
``pixels``      256 atoms for patches of 8 by 8 pixels as they are, to restore pictures with
``multilayer``  decoders of two layers, with and without a price on codes that do not vary; three seeds
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from record import run_parts
from scipy import ndimage
from torch import Tensor

from ebm_lib import data
from ebm_lib.latent.gabor import GaborFit, fit_gabor
from ebm_lib.latent.sparse import (
    SparseCoding,
    VarianceSparseCoding,
    dictionary_step,
    normalize_columns,
    sparse_codes,
    sparse_energy,
)

RESULTS = Path(__file__).parent / "results" / "sparse_dictionary"
GOOD_FIT = 0.5  # R² from which a filter counts as a Gabor function
WIDTH, STRETCH, TOGETHER = 1.3, 1.5, 0.75  # of a stroke: see `strokes`

Result = tuple[dict[str, Tensor], dict[str, object]]


def cut(seed: int, n: int, size: int, *, held_out: bool = False) -> Tensor:
    """Patches without their mean, from the left four fifths of each photograph or from the right fifth."""
    pictures = []
    for picture in data.load_photographs().values():
        edge = round(0.8 * picture.shape[2])
        pictures.append(picture[:, :, edge:] if held_out else picture[:, :, :edge])
    y = data.cut_patches(pictures, n, size, generator=torch.Generator().manual_seed(seed))
    return y - y.mean(-1, keepdim=True)


def even_contrast(y: Tensor, n: int) -> Tensor:
    """Drop the flattest three tenths; scale the others so that a coordinate has variance one."""
    length = y.norm(dim=-1, keepdim=True)
    keep = (length > length.quantile(0.3))[:, 0]
    return (y.shape[1] ** 0.5 * y / length)[keep][:n]


def white_patches(n: int, size: int, noise: float) -> tuple[Tensor, Tensor, data.Whitening]:
    """Patches to learn from and held out, white and of even contrast, and the map that whitens."""
    raw, other = cut(0, 3 * n // 2, size), cut(1, 1500, size, held_out=True)
    white = data.whitening(raw, noise=noise)
    return even_contrast(white.whiten(raw), n), even_contrast(white.whiten(other), 1000), white


def describe(fit: GaborFit) -> dict[str, float]:
    """How well Gabor functions fit."""
    return {
        "share": round((fit.r2 >= GOOD_FIT).float().mean().item(), 3),
        "median_r2": round(fit.r2.median().item(), 3),
    }


def spread(fit: GaborFit) -> dict[str, object]:
    """Orientation, frequency and phase of the filters that are Gabor functions."""
    good = fit.r2 >= GOOD_FIT
    turned, frequency = fit.orientation[good].rad2deg(), fit.frequency[good]
    even = fit.phase[good].cos().abs()  # 1 for an even function, 0 for an odd one
    return {
        "per_30_degrees": torch.histc(turned, 6, 0, 180).int().tolist(),
        "frequency_quantiles": [round(q, 3) for q in frequency.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist()],
        "octaves": round((frequency.quantile(0.9) / frequency.quantile(0.1)).log2().item(), 2),
        "even_third": round((even > 0.866).float().mean().item(), 3),
        "odd_third": round((even < 0.5).float().mean().item(), 3),
    }


def held_out_facts(model: SparseCoding, y: Tensor) -> dict[str, float]:
    """Energy, what is explained, and atoms in use on points that were not learned from."""
    z = model.infer(y, tol=1e-4)
    return {
        "energy": round(model.energy(y, z).mean().item(), 3),
        "explained": round(1 - ((y - model.decode(z)).square().sum() / y.square().sum()).item(), 3),
        "active": round((z != 0).float().sum(-1).mean().item(), 1),
    }


@torch.no_grad()
def patches(args: argparse.Namespace) -> Result:
    """The dictionary of whitened natural patches, judged by Gabor functions."""
    y, other, white = white_patches(args.patches, 12, noise=0.1)
    g = torch.Generator().manual_seed(args.seed)
    model = SparseCoding(144, 256, lam=2.0, generator=g)
    rows = []
    for number in range(args.passes + 1):
        if number:
            model.learn(y, rounds=1, batch_size=250, memory=20, min_gain=0, tol=2e-3, generator=g, progress=False)
        if number not in (0, 1, 2, 3, 5, 8, args.passes):
            continue
        fit = fit_gabor(model.W.T.reshape(-1, 12, 12))
        rows.append({"pass": number, **describe(fit), **held_out_facts(model, other)})
        print(rows[-1], flush=True)
    smooth = torch.randn(256, 144, generator=g) @ white.forward @ white.backward @ white.backward
    blends = y[torch.randint(len(y), (256, 8), generator=g)] * torch.randn(256, 8, 1, generator=g)
    axes = torch.linalg.svd(y - y.mean(0), full_matrices=False).Vh
    controls = {
        "noise": torch.randn(256, 144, generator=g),
        "smooth noise": smooth,
        "patches": y[:256],
        "blends of patches": blends.sum(1),
        "principal directions": axes[:128],
    }
    measured = {name: describe(fit_gabor(filters.reshape(-1, 12, 12))) for name, filters in controls.items()}
    stored = {"W": model.W.detach(), "fitted": fit.fitted, "forward": white.forward, "mean": white.mean}
    stored |= {name: getattr(fit, name) for name in ("r2", "orientation", "frequency", "phase")}
    return stored, {"lam": model.lam, "passes": rows, "controls": measured, "spread": spread(fit)}


@torch.no_grad()
def scale(args: argparse.Namespace) -> Result:
    """The same dictionary with atoms of norm 1, and with atoms as long as they like."""
    y, other, _ = white_patches(4_000, 8, noise=0.1)
    alike = even_contrast(torch.randn(1_500, 64, generator=torch.Generator().manual_seed(2)), 1_000)
    rows = {}
    for normalize in (True, False):
        g = torch.Generator().manual_seed(args.seed)
        model = SparseCoding(64, 64, lam=3.0, normalize=normalize, generator=g)
        track = rows["normalized" if normalize else "free"] = []
        for number in range(31):
            if number:
                model.learn(y, rounds=1, batch_size=500, min_gain=0, tol=2e-3, generator=g, progress=False)
            if number not in (0, 1, 2, 3, 5, 7, 10, 15, 20, 30):
                continue
            z = model.infer(other, tol=1e-4)
            data_energy, noise_energy = model.energy(other, z), model(alike)
            track.append(
                {
                    "pass": number,
                    "length": round(model.W.norm(dim=0).mean().item(), 3),
                    "size": round(z.abs().sum(-1).mean().item(), 3),
                    "price": round(model.price(z).mean().item(), 3),
                    "energy": round(data_energy.mean().item(), 3),
                    "noise_energy": round(noise_energy.mean().item(), 3),
                    "noise_accepted": round((noise_energy <= data_energy.quantile(0.9)).float().mean().item(), 4),
                    "active": round((z != 0).float().sum(-1).mean().item(), 1),
                }
            )
        print(track[-1], flush=True)
    return {}, {"lam": model.lam, "patches": len(y), **rows}


def fragments(images: Tensor, atoms: int, generator: torch.Generator) -> Tensor:
    """Where strokes may start: what is seen of a digit through a round window three pixels wide, on its ink."""
    chosen = images[torch.randint(len(images), (atoms,), generator=generator)]
    place = torch.multinomial(chosen, 1, generator=generator)
    side = torch.arange(28.0)
    row, column = side.view(1, 28, 1) - place[..., None] // 28, side.view(1, 1, 28) - place[..., None] % 28
    window = torch.exp(-(row.square() + column.square()) / (2 * 3.0**2)).flatten(1)
    return normalize_columns((chosen * window).T)


def learn_ink(y: Tensor, W: Tensor, lam: float, passes: int, generator: torch.Generator, signed: bool) -> Tensor:
    """A dictionary whose codes, and unless ``signed`` its atoms too, are nowhere negative."""
    code_moment, cross_moment, batch = torch.zeros(W.shape[1], W.shape[1]), torch.zeros_like(W), 0
    for _ in range(passes):
        for rows in torch.randperm(len(y), generator=generator).split(250):
            z = sparse_codes(y[rows], W, lam, tol=2e-3, nonnegative=True)
            batch += 1
            code_moment.lerp_(z.T @ z / len(z), 1 / min(batch, 20))
            cross_moment.lerp_(y[rows].T @ z / len(z), 1 / min(batch, 20))
            W = dictionary_step(W, code_moment, cross_moment, normalize=False)
            W = W if signed else W.clamp_min(0)
            empty = W.norm(dim=0) < 1e-6
            W[:, empty] = y[rows][: int(empty.sum())].T
            W = normalize_columns(W)
    return W


def extent(pictures: Tensor) -> Tensor:
    """How many pixels a picture covers: (Σ|w|)² / Σw²."""
    return pictures.abs().sum(-1).square() / pictures.square().sum(-1)


def digits(args: argparse.Namespace) -> Result:
    """Parts of digits, from atoms that only add ink, and what comes of atoms that may take it away."""
    images = data.load_digits().images.flatten(1)
    y, other, lam = images[:5000], images[8000:9000], 0.3
    stored, rows = {}, {}
    for name in ("ink", "signed"):
        g = torch.Generator().manual_seed(args.seed)
        W = learn_ink(y, fragments(y, 144, g), lam, 15, g, signed=name == "signed")
        z = sparse_codes(other, W, lam, tol=1e-4, nonnegative=True)
        rows[name] = {
            "energy": round(sparse_energy(other, z, W, lam).mean().item(), 2),
            "explained": round(1 - ((other - z @ W.T).square().sum() / other.square().sum()).item(), 3),
            "active": round((z != 0).float().sum(-1).mean().item(), 1),
            "extent": round(extent(W.T).median().item(), 1),
        }
        print(name, rows[name], flush=True)
        stored[f"W_{name}"] = W
    return stored, {"lam": lam, "digit_extent": round(extent(other).median().item(), 1), "atoms": rows}


def stroke_facts(picture: Tensor) -> tuple[int, float, float, float]:
    """Of one picture: pieces, width and length of its bright part, and the share of all ink that is at that part.

    Bright is what exceeds a third of the maximum. Its main axis is bent into the best parabola; the width is the root
    mean square distance of its pixels from that line, the length their deviation along it, both in pixels (a pixel
    being a square, each square gets 1/12). "At" the bright part means on it or on a pixel that touches it.
    """
    side = math.isqrt(picture.numel())
    ink = picture.double().abs().reshape(side, side)
    bright, touching = (ink > ink.max() / 3).numpy(), np.ones((3, 3))
    place = torch.from_numpy(np.argwhere(bright)).double()
    place -= place.mean(0)
    across, along = (place @ torch.linalg.eigh(place.T @ place).eigenvectors).T
    line = torch.stack([torch.ones_like(along), along, along.square()], 1)
    off = across - line @ (torch.linalg.pinv(line) @ across)
    width, length = ((v.square().mean() + 1 / 12).sqrt().item() for v in (off, along))
    at = torch.from_numpy(ndimage.binary_dilation(bright, touching))
    return ndimage.label(bright, touching)[1], width, length, (ink[at].sum() / ink.sum()).item()


def strokes(pictures: Tensor) -> dict[str, float]:
    """Share of the pictures that are one thin stroke: the bright part, and with all the ink.

    The bright part must be one piece, no wider than ``WIDTH`` pixels (a bar of four has 1.15) and at least ``STRETCH``
    times as long as wide; and ``TOGETHER`` of all the ink must be at it.
    """
    pieces, width, length, share = torch.tensor([stroke_facts(p) for p in pictures], dtype=torch.float64).T
    bright = (pieces == 1) & (width <= WIDTH) & (length >= STRETCH * width)
    tests = {
        "one_piece": pieces == 1,
        "thin": width <= WIDTH,
        "long": length >= STRETCH * width,
        "bright_part": bright,
        "ink_together": share >= TOGETHER,
        "strokes": bright & (share >= TOGETHER),
    }
    return {"pictures": len(pictures)} | {name: round(v.double().mean().item(), 3) for name, v in tests.items()}


def ink_windows(images: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Windows of 12 by 12 pixels, but for those with next to no ink."""
    y = data.cut_patches(images[:, None], 2 * n, 12, generator=generator)
    return y[y.sum(-1) > 8][:n]


def around_brightest(pictures: Tensor) -> Tensor:
    """Of each picture of 28 by 28 pixels, the window of 12 by 12 around its brightest pixel."""
    windows = pictures.abs().view(-1, 28, 28).unfold(1, 12, 1).unfold(2, 12, 1)  # (n, 17, 17, 12, 12)
    place = pictures.abs().argmax(-1)
    row, column = ((v - 6).clamp(0, 16) for v in (place // 28, place % 28))
    return windows[torch.arange(len(pictures)), row, column].flatten(1)


def windows(args: argparse.Namespace) -> Result:
    """Parts of digits as seen through a small window, begun from windows as they are."""
    digit = data.load_digits()
    images, ones, lam = digit.images, digit.labels[8000:] == 1, 1.0
    g = torch.Generator().manual_seed(args.seed)
    y, other = ink_windows(images[:5000], 8_000, g), ink_windows(images[8000:9000], 1_000, g)
    with np.load(args.out.with_suffix(".npz")) as file:
        whole = {name: torch.tensor(file[f"digits/W_{name}"]).float().T for name in ("ink", "signed")}
    W = learn_ink(y, normalize_columns(y[:120].T.contiguous()), lam, 6, g, signed=False)
    z = sparse_codes(other, W, lam, tol=1e-4, nonnegative=True)
    pictures = {
        "atoms of windows": W.T,
        "windows at the start": y[:120],
        "held-out windows": other,
        "atoms of whole digits": whole["ink"],
        "the same, through a window": around_brightest(whole["ink"]),
        "signed atoms of whole digits": whole["signed"],
        "whole digits": images[8000:9000].flatten(1),
        "whole ones": images[8000:][ones].flatten(1),
    }
    found = {name: strokes(p) for name, p in pictures.items()}
    for name, row in found.items():
        print(name, row, flush=True)
    facts = {
        "lam": lam,
        "windows": len(y),
        "energy": round(sparse_energy(other, z, W, lam).mean().item(), 2),
        "explained": round(1 - ((other - z @ W.T).square().sum() / other.square().sum()).item(), 3),
        "active": round((z != 0).float().sum(-1).mean().item(), 1),
        "found": found,
    }
    print({key: value for key, value in facts.items() if key != "found"}, flush=True)
    return {"W": W}, facts


def pixels(args: argparse.Namespace) -> Result:
    """A dictionary for restoring pictures: patches as they are but for their mean."""
    y, other = cut(0, 30_000, 8), cut(1, 3_000, 8, held_out=True)
    y = y[y.norm(dim=-1) > 0.4][:15_000]  # flat patches have nothing to teach
    g = torch.Generator().manual_seed(args.seed)
    model = SparseCoding(64, 256, lam=0.15, generator=g)
    model.learn(y, rounds=10, batch_size=250, memory=20, min_gain=0, tol=2e-3, generator=g, progress=False)
    facts = {"lam": model.lam, "patches": len(y), **held_out_facts(model, other)}
    print(facts, flush=True)
    return {"W": model.W.detach()}, facts


def multilayer(args: argparse.Namespace) -> Result:
    """Two-layer decoders of digits of 14 by 14 pixels."""
    images = torch.nn.functional.avg_pool2d(data.load_digits().images[:, None], 2).flatten(1)
    y, other = images[:7000], images[8000:8500]
    root = torch.linalg.cholesky(torch.cov(y.T) + 1e-5 * torch.eye(196))
    alike = y.mean(0) + torch.randn(500, 196, generator=torch.Generator().manual_seed(1)) @ root.T
    stored, rows = {}, {}
    for gamma in (0.0, 10.0):
        for seed in range(3):
            g = torch.Generator().manual_seed(seed)
            model = VarianceSparseCoding((64, 128, 196), lam=0.3, gamma=gamma, target=0.5, generator=g)
            track = rows[f"{gamma:g}, seed {seed}"] = []
            for steps in (0, 25, 50, 100, 200, 400):
                new = steps - (track[-1]["steps"] if track else 0)
                if new:
                    model.learn(y, steps=new, batch_size=64, code_steps=20, generator=g, progress=False)
                z, z_noise = model.infer(other, steps=60), model.infer(alike, steps=60)
                with torch.no_grad():
                    energy, noise_energy = model.energy(other, z), model.energy(alike, z_noise)
                    left = (other - model.decode(z)).square().sum(-1).mean().item()
                weights = [p.norm().item() for p in model.decoder.parameters() if p.ndim == 2]
                track.append(
                    {
                        "steps": steps,
                        "size": round(z.sum(-1).mean().item(), 3),
                        "deviation": round(z.std(0).mean().item(), 3),
                        "weights": round(weights[0] * weights[1], 1),
                        "error": round(left, 3),
                        "active": round((z > 0).float().sum(-1).mean().item(), 1),
                        "noise_accepted": round((noise_energy <= energy.quantile(0.9)).float().mean().item(), 3),
                    }
                )
            print(gamma, seed, track[-1], flush=True)
            if seed == 0:
                with torch.no_grad():
                    bumps = z.mean(0) * 8 * torch.eye(64)
                    stored[f"units_{gamma:g}"] = (model.decode(bumps) - model.decode(torch.zeros(64)))[:40]
    return stored, {"lam": model.lam, "target": model.target, "units": 64, "runs": rows}


PARTS = {
    "patches": patches,
    "scale": scale,
    "digits": digits,
    "windows": windows,
    "pixels": pixels,
    "multilayer": multilayer,
}


def main() -> None:
    """Learn, judge, store."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=PARTS)
    p.add_argument("--patches", type=int, default=10_000)
    p.add_argument("--passes", type=int, default=12)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    run_parts(PARTS, args, {"command": "python training/sparse_dictionary.py"})


if __name__ == "__main__":
    main()
