"""Train variational auto-encoders on the bundled digits: fuzzy codes in the plane, a sweep over β, cures, likelihood.

    python training/vae_digits.py                 # all parts; writes training/results/vae_digits.npz and .json
    python training/vae_digits.py --only sweep    # one part; what is stored of the others stays

All learn the first 8,000 digits with the cross-entropy and perceptrons, over several seeds; what is reported is
measured on the last 2,000. "balls" follows two-dimensional codes with and without the spring and the price of sizes,
and keeps their path. "sweep" and "cures" keep energy, information of each dimension and the bound. "likelihood" learns
digits of zeros and ones at β = 1 and weighs draws. "samples" and the parts named after it train longest, in several
ways, and draw codes from the prior, from a cooler one, and from mixtures fitted to the codes of training digits; the
number of components is chosen by the density of codes of other digits. The classifier that is stored with
``training/digits_energy.py`` judges the drawings and chooses nothing.
"""

import argparse
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from digits_energy import classifier
from record import run_parts
from torch import Tensor, nn

from ebm_lib import data
from ebm_lib.latent import GaussianMixture
from ebm_lib.latent import variational as vi
from ebm_lib.nn import init_
from ebm_lib.train import History

RESULTS = Path(__file__).parent / "results" / "vae_digits"
JUDGE = Path(__file__).parent / "results" / "digits_energy.npz"
HIDDEN = (256, 128)
PLANE = (128, 64)
SMALL = (128,)
DEEP = (128, 128, 128)
BETAS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
STORIES = {
    "both": {},
    "no spring": {"spring": 0.0},
    "no price of sizes": {"size": 0.0},
    "neither": {"spring": 0.0, "size": 0.0},
}
CURES = {
    "plain": {},
    "warm-up": {"warmup": 0.5},
    "free bits": {"free_bits": 0.3},
    "lower weight": {"factor": 3.0},
    "lower weight, then the true one": {"factor": 3.0, "stages": 2},
    "restart only": {"stages": 2},  # what of the last is due to its second cycle of learning rates
}
WAYS: dict[str, dict[str, Any]] = {
    "samples": {"seeds": 2},
    "dearer codes": {"beta": 0.25, "latents": 8},
    "cheaper codes": {"beta": 1.0, "latents": 10},
    "convolutions": {"channels": 8},
    "bent digits": {"copies": 3},
    "no price": {"price": 0.0},
}
USUAL = {"latents": 5, "beta": 0.5, "channels": 0, "copies": 0, "price": 1.0, "seeds": 1}
COMPONENTS = (5, 10, 20, 40)
COOL = 0.8  # standard deviation of codes from a cooler prior

Result = tuple[dict[str, Tensor], dict[str, Any]]


def digits() -> tuple[Tensor, Tensor]:
    """Return 8,000 digits to learn and 2,000 held out, (N, 784) from 0 to 1."""
    y = data.load_digits().images.flatten(1)
    return y[:8000], y[8000:]


def black_and_white(y: Tensor) -> Tensor:
    """Return the pictures with each pixel 0 or 1."""
    return (y > 0.5).float()


def judge() -> Callable[[Tensor], Tensor]:
    """Return how sure the stored classifier is of each class, for pictures (N, 784)."""
    network = classifier(10)
    with np.load(JUDGE) as kept:
        network.load_state_dict({k: torch.tensor(kept[f"judge.{k}"]).float() for k in network.state_dict()})
    return lambda y: network(y).softmax(-1)


def bytes_of(pictures: Tensor) -> Tensor:
    """Return grey values from 0 to 255: as few different numbers compress well."""
    return (255 * pictures).round()


def learn(model: vi.VAE, y: Tensor, steps: int, g: torch.Generator, rate: float = 3e-3, **options: Any) -> History:
    """Learn with Adam, batches of 100 and one cycle of the rate."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    return model.learn(y, steps=steps, batch_size=100, optimizer=optimizer, scheduler=scheduler, generator=g, **options)


@torch.no_grad()
def held_out(model: vi.VAE, y: Tensor, seed: int = 1) -> dict[str, Any]:
    """Measure a model on held-out digits: energy, information, bound, units in use."""
    found = model.bound(y, samples=4, generator=torch.Generator().manual_seed(seed))
    information = found.information.mean(0)
    return {
        "energy": found.mean_energy.mean().item(),
        "information": information.sum().item(),
        "bound": found.free_energy.mean().item(),
        "energy_at_mean": model.energy(y, model.encode(y).mean).mean().item(),
        "per_dimension": sorted((round(v, 3) for v in information.tolist()), reverse=True),
        "active": int(model.active_units(y).active.sum()),
    }


def balls(args: argparse.Namespace) -> Result:
    """Follow codes in the plane through learning, with and without each half of the KL term."""
    train, test = digits()
    labels = data.load_digits().labels[8000:]
    # as many of each class, so that the picture is fair
    probes = torch.cat([(labels == c).nonzero()[:12, 0] for c in range(10)])
    kept = sorted({10 * round(args.steps / 10 * (i / 20) ** 2) for i in range(21)})
    arrays = {}
    facts: dict[str, Any] = {"hidden": PLANE, "steps": args.steps, "kept": kept, "runs": {}}
    facts |= {"probes": (8000 + probes).tolist(), "labels": labels[probes].tolist()}
    for name, options in STORIES.items():
        rows = facts["runs"][name] = []
        for seed in range(args.seeds):
            g = torch.Generator().manual_seed(args.seed + seed)
            model = vi.VAE(784, 2, beta=1.0, hidden=PLANE, cost="bernoulli", generator=g)
            path = vi.CodePath(model, test[probes], every=10, generator=torch.Generator().manual_seed(9))
            # at a constant rate: what flies apart should not be stopped by a rate that falls to zero
            model.learn(train, steps=args.steps, lr=1e-3, batch_size=100, generator=g, callback=path, **options)
            with torch.no_grad():
                mean, std = model.encode(test)
            at = [path.steps.index(step) for step in kept]
            gap = torch.cdist(mean[:1000], mean[:1000]).fill_diagonal_(torch.inf).amin(1)
            rows.append(
                held_out(model, test)
                | {
                    "rms_mean": mean.square().mean().sqrt().item(),
                    "rms_std": std.square().mean().sqrt().item(),
                    "median_std": std.median().item(),
                    "centre": mean.mean(0).norm().item(),
                    "second_moment": (mean.square() + std.square()).mean(0).tolist(),
                    "nearest": (gap / std.mean(1)[:1000]).median().item(),
                    "rms_path": [round(m.square().mean().sqrt().item(), 3) for m in path.mean[at]],
                    "std_path": [round(s.median().item(), 4) for s in path.std[at]],
                    "energy_path": [round(e.mean().item(), 1) for e in path.energy[at]],
                }
            )
            if seed == 0:
                arrays |= {f"{name}/mean": path.mean[at], f"{name}/std": path.std[at]}
            print(name, {k: v for k, v in rows[-1].items() if isinstance(v, float | int)}, flush=True)
    return arrays, facts


def sweep(args: argparse.Namespace) -> Result:
    """Rate and distortion at many β."""
    train, test = digits()
    facts: dict[str, Any] = {"L": 16, "hidden": SMALL, "steps": args.steps, "runs": {}}
    arrays = {}
    for beta in BETAS:
        rows = facts["runs"][str(beta)] = []
        for seed in range(args.seeds):
            g = torch.Generator().manual_seed(args.seed + seed)
            model = vi.VAE(784, 16, beta=beta, hidden=SMALL, cost="bernoulli", generator=g)
            learn(model, train, args.steps, g)
            rows.append(held_out(model, test))
            if seed == 0:
                with torch.no_grad():
                    shown = model.decode(model.encode(test[:8]).mean)
                    drawn = model.sample(8, noise=False, generator=torch.Generator().manual_seed(5))
                arrays[f"{beta}"] = bytes_of(torch.cat([shown, drawn]))
            print(beta, rows[-1], flush=True)
    return arrays, facts


def cures(args: argparse.Namespace) -> Result:
    """Ways out of posterior collapse, judged by the same bound on held-out digits."""
    train, test = digits()
    facts: dict[str, Any] = {"L": 16, "hidden": DEEP, "beta": args.cure_beta, "steps": args.steps, "runs": {}}
    arrays = {}
    for name, cure in CURES.items():
        rows = facts["runs"][name] = []
        for seed in range(args.seeds):
            options = dict(cure)
            g = torch.Generator().manual_seed(args.seed + seed)
            factor, stages = options.pop("factor", 1.0), options.pop("stages", 1)
            model = vi.VAE(784, 16, beta=factor * args.cure_beta, hidden=DEEP, cost="bernoulli", generator=g)
            if "warmup" in options:
                options["warmup"] = round(options["warmup"] * args.steps)
            path = []
            for _ in range(stages):
                history = learn(model, train, args.steps // stages, g, **options)
                path.append(vi.information_history(history))
                if stages > 1:
                    model.beta = args.cure_beta
            model.beta = args.cure_beta  # judged by the same bound
            rows.append(held_out(model, test))
            if seed == 0:
                arrays[f"{name}/information"] = torch.cat(path)[::10]
            print(name, rows[-1], flush=True)
    return arrays, facts


def likelihood(args: argparse.Namespace) -> Result:
    """Log-likelihood of held-out digits of zeros and ones, by more and more draws."""
    train, test = (black_and_white(y) for y in digits())
    g = torch.Generator().manual_seed(args.seed)
    model = vi.VAE(784, 16, beta=1.0, hidden=SMALL, cost="bernoulli", generator=g)
    learn(model, train, 3 * args.steps, g)
    some = test[:300]
    facts: dict[str, Any] = {"L": 16, "steps": 3 * args.steps, "digits": len(some), **held_out(model, some)}
    facts["draws"] = {}
    with torch.no_grad():
        ink = train.mean(0).clamp(1e-4, 1 - 1e-4)
        apart = (some * ink.log() + (1 - some) * (1 - ink).log()).sum(-1)
        facts["pixels_apart"] = apart.mean().item()
        for widen in (1.0, 1.3):
            rows = facts["draws"][str(widen)] = {}
            for K in (1, 3, 10, 30, 100, 300, 1000):
                how = {"samples": K, "widen": widen, "generator": torch.Generator().manual_seed(2)}
                found = model.importance(some, repeats=2, **how)
                value = -found.free_energy.double()
                rows[str(K)] = {
                    "value": value.mean().item(),
                    "error_of_draws": (found.error.double().square().sum().sqrt() / len(some)).item(),
                    "error_of_digits": (value.std() / len(some) ** 0.5).item(),
                    "effective": found.effective_samples.median().item(),
                }
                print(widen, K, rows[str(K)], flush=True)
    return {}, facts


class Rows(nn.Module):
    """A network for rows (N, in) → (N, out), applied to any leading shape."""

    def __init__(self, *layers: nn.Module, generator: torch.Generator) -> None:
        super().__init__()
        self.layers = init_(nn.Sequential(*layers), generator)

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out) for (..., in)."""
        return self.layers(x.flatten(0, -2)).unflatten(0, x.shape[:-1])


def convolutional(L: int, c: int, generator: torch.Generator) -> dict[str, nn.Module]:
    """Return an encoder and a decoder with two layers of convolutions each, c and 2c channels."""
    picture, half, quarter = nn.Unflatten(-1, (1, 28, 28)), (c, 2 * c, 4, 2, 1), (2 * c, 7, 7)
    down = (picture, nn.Conv2d(1, c, 4, 2, 1), nn.SiLU(), nn.Conv2d(*half), nn.SiLU(), nn.Flatten())
    up = (nn.Unflatten(-1, quarter), nn.ConvTranspose2d(2 * c, c, 4, 2, 1), nn.SiLU())
    inner = math.prod(quarter)
    code = (nn.Linear(inner, 128), nn.SiLU(), nn.Linear(128, 2 * L))
    back = (nn.Linear(L, 128), nn.SiLU(), nn.Linear(128, inner), nn.SiLU())
    decoder = Rows(*back, *up, nn.ConvTranspose2d(c, 1, 4, 2, 1), nn.Flatten(), generator=generator)
    return {"encoder": Rows(*down, *code, generator=generator), "decoder": decoder}


def bent(y: Tensor, generator: torch.Generator) -> Tensor:
    """Return each digit turned by up to 10°, sheared, scaled and moved by up to 2 pixels, at random."""
    turn, shear, scale, right, down = (torch.rand(5, len(y), generator=generator) * 2 - 1).unbind()
    turn, shear, scale = 0.17 * turn, 0.15 * shear, 1 + 0.1 * scale
    first = torch.stack([scale * turn.cos(), shear - scale * turn.sin(), right / 7], -1)
    second = torch.stack([scale * turn.sin(), scale * turn.cos(), down / 7], -1)
    pictures = y.view(-1, 1, 28, 28)
    grid = F.affine_grid(torch.stack([first, second], 1), list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, align_corners=False).flatten(1).clamp(0, 1)


def long_training(args: argparse.Namespace, seed: int, way: dict[str, Any]) -> vi.VAE:
    """Train longer than a page may."""
    g = torch.Generator().manual_seed(seed)
    L, train = way["latents"], digits()[0]
    made = convolutional(L, way["channels"], g) if way["channels"] else {"hidden": HIDDEN}
    model = vi.VAE(784, L, beta=way["beta"], cost="bernoulli", generator=g, **made)
    y = torch.cat([train, *(bent(train, g) for _ in range(way["copies"]))])
    learn(model, y, args.long, g, spring=way["price"], size=way["price"])
    return model.requires_grad_(False)


def draw(model: vi.VAE, y: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a code from each ball, (N, L)."""
    mean, std = model.encode(y)
    return mean + std * torch.randn(mean.shape, generator=generator)


def fit_prior(model: vi.VAE, sets: tuple[Tensor, Tensor], seed: int) -> tuple[GaussianMixture, dict[str, Any]]:
    """Fit mixtures to codes; take the number of components that suits the codes of other digits best.

    To raise the density of drawn codes is to lower the mean bound over all priors: ⟨log q − log p⟩ is the rate.
    """
    train, test = sets
    g = torch.Generator().manual_seed(seed)
    known, choosing, judging = draw(model, train, g), draw(model, test[:1000], g), draw(model, test[1000:], g)
    mixtures = []
    for K in COMPONENTS:
        mixture = GaussianMixture(model.L, K, generator=g)
        mixture.learn(known, rounds=50, reg_covar=1e-4, generator=g)
        mixtures.append(mixture.requires_grad_(False))
    best = min(mixtures, key=lambda mixture: mixture(choosing).mean().item())
    saved = -vi.log_normal_density(judging) - best(judging)
    return best, {"components": best.K, "saved": saved.mean().item()}


@torch.no_grad()
def samples(args: argparse.Namespace, name: str) -> Result:
    """Train in one of the ways, draw codes in three ways; what the classifier makes of the pictures."""
    train, test = digits()
    look, way, arrays, rows = judge(), USUAL | WAYS[name], {}, []

    def verdict(pictures: Tensor) -> dict[str, Any]:
        ink = black_and_white(pictures)  # the likeliest picture of zeros and ones
        sure, named = look(ink).max(-1)
        near = torch.cdist(ink[:500], black_and_white(train)).square().amin(1).median().item()
        return {
            "sure": (sure >= 0.9).float().mean().item(),
            "pixels_off": round(near),
            "classes": named[sure >= 0.9].bincount(minlength=10).tolist(),
        }

    for seed in range(args.seed, args.seed + way["seeds"]):
        with torch.enable_grad():
            model = long_training(args, seed, way)
        z = torch.randn(2000, model.L, generator=torch.Generator().manual_seed(3))
        mixture, fitted = fit_prior(model, (train, test), seed)
        drawn = {"prior": z, "cool": COOL * z}
        drawn |= {"mixture": mixture.sample(2000, generator=torch.Generator().manual_seed(3))}
        verdicts = {kind: verdict(model.decode(codes)) for kind, codes in drawn.items()}
        rows.append(held_out(model, test) | fitted | verdicts)
        if name == "samples" and seed == args.seed:
            arrays = {kind: bytes_of(model.decode(drawn[kind][:36])) for kind in ("prior", "mixture")}
        print(name, *(f"{kind} {found['sure']:.3f}" for kind, found in verdicts.items()), fitted, flush=True)
    facts = {"steps": args.long, "hidden": HIDDEN, "cool": COOL, "real": verdict(test[1000:])}  # 1000: it learned those
    return arrays, facts | way | {"runs": rows}


PARTS = {"balls": balls, "sweep": sweep, "cures": cures, "likelihood": likelihood}
PARTS |= {name: partial(samples, name=name) for name in WAYS}


def main() -> None:
    """Train, measure, store."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=PARTS)
    p.add_argument("--steps", type=int, default=800)
    p.add_argument("--long", type=int, default=2500, help="steps of the longer trainings")
    p.add_argument("--cure-beta", type=float, default=1.0)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    run_parts(PARTS, args, {"command": "python training/vae_digits.py"})


if __name__ == "__main__":
    main()
