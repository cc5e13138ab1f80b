"""Learn filters that slide over pictures: one to sixty-four of them, in colour, and in three layers.

    python training/convolutional.py                # all parts, one after the other
    python training/convolutional.py --only grey    # one part; the others stay as they are in the file

writes ``training/results/convolutional.npz`` (filters in half precision) and ``.json`` (what was measured, command,
seed, time). Pictures to learn from are pieces of the left four fifths of ten photographs, what is measured is measured
on pieces of the right fifth. Photographs are whitened as a whole; the flattest three tenths of the pieces are dropped
and the others scaled so that a pixel has mean square one. Parts:

``grey``     1, 2, 4, …, 64 filters of 9 by 9 pixels on pieces of 24 by 24, learned with codes found by search
``encoders`` for each of these an encoder of three layers, trained on the energy, with the filters as they are
``patches``  dictionaries of 16 and of 64 atoms learned from loose patches of 9 by 9 pixels and used as filters, beside
             filters learned as such; three seeds of the smaller ones
``bars``     two and three filters of 3 by 3 pixels for pictures made of two bars, from ten starts each
``colour``   24 filters in three colours, learned by search; an encoder of three layers; then both together
``stack``    three layers of convolutional sparse coding for digits, learned from below and then together
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from record import run_parts
from torch import Tensor
from torch.nn.functional import conv2d

from ebm_lib import data
from ebm_lib.latent.gabor import fit_gabor
from ebm_lib.latent.sparse import ConvLISTA, ConvSparseCoding, ConvSparseStack, SparseCoding, conv_decode

RESULTS = Path(__file__).parent / "results" / "convolutional"
SIDE, KERNEL, LAM, LAYERS = 24, 9, 3.0, 3
COUNTS = (1, 2, 4, 8, 16, 32, 64)
Result = tuple[dict[str, Tensor], dict[str, object]]


def pieces(n: int, size: int, *, held_out: bool = False, colour: bool = False, seed: int = 0) -> Tensor:
    """Square pieces of whitened photographs, (n, C · size · size)."""
    parts = []
    for picture in data.load_photographs(colour=colour).values():
        white, cut = data.whiten_picture(picture), round(0.8 * picture.shape[2])
        parts.append(white[:, :, cut:] if held_out else white[:, :, :cut])
    y = data.cut_patches(parts, 3 * n // 2, size, generator=torch.Generator().manual_seed(seed + 1000 * held_out))
    scale = y.square().mean(-1, keepdim=True).sqrt()
    keep = (scale > scale.quantile(0.3))[:, 0]
    return (y[keep] / scale[keep])[:n]


@torch.no_grad()
def alike(W: Tensor) -> Tensor:
    """How like each filter is, somewhere, to a shifted other one: the largest |⟨Wᵢ, shifted Wⱼ⟩| over j and shifts."""
    reach = W.shape[-1] - 1
    products = conv2d(torch.nn.functional.pad(W, (reach,) * 4), W).abs().amax((2, 3))
    return products.fill_diagonal_(0).amax(1)


def judge(model: ConvSparseCoding, y: Tensor) -> dict[str, float]:
    """Energy and codes of held-out pictures."""
    z = model.infer(y, steps=120, tol=1e-4)
    pixels = model.shape[1] * model.shape[2]
    with torch.no_grad():
        facts = {
            "energy": (model.energy(y, z) / y.square().sum(-1)).mean(),
            "error": ((y - model.decode(z)).square().sum(-1) / y.square().sum(-1)).mean(),
            "active_per_pixel": (z != 0).float().sum(-1).mean() / pixels,
        }
    facts = {key: round(value.item(), 4) for key, value in facts.items()}
    if len(model.W) > 1:
        facts["alike"] = round(alike(model.W).mean().item(), 3)
    if len(model.W) >= 8 and model.shape[0] == 1:
        facts["gabor_share"] = round((fit_gabor(model.W.detach()[:, 0]).r2 >= 0.5).float().mean().item(), 3)
    return facts


def weights(encoder: ConvLISTA, name: str = "") -> dict[str, Tensor]:
    """What an encoder has learned; its model's filters are stored elsewhere."""
    parts = {"encoder": encoder.encoder, "passed": encoder.decoder, "threshold": encoder.log_threshold}
    return {f"{key}{name}": value.detach()[0] for key, value in parts.items()}


def learn_filters(y: Tensor, count: int, args: argparse.Namespace, *, seed: int = 0) -> ConvSparseCoding:
    """Filters, by turns of search and small steps: the more of them, the more steps."""
    g = torch.Generator().manual_seed(seed)
    model = ConvSparseCoding((1, SIDE, SIDE), count, KERNEL, lam=LAM, generator=g)
    options = {"batch_size": 4, "lr": args.rate, "inference_steps": 12, "generator": g, "progress": False}
    model.learn(y, steps=max(args.steps, 6 * count), **options)
    return model


def grey(args: argparse.Namespace) -> Result:
    """One to sixty-four filters."""
    y, other = pieces(2000, SIDE), pieces(16, SIDE, held_out=True)
    stored, rows = {}, {}
    for count in COUNTS:
        model = learn_filters(y, count, args, seed=args.seed)
        stored[f"decoder{count}"] = model.W.detach()
        rows[str(count)] = judge(model, other)
        print(count, rows[str(count)], flush=True)
    return stored, {"lam": LAM, "steps": args.steps, "filters": rows}


def encoders(args: argparse.Namespace) -> Result:
    """An encoder for each of them."""
    y, other = pieces(2000, SIDE), pieces(16, SIDE, held_out=True)
    size = other.square().sum(-1)
    stored, rows = {}, {}
    for count in COUNTS:
        model = ConvSparseCoding((1, SIDE, SIDE), count, KERNEL, lam=LAM)
        with np.load(args.out.with_suffix(".npz")) as known:
            model.load_state_dict({"W": torch.tensor(known[f"grey/decoder{count}"]).float()})
        encoder = ConvLISTA(model, LAYERS)
        g = torch.Generator().manual_seed(args.seed)
        encoder.learn(y, steps=args.encoder_steps, batch_size=4, lr=args.encoder_rate, generator=g, progress=False)
        stored |= weights(encoder, str(count))

        @torch.no_grad()
        def energy(z: Tensor, model: ConvSparseCoding = model) -> float:
            return round((model.energy(other, z) / size).mean().item(), 4)

        guessed, worth = energy(encoder.encode(other)), 1
        while worth < 30 and energy(model.infer(other, steps=worth, tol=0.0)) > guessed:
            worth += 1
        plain = model.infer(other, steps=LAYERS, tol=0.0, accelerated=False)
        rows[str(count)] = {"guessed": guessed, "ista": energy(plain), "worth": worth}
        print(count, rows[str(count)], flush=True)
    return stored, {"layers": LAYERS, "steps": args.encoder_steps, "filters": rows}


def patches(args: argparse.Namespace) -> Result:
    """Atoms of loose patches, used as filters."""
    y, other = pieces(2000, SIDE), pieces(16, SIDE, held_out=True)
    loose = pieces(10_000, KERNEL)
    stored, rows = {}, {}
    for count, seeds in ((16, (0, 1, 2)), (64, (0,))):
        for seed in seeds:
            g = torch.Generator().manual_seed(seed)
            single = SparseCoding(KERNEL**2, count, lam=LAM, generator=g)
            options = {"batch_size": 250, "memory": 20, "min_gain": 0, "tol": 2e-3, "progress": False}
            single.learn(loose, rounds=6, generator=g, **options)
            model = ConvSparseCoding((1, SIDE, SIDE), count, KERNEL, lam=LAM, generator=g)
            with torch.no_grad():
                model.W.copy_(single.W.T.view(count, 1, KERNEL, KERNEL))
            model.normalize_()
            rows[f"patches, {count}, seed {seed}"] = judge(model, other)
            if seed == 0:
                stored[f"patches{count}"] = model.W.detach()
            if count == 16:
                sliding = learn_filters(y, count, args, seed=seed)
                rows[f"sliding, {count}, seed {seed}"] = judge(sliding, other)
        print(*rows.items(), sep="\n", flush=True)
    return stored, {"lam": LAM, "models": rows}


def bars(args: argparse.Namespace) -> Result:
    """Are the filters found that made the pictures?"""
    W = torch.zeros(2, 1, 3, 3)
    W[0, 0, 1] = W[1, 0, :, 1] = 3**-0.5
    sown = torch.rand(60, 2, 14, 14, generator=torch.Generator().manual_seed(1))
    y = conv_decode(torch.where(sown > 0.98, 1 + sown, 0.0), W, (12, 12)).flatten(1)
    truth = ConvSparseCoding((1, 12, 12), 2, 3, lam=0.5)
    truth.load_state_dict({"W": W})
    lowest, rows = truth(y).mean().item(), {}
    for count in (2, 3):
        rows[str(count)] = []
        for seed in range(10):
            g = torch.Generator().manual_seed(seed)
            model = ConvSparseCoding((1, 12, 12), count, 3, lam=0.5, generator=g)
            model.learn(y, steps=120, lr=0.1, batch_size=20, inference_steps=20, generator=g, progress=False)
            match = conv2d(torch.nn.functional.pad(model.W.detach(), (2,) * 4), W).abs().amax((0, 2, 3))
            energy = round(model(y).mean().item() / lowest, 3)
            rows[str(count)].append({"found": int((match > 0.95).sum()), "energy": energy})
        print(count, rows[str(count)], flush=True)
    return {}, {"starts": rows}


def colour(args: argparse.Namespace) -> Result:
    """Filters in three colours, and then encoder and decoder together."""
    y, other = pieces(2000, SIDE, colour=True), pieces(16, SIDE, held_out=True, colour=True)
    g = torch.Generator().manual_seed(args.seed)
    model = ConvSparseCoding((3, SIDE, SIDE), 24, KERNEL, lam=1.5 * LAM, generator=g)
    options = {"batch_size": 4, "inference_steps": 12, "generator": g, "progress": False}
    model.learn(y, steps=args.colour_steps, lr=args.rate, **options)
    encoder, stages = ConvLISTA(model, LAYERS), {}

    def judged(name: str) -> None:
        stages[name] = judge(model, other)
        with torch.no_grad():
            stages[name]["guessed"] = round((encoder(other) / other.square().sum(-1)).mean().item(), 4)
        print(name, stages[name], flush=True)

    judged("searched")
    options = {"steps": args.encoder_steps, "batch_size": 4, "generator": g, "progress": False}
    encoder.learn(y, lr=args.encoder_rate, **options)
    judged("encoder")
    encoder.learn(y, dictionary=True, lr=args.together_rate, **options)
    judged("together")
    stored = {"decoder": model.W.detach(), **weights(encoder)}
    return stored, {"lam": model.lam, "steps": args.colour_steps, "stages": stages}


def stack(args: argparse.Namespace) -> Result:
    """Three layers for digits."""
    images = data.load_digits().images.flatten(1)
    y, other = images[:600], images[9000:9024]
    g = torch.Generator().manual_seed(args.seed)
    one = ConvSparseCoding((1, 28, 28), 12, 6, lam=0.5, stride=2, generator=g)
    two = ConvSparseCoding(one.code_shape, 24, 6, lam=0.07, stride=2, generator=g)
    three = ConvSparseCoding(two.code_shape, 32, 7, lam=0.015, stride=2, generator=g)
    model = ConvSparseStack([one, two, three], (1.0, 5.0, 25.0))
    options = {"steps": args.stack_steps, "batch_size": 8, "generator": g, "progress": False}
    rows = {}

    def judged(name: str) -> None:
        z = model.infer(other, steps=150)
        with torch.no_grad():
            rows[name] = round(model.energy(other, z).mean().item(), 2)
        print(rows, flush=True)

    judged("before")
    model.learn_greedily(y, inference_steps=40, lr=3e-2, **options)
    judged("from below")
    model.learn(y, lr=3e-3, inference_steps=25, **options)
    judged("together")
    stored = {f"W{level}": layer.W.detach() for level, layer in enumerate(model.layers)}
    facts = {"lam": [layer.lam for layer in model.layers], "weights": model.weights, "energy": rows}
    return stored, facts


PARTS = {"grey": grey, "encoders": encoders, "patches": patches, "bars": bars, "colour": colour, "stack": stack}


def main() -> None:
    """Learn, judge, store."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=PARTS)
    p.add_argument("--steps", type=int, default=150)
    p.add_argument("--rate", type=float, default=5e-2)
    p.add_argument("--encoder-steps", type=int, default=120)
    p.add_argument("--encoder-rate", type=float, default=3e-2)
    p.add_argument("--colour-steps", type=int, default=300)
    p.add_argument("--together-rate", type=float, default=1e-2)
    p.add_argument("--stack-steps", type=int, default=80)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    run_parts(PARTS, args, {"command": "python training/convolutional.py"})


if __name__ == "__main__":
    main()
