"""Train bottleneck auto-encoders on points of an ellipse and, beside PCA of the same size, on digits.

    python training/bottleneck.py                   # writes training/results/bottleneck.npz and bottleneck.json
    python training/bottleneck.py --only ellipse    # one part; what is stored of the other stays

"digits": the energy is the squared distance of an image of 784 pixels from its reconstruction. 7,000 digits train,
1,000 others say when to stop, 2,000 more are measured. Stored for each size of code: the mean energy of all three sets
and of PCA; how often the nearest neighbours in the code tell the class of a test digit; and how often a test digit has
a lower energy than something that is none: itself at a third of its contrast, the empty image, a garment, itself with
its pixels shuffled. Of the first seed the codes of the test digits at size 2, the images that its decoder makes on a
grid of codes, and some reconstructions are stored, all in eight or sixteen bits.

"ellipse": codes of one number, three seeds, and of two numbers, one seed; the weights are stored. Near the place where
a code on a line has to tear the closed curve, training amplifies rounding: another processor ends with other weights.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from record import machine, stored, write
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from ebm_lib import data
from ebm_lib.latent import PCA, AutoEncoder
from ebm_lib.train import fit

RESULTS = Path(__file__).parent / "results" / "bottleneck"
SIZES, HIDDEN, SHOWN, NEIGHBOURS, SIDE = (2, 8, 32), (256, 128), 40, 5, 9
Function = Callable[[Tensor], Tensor]


def train(K: int, y: Tensor, held_apart: Tensor, seed: int, epochs: int, batch_size: int) -> AutoEncoder:
    """Fit one auto-encoder by Adam at a falling rate; the weights that did best on the digits held apart are kept."""
    generator = torch.Generator().manual_seed(seed)
    model = AutoEncoder(784, K, HIDDEN, activation="relu", generator=generator)
    steps = epochs * (len(y) // batch_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def loss(model: AutoEncoder, images: Tensor) -> Tensor:
        return model(images).mean()

    fit(
        model,
        loss,
        y,
        steps=steps,
        batch_size=batch_size,
        optimizer=optimizer,
        scheduler=LambdaLR(optimizer, lambda step: max(1 - step / steps, 1e-3)),
        generator=generator,
        validate=lambda m: loss(m, held_apart).detach(),
        patience=10,
        progress=False,
    )
    return model


@torch.no_grad()
def tell_class(encode: Function, train_set: tuple[Tensor, Tensor], test_set: tuple[Tensor, Tensor]) -> float:
    """Share of test digits of the class that most of the nearest training digits, measured in the code, have."""
    (y, labels), (unseen, answers) = train_set, test_set
    near = torch.cdist(encode(unseen), encode(y)).topk(NEIGHBOURS, largest=False).indices
    return (labels[near].mode(-1).values == answers).double().mean().item()


@torch.no_grad()
def told_apart(energy: Function, digits: Tensor) -> dict[str, float]:
    """Share of digits whose energy is lower than that of something else: of itself changed, or of a thing drawn."""
    generator = torch.Generator().manual_seed(0)
    garments = data.load_fashion().images[8000:].flatten(1)
    others = {
        "a third of the contrast": digits / 3,
        "empty image": torch.zeros_like(digits),
        "garment": garments,
        "pixels shuffled": digits[:, torch.randperm(784, generator=generator)],
    }
    own = energy(digits)
    return {name: (own < energy(other)).double().mean().item() for name, other in others.items()}


def judge(model: PCA | AutoEncoder, encode: Function, sets: dict[str, tuple[Tensor, Tensor]]) -> dict:
    """Everything that is measured of one model."""
    with torch.no_grad():
        energies = {name: model(images).mean().item() for name, (images, _) in sets.items()}
    return {
        "energy": energies,
        "neighbours": tell_class(encode, sets["train"], sets["test"]),
        "lower_than": told_apart(model, sets["test"][0]),
    }


def ellipse(n: int, seed: int, noise: float = 0.03) -> Tensor:
    """Points of the ellipse with radii 1.5 and 1."""
    return data.ellipse(n, radii=(1.5, 1.0), noise=noise, generator=torch.Generator().manual_seed(seed))


def on_the_ellipse(seeds: int) -> tuple[dict[str, np.ndarray], dict]:
    """Weights of the auto-encoders, by name, and the mean energy of points that they have not seen."""
    arrays, energies = {}, {}
    for K, seed in [(1, seed) for seed in range(seeds)] + [(2, 0)]:
        generator = torch.Generator().manual_seed(seed)
        model = AutoEncoder(2, K, (64, 64), generator=generator)
        model.learn(ellipse(500, seed=0), steps=1500, batch_size=100, lr=5e-3, generator=generator)
        with torch.no_grad():
            energies[f"{K}/{seed}"] = model(ellipse(1000, seed=1)).mean().item()
        arrays |= {f"ellipse/{K}/{seed}/{name}": value.numpy() for name, value in model.state_dict().items()}
    return arrays, {"seeds": seeds, "unseen_energy": energies}


def on_digits(seeds: int, epochs: int, batch_size: int) -> tuple[dict[str, np.ndarray], dict]:
    """Everything that is measured and drawn of the digits."""
    images, labels, _ = data.load_digits()
    cuts = {"train": slice(0, 7000), "held_apart": slice(7000, 8000), "test": slice(8000, 10000)}
    sets = {name: (images[rows].flatten(1), labels[rows]) for name, rows in cuts.items()}
    y, shown = sets["train"][0], sets["test"][0][:SHOWN]
    sizes, arrays = {}, {}
    for K in SIZES:
        flat = PCA(784, K)
        flat.learn(y)
        models = [train(K, y, sets["held_apart"][0], seed, epochs, batch_size) for seed in range(seeds)]
        sizes[str(K)] = {
            "pca": judge(flat, flat.infer, sets),
            "auto_encoder": [judge(model, model.encode, sets) for model in models],
        }
        print(K, json.dumps(sizes[str(K)], indent=1), flush=True)
        first = models[0]
        arrays[f"digits/decoded/{K}"] = eight_bits(first.decode(first.encode(shown)))
        if K == 2:
            codes = first.encode(sets["test"][0]).detach()
            arrays["digits/codes"] = codes.half().numpy()
            low, high = (torch.quantile(codes, q, dim=0) for q in (0.02, 0.98))
            axes = [torch.linspace(a, b, SIDE) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
            arrays["digits/walk"] = eight_bits(first.decode(torch.cartesian_prod(*axes)))
    return arrays, {"seeds": seeds, "epochs": epochs, "hidden": HIDDEN, "sizes": sizes}


def eight_bits(images: Tensor) -> np.ndarray:
    """Grey levels as bytes."""
    return (images.detach().clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def main() -> None:
    """Train, judge, store."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=["digits", "ellipse"])
    p.add_argument("--epochs", type=int, default=60)
    p.add_argument("--batch", type=int, default=100)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    torch.set_num_threads(1)
    arrays, facts = stored(args.out, without=args.only) if args.only else ({}, {})
    facts.setdefault("parts", {})
    for part in [args.only] if args.only else ["ellipse", "digits"]:
        began = time.process_time()
        made = on_the_ellipse(args.seeds) if part == "ellipse" else on_digits(args.seeds, args.epochs, args.batch)
        arrays |= made[0]
        facts["parts"][part] = made[1] | {"processor_seconds": round(time.process_time() - began)}
    facts |= {"command": "python training/bottleneck.py", **machine()}
    print(write(args.out, arrays, facts), "bytes")


if __name__ == "__main__":
    main()
