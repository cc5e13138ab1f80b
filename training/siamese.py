"""Which pairs, which negatives, which moments: what Siamese networks learn, from several seeds.

    python training/siamese.py                    # all parts; writes training/results/siamese.npz and .json
    python training/siamese.py --only negatives   # one of them; what is stored of the others stays

``negatives``: triplets on signatures with random, semi-hard or hard mining, at two learning rates; how the error on new
writers ends, whether the embedding has collapsed, and what share of the triplets complains along the way. ``hands``:
pairs, from a few writers with many signatures each to many with a few.
``steady`` and ``flicker``: films of sprites, one network for each temporal criterion (in flicker for slowness alone);
how predictable the paths of new films are, and what a linear readout finds in one frame. Seeds draw the weights and the
batches; in ``hands`` also the writers, in the films also the films.
"""

import argparse
import functools
from pathlib import Path
from typing import Any

import torch
from record import run_parts
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from ebm_lib import data, joint
from ebm_lib.data.sprites import BRIGHTER, FIGURE_TEXTURE, GROUND_TEXTURE
from ebm_lib.nn import MLP
from ebm_lib.train import fit

RESULTS = Path(__file__).parent / "results" / "siamese"
SIGNATURES, NEW = 4000, 2000
WRITERS = (5, 25, 250, 1000)
MINING, RATES = ("random", "semi-hard", "hard"), (2e-3, 1e-2)
CLIPS, NEW_CLIPS, FRAMES = 800, 300, 8
CRITERIA = {"slow": {}, "linear": {"linearity": 5.0}, "straight": {"curvature": 5.0}}

Result = tuple[dict[str, Tensor], dict[str, Any]]


def seeded(seed: int = 0) -> torch.Generator:
    """Return a generator with this seed."""
    return torch.Generator().manual_seed(seed)


# --- signatures ------------------------------------------------------------------------------------------------------


def hands(writers: int, each: int, seed: int) -> Tensor:
    """Return signatures, (writers, each, 80)."""
    return data.signatures(writers, each, generator=seeded(seed)).flatten(2)


def pick_two(pens: Tensor, g: torch.Generator) -> Tensor:
    """Return two signatures of each writer, (N, 2, 80)."""
    two = torch.rand(pens.shape[:2], generator=g).topk(2).indices
    return pens[torch.arange(len(pens))[:, None], two]


def learn(pens: Tensor, args: argparse.Namespace, seed: int, mining: str | None = None, lr: float = 2e-3) -> Any:
    """Return a network trained on pairs, or on triplets if negatives are mined, and its history."""
    net = MLP((80, 128, 128, 16), activation="relu", generator=seeded(1 + 100 * seed))
    who, g = torch.arange(len(pens)).repeat(-(-125 // len(pens))), seeded(2 + 100 * seed)

    def loss(net: nn.Module, pens: Tensor, who: Tensor) -> Any:
        a, p = (normalize(z) if mining else z for z in net(pick_two(pens, g)).unbind(1))
        n = p[joint.mine(a, p, p, who[:, None] != who, mining or "random", generator=g)]
        if mining is None:
            same = torch.arange(2 * len(a)) < len(a)
            return {"loss": joint.siamese_square_square(torch.cat([a, a]), torch.cat([p, n]), same, margin=1.0).loss}
        complains = (a - p).square().sum(1) + 0.2 > (a - n).square().sum(1)
        return {"loss": joint.triplet(a, p, n), "active": complains.float().mean()}

    how = {"steps": args.steps, "batch_size": 125, "lr": lr, "generator": g}
    history = fit(net, loss, (pens[who], who), **how, progress=False)
    return net.requires_grad_(False), history


def energies(z: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distances of mates, and those of each signature to the next writer's."""
    one, other = z.unbind(1)
    return (one - other).norm(dim=-1), (one - other.roll(1, 0)).norm(dim=-1)


def rates(mates: Tensor, strangers: Tensor) -> tuple[float, float]:
    """Return the equal error rate, and the threshold where it is reached."""
    energy, order = torch.cat([mates, strangers]).sort()
    same = order < len(mates)
    accepted, rejected = (~same).cumsum(0) / len(strangers), 1 - same.cumsum(0) / len(mates)
    k = (accepted - rejected).abs().argmin()
    return ((accepted[k] + rejected[k]) / 2).item(), energy[k].item()


def negatives(args: argparse.Namespace) -> Result:
    """Mine in three ways, at two learning rates."""
    pens, new = hands(250, SIGNATURES // 250, 0), hands(NEW, 2, 1000)
    arrays, runs = {}, {}
    for mining in MINING:
        for lr in RATES:
            curves, rows = [], []
            for seed in range(args.seed, args.seed + args.seeds):
                net, history = learn(pens, args, seed, mining, lr)
                z = normalize(net(new), dim=-1)
                found = joint.collapse(z[:, 0])
                rows.append({"error": rates(*energies(z))[0], "verdict": found.verdict, "spread": found.spread})
                curves.append(torch.tensor(history.metrics["active"]).view(-1, 20).mean(1))
                print(mining, lr, seed, rows[-1], flush=True)
            runs[f"{mining} {lr}"] = rows
            arrays[f"{mining} {lr}"] = torch.stack(curves)
    return arrays, {"runs": runs}


def many(args: argparse.Namespace) -> Result:
    """As many signatures, from few writers or from many; and a threshold, set on writers known or new."""
    new, others, runs = hands(NEW, 2, 1000), hands(250, 2, 2000), {}
    for writers in WRITERS:
        rows = []
        for seed in range(args.seed, args.seed + args.seeds):
            pens = hands(writers, SIGNATURES // writers, seed)
            net = learn(pens, args, seed)[0]
            mates, strangers = energies(net(new))
            row = {"error": rates(mates, strangers)[0]}
            for name, sample in {"known": pens[:, :2], "others": others}.items():
                promised, theta = rates(*energies(net(sample)))
                row |= {f"{name} promised": promised, f"{name} FA": (strangers < theta).float().mean().item(),
                        f"{name} FR": (mates >= theta).float().mean().item()}  # fmt: skip
            rows.append(row)
            print(writers, seed, row, flush=True)
        runs[str(writers)] = rows
    return {}, {"runs": runs}


# --- films -----------------------------------------------------------------------------------------------------------


def film_net(seed: int) -> nn.Sequential:
    """Return an encoder and a head."""
    encoder = joint.SmallEncoder((16, 32, 64), generator=seeded(1 + 100 * seed))
    return nn.Sequential(encoder, joint.head((64, 64, 16), generator=seeded(2 + 100 * seed)))


def film_loss(net: nn.Module, films: Tensor, **weights: float) -> Tensor:
    """Return a temporal criterion, beside the variance and covariance terms."""
    z = net(films.flatten(0, 1))
    path = joint.temporal(z.unflatten(0, films.shape[:2]), **weights)
    return path.loss + 25 * joint.variance_hinge(z) + joint.covariance_squares(z)


def explained(h: Tensor, truth: Tensor) -> float:
    """Return the share of the variance of what is true of new frames that a linear readout explains."""
    one = pad(h, (0, 1), value=1.0).double()
    truth = truth.double().view(len(h), -1)
    w = torch.linalg.lstsq(one[:CLIPS], truth[:CLIPS], driver="gelsd").solution
    left = truth[CLIPS:] - truth[CLIPS:].mean(0)
    return 1 - ((one @ w - truth)[CLIPS:].square().sum() / left.square().sum()).item()


def judge(net: nn.Module, films: data.Sprites) -> dict[str, float]:
    """Measure the paths of new films, and what can be read off the middle frames."""
    z = joint.represent(net, films.images[CLIPS * FRAMES :]).unflatten(0, (NEW_CLIPS, FRAMES))
    step = z.diff(dim=1)
    row = {
        "bend": joint.bend(z).mean().item(),
        "step": (step.square().sum(-1).mean() / (2 * z.flatten(0, 1).var(0).sum())).item(),
        "line": (step.diff(dim=1).square().sum(-1).mean() / step[:, 1:].square().sum(-1).mean()).item(),
        "predicted": joint.linear_predictability(z).item(),
        "spread": joint.collapse(z.flatten(0, 1)).spread,
        "rank": joint.collapse(z.flatten(0, 1)).rank,
    }
    frame = data.Sprites(*(part[FRAMES // 2 :: FRAMES] for part in films))
    lit = frame.bright[:, None].float()
    truths = {
        "background": GROUND_TEXTURE * frame.ground_texture.mean((2, 3))
        + frame.ground + BRIGHTER[0] * (1 - lit),
        "figure": FIGURE_TEXTURE * frame.figure_texture.mean((2, 3))
        + frame.figure + BRIGHTER[1] * lit,
        "place": frame.place,
        "radius": frame.radius,
    }  # fmt: skip
    for name, h in (("", joint.represent(net[0], frame.images)), ("z ", joint.represent(net, frame.images))):
        parts = h[:CLIPS], frame.labels[:CLIPS], h[CLIPS:], frame.labels[CLIPS:]
        row[name + "shape"] = joint.linear_probe(*parts).accuracy
        row |= {name + what: explained(h, truth) for what, truth in truths.items()}
    return row


def films(args: argparse.Namespace, flicker: bool) -> Result:
    """Train on films with each criterion, and judge it and the network before training."""
    runs: dict[str, list] = {}
    for seed in range(args.seed, args.seed + args.seeds):
        drawn = data.sprite_films(CLIPS + NEW_CLIPS, FRAMES, flicker=flicker, generator=seeded(seed))
        clips = drawn.images[: CLIPS * FRAMES].unflatten(0, (CLIPS, FRAMES))
        for name in ("untrained", *CRITERIA)[: 2 if flicker else None]:
            net = film_net(seed)
            if name != "untrained":
                weights = {"slowness": 0.0 if CRITERIA[name] else 5.0} | CRITERIA[name]
                how = {"epochs": args.epochs, "batch_size": 50, "lr": 2e-3, "generator": seeded(3 + 100 * seed)}
                how["clip"] = 5.0  # the curvature's slope has no bound where steps are short
                fit(net, functools.partial(film_loss, **weights), (clips,), **how, progress=False)
            runs.setdefault(name, []).append(judge(net, drawn))
            print("flicker" if flicker else "steady", name, seed, runs[name][-1], flush=True)
    return {}, {"runs": runs}


PARTS = {
    "negatives": negatives,
    "hands": many,
    "steady": functools.partial(films, flicker=False),
    "flicker": functools.partial(films, flicker=True),
}


def main() -> None:
    """Train, measure, store."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=PARTS)
    p.add_argument("--steps", type=int, default=600, help="updates of a network for signatures")
    p.add_argument("--epochs", type=int, default=16, help="passes through the films")
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    facts = {"command": "python training/siamese.py", "steps": args.steps, "epochs": args.epochs, "seeds": args.seeds}
    run_parts(PARTS, args, facts)


if __name__ == "__main__":
    main()
