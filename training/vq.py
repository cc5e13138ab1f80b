"""Train quantised auto-encoders on digits, over sizes of the codebook, with and without revival of dead codes.

    python training/vq.py                  # writes training/results/vq.npz and vq.json
    python training/vq.py --only sweep     # one part; what is stored of the other stays

An image of 28 by 28 pixels becomes 4 by 4 vectors of 8 numbers, by three convolutions; each is replaced by an entry of
one codebook of K, and three transposed convolutions make an image of them. 7,000 digits train, 2,000 others are
measured. The energy is the squared distance of an image from its reconstruction.

"sweep": K from 2 to 512 and three seeds. The codebook starts at random, N(0, 1), and follows by a moving average:
``none`` revives no code, ``revival`` does; ``seeded`` starts at vectors chosen as k-means++ does and revives none;
``gradient`` is learned by gradient, with revival (these two for K = 8, 128, 512 only). For comparison K-means of whole
images, and K-means of their 16 patches of 7 by 7 pixels. Stored of each: mean energy of the test digits; the entropy of
their codes, in bits a code; how many codes no training digit uses.

"shown": one model with K = 64, trained longer, at a falling rate, whose weights are stored.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from record import machine, stored, write
from torch import Tensor, nn

from ebm_lib import data
from ebm_lib.latent import KMeans, VQAutoEncoder, usage
from ebm_lib.nn import init_

RESULTS = Path(__file__).parent / "results" / "vq"
SIDE, L, CHANNELS = 4, 8, (16, 32)
GROUPS = SIDE * SIDE
SIZES = (2, 8, 32, 128, 512)
FEWER = (8, 128, 512)
ARMS = {
    "none": (SIZES, dict(revive_below=0.0), False),
    "revival": (SIZES, dict(revive_below=0.1), False),
    "seeded": (FEWER, dict(revive_below=0.0), True),
    "gradient": (FEWER, dict(revive_below=0.1, decay=None), False),
}


class Swap(nn.Module):
    """Channels and places change seats, (B, L, 16) to (B, 16, L) and back."""

    def forward(self, h: Tensor) -> Tensor:
        """Give the last two dimensions, swapped."""
        return h.mT


def networks(generator: torch.Generator) -> tuple[nn.Module, nn.Module]:
    """Encoder (B, 784) → (B, 16 L) and decoder, the other way."""
    a, b = CHANNELS
    encoder = nn.Sequential(
        nn.Unflatten(-1, (1, 28, 28)),
        nn.Conv2d(1, a, 4, stride=2, padding=1),  # 14 × 14
        nn.ReLU(),
        nn.Conv2d(a, b, 4, stride=2, padding=1),  # 7 × 7
        nn.ReLU(),
        nn.Conv2d(b, L, 4),  # 4 × 4
        nn.Flatten(-2),
        Swap(),
        nn.Flatten(-2),
    )
    decoder = nn.Sequential(
        nn.Unflatten(-1, (GROUPS, L)),
        Swap(),
        nn.Unflatten(-1, (SIDE, SIDE)),
        nn.ConvTranspose2d(L, b, 4),
        nn.ReLU(),
        nn.ConvTranspose2d(b, a, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(a, 1, 4, stride=2, padding=1),
        nn.Flatten(-3),
    )
    return init_(encoder, generator), init_(decoder, generator)


def digits() -> tuple[Tensor, Tensor]:
    """Images to learn from and images to measure on."""
    images = data.load_digits().images.flatten(1)
    return images[:7000], images[8000:]


def make(K: int, seed: int, **options: object) -> VQAutoEncoder:
    """An untrained model."""
    generator = torch.Generator().manual_seed(seed)
    options = dict(decay=0.95) | options
    return VQAutoEncoder(*networks(generator), L, K, groups=GROUPS, generator=generator, **options)


@torch.no_grad()
def judge(energy: Tensor, train_codes: Tensor, test_codes: Tensor, K: int) -> dict[str, float]:
    """Distortion, rate, dead codes."""
    return {
        "distortion": energy.mean().item(),
        "rate": usage(test_codes, K).rate,
        "dead": usage(train_codes, K).dead,
    }


@torch.no_grad()
def in_parts(function: nn.Module, y: Tensor) -> Tensor:
    """Values for y, 500 samples at a time."""
    return torch.cat([function(part) for part in y.split(500)])


def one_run(K: int, seed: int, options: dict, seed_codebook: bool, sets: tuple[Tensor, Tensor], steps: int) -> dict:
    """Train one model and judge it."""
    train_set, test_set = sets
    model = make(K, seed, **options)
    generator = torch.Generator().manual_seed(1000 + seed)
    history = model.learn(
        train_set, steps=steps, lr=3e-3, batch_size=64, seed_codebook=seed_codebook, generator=generator
    )
    found = judge(in_parts(model, test_set), in_parts(model.codes, train_set), in_parts(model.codes, test_set), K)
    return found | {"revived": sum(history.metrics["revived"])}


def as_patches(y: Tensor) -> Tensor:
    """Sixteen patches of 7 by 7 pixels an image, (16 N, 49)."""
    return y.reshape(-1, 4, 7, 4, 7).transpose(2, 3).reshape(-1, 49)


def clusters(K: int, seed: int, sets: tuple[Tensor, Tensor], per_image: int) -> dict:
    """K-means of images or patches."""
    train_set, test_set = sets
    model = KMeans(train_set.shape[1], K)
    model.learn(train_set, rounds=40, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        train_found, test_found = model.nearest(train_set), model.nearest(test_set)
    return judge(per_image * test_found.energy, train_found.codes, test_found.codes, K)


def sweep(sets: tuple[Tensor, Tensor], seeds: int, steps: int, kept: Path) -> dict:
    """All arms and sizes; every run is written to a file at once, and a sweep that was cut off goes on from there."""
    patches = tuple(as_patches(part) for part in sets)
    facts = json.loads(kept.read_text()) if kept.exists() else {"seeds": seeds, "steps": steps, "runs": {}}
    if (facts["seeds"], facts["steps"]) != (seeds, steps):
        raise SystemExit(f"{kept} is of another sweep: remove it")
    plan = {arm: (sizes, None) for arm, (sizes, _, _) in ARMS.items()}
    plan |= {"images": (SIZES, (sets, 1)), "patches": (SIZES, (patches, GROUPS))}
    for seed in range(seeds):
        for arm, (sizes, parts) in plan.items():
            for K in sizes:
                done = facts["runs"].setdefault(arm, {}).setdefault(str(K), [])
                if len(done) > seed:
                    continue
                began = time.process_time()
                found = clusters(K, seed, *parts) if parts else one_run(K, seed, *ARMS[arm][1:], sets, steps)
                done.append(found | {"processor_seconds": round(time.process_time() - began, 1)})
                kept.write_text(json.dumps(facts))
                print(seed, arm, K, json.dumps(found), flush=True)
    return facts


def shown(sets: tuple[Tensor, Tensor], steps: int) -> tuple[dict[str, np.ndarray], dict]:
    """Weights of one model that was trained longer, at a falling rate."""
    train_set, test_set = sets
    model, generator = make(64, 0, revive_below=0.1), torch.Generator().manual_seed(1000)
    for part, lr in ((0.6, 2e-3), (0.3, 7e-4), (0.1, 2e-4)):
        model.learn(
            train_set, steps=round(part * steps), lr=lr, batch_size=64, seed_codebook=False, generator=generator
        )
    facts = judge(in_parts(model, test_set), in_parts(model.codes, train_set), in_parts(model.codes, test_set), 64)
    return {f"shown/{name}": value.numpy() for name, value in model.state_dict().items()}, facts | {"steps": steps}


def main() -> None:
    """Train, judge, store."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=["sweep", "shown"])
    p.add_argument("--steps", type=int, default=500)
    p.add_argument("--longer", type=int, default=3000)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    torch.set_num_threads(1)
    sets = digits()
    arrays, facts = stored(args.out, without=args.only) if args.only else ({}, {})
    facts.setdefault("parts", {})
    for part in [args.only] if args.only else ["shown", "sweep"]:
        began = time.process_time()
        if part == "shown":
            made, found = shown(sets, args.longer)
            arrays |= made
        else:
            found = sweep(sets, args.seeds, args.steps, args.out.with_suffix(".part"))
        facts["parts"][part] = found | (
            {} if part == "sweep" else {"processor_seconds": round(time.process_time() - began)}
        )
        print(part, facts["parts"][part] if part == "shown" else "", flush=True)
    size = write(args.out, arrays, facts | {"command": "python training/vq.py", **machine()})
    args.out.with_suffix(".part").unlink(missing_ok=True)
    print(size, "bytes")


if __name__ == "__main__":
    main()
