"""Take SimCLR, MoCo and PIRL apart on small sprites: negatives, views, head, temperature, momentum, memory.

    python training/contrastive.py                       # all ways; writes training/results/contrastive.npz and .json
    python training/contrastive.py --only "MoCo, m = 0"  # one of them; what is stored of the others stays

Each way is trained from several seeds, which draw weights, batches and views; all see the same 3,000 sprites, as many
times (one of PIRL's ways three times as often). At the end the embeddings of 1,000 other sprites, at length 1, are
judged by the course's thresholds; features (before the head) and embeddings (after it) by a linear probe. "random
encoder" is the start of SimCLR's runs.

Of what remembers embeddings (MoCo's queue, PIRL's bank) it is measured halfway through training how far the memory is
out of date: the cosine of an entry with what the encoder that writes them makes of the same views now, by age in steps.
"""

import argparse
import collections
import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from record import run_parts
from sprite_studies import AUGMENTATION, CHANNELS, COLOURS, COUNT, GEOMETRY, HELD_OUT, sprites
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from ebm_lib.joint import (
    PIRL,
    Augmentation,
    MoCo,
    PIRLTerms,
    SimCLR,
    SmallEncoder,
    Views,
    alignment,
    collapse,
    head,
    jigsaw,
    learn,
    linear_probe,
    represent,
    uniformity,
)
from ebm_lib.joint.methods.base import Method

RESULTS = Path(__file__).parent / "results" / "contrastive"
QUEUE = 1024
NO_GEOMETRY, NO_COLOURS = {"crop": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": 0.0}, {"jitter": 0.0, "grey": 0.0}
WAYS: dict[str, dict[str, Any]] = {
    "random encoder": {"epochs": 0},
    "SimCLR": {},
    "SimCLR, no negatives": {"negatives": False},
    "SimCLR, negatives back halfway": {"negatives": "back"},
    "SimCLR, no colour changes": {"augment": GEOMETRY | NO_COLOURS},
    "SimCLR, colour changes only": {"augment": COLOURS | NO_GEOMETRY},
    "SimCLR, no changes": {"augment": NO_COLOURS | NO_GEOMETRY},
    "SimCLR, no head": {"head": "none"},
    "SimCLR, linear head": {"head": "linear"},
    **{f"SimCLR, τ = {value:g}": {"options": {"temperature": value}} for value in (0.05, 0.5, 1.0, 5.0)},
    **{f"MoCo, m = {m:g}": {"options": {"momentum": m}} for m in (0.99, 0.0, 0.9, 0.999)},
    "MoCo, no negatives": {"negatives": False},
    "MoCo, no negatives, m = 0.9": {"negatives": False, "options": {"momentum": 0.9}},
    "PIRL": {},
    "PIRL, no negatives": {"negatives": False},
    "PIRL, no negatives, 3 × as long": {"negatives": False, "epochs": 18},
}

Result = tuple[dict[str, Tensor], dict[str, Any]]
Seen = collections.deque  # of the last steps: (views, rows)


class PullingPIRL(PIRL):
    """PIRL with the part that pulls alone: the cosines with the own memory."""

    def forward(self, views: list[Tensor], rows: Tensor, generator: torch.Generator | None = None) -> PIRLTerms:
        """As PIRL's, without any other memory."""
        image, patches = views
        f, own = self.head(self.encoder(image)), self.bank.values[rows]
        g = self.join_head(self.patch_head(self.encoder(patches.flatten(0, 1))).view(len(f), -1))
        parts = [-cosine_similarity(own, v).mean() / (2 * self.temperature) for v in (g, f)]
        self.bank.update(rows, f)
        return PIRLTerms(sum(parts), *parts)


def build(name: str, seed: int) -> Method:
    """Return the method, in one of the ways, with fresh weights."""
    g, way = torch.Generator().manual_seed(seed), WAYS[name]
    encoder, options = SmallEncoder(CHANNELS, generator=g), way.get("options", {}) | {"generator": g}
    if name.startswith("PIRL"):
        kind = PIRL if way.get("negatives", True) else PullingPIRL
        return kind(encoder, COUNT, negatives=QUEUE, **options)
    if name.startswith("MoCo"):
        method = MoCo(encoder, size=QUEUE, **options)
    else:
        method = SimCLR(encoder, **options)
        if "head" in way:
            linear = head((encoder.width, 64), generator=g)
            method.head = linear if way["head"] == "linear" else torch.nn.Identity()
    method.push = way.get("negatives", True) is True
    method.register_forward_hook(lambda m, _, out: out if m.push else out._replace(loss=out.positive))
    return method


def make_views(name: str) -> Views:
    """Return what draws the views."""
    augment = Augmentation(32, **WAYS[name].get("augment", AUGMENTATION))
    if name.startswith("PIRL"):
        return Views(augment, lambda x, g: jigsaw(augment(x, g), grid=2, patch=16, generator=g))
    return Views(augment, augment)


@torch.no_grad()
def judge(method: Method, sets: tuple[Tensor, Tensor, Tensor, Tensor]) -> dict[str, Any]:
    """Measure features and embeddings by a probe, and embeddings of pictures that were not learned from."""
    train, labels, test, truth = sets
    training = method.training
    method.eval()
    known, new = represent(method.encoder, train), represent(method.encoder, test)
    augment = Augmentation(32, **AUGMENTATION)  # all ways are judged by the same views
    views = Views(augment, augment)(test, torch.Generator().manual_seed(5))
    pair = [method.head(represent(method.encoder, view)) for view in views]
    z_known, z = normalize(method.head(known), dim=1), normalize(method.head(new), dim=1)
    method.train(training)
    found = collapse(z)
    with torch.enable_grad():
        probes = [linear_probe(h, labels, k, truth, steps=100).accuracy for h, k in ((known, new), (z_known, z))]
    return {
        "probe": round(100 * probes[0], 2),
        "probe_after_head": round(100 * probes[1], 2),
        "verdict": found.verdict,
        "spread": round(found.spread, 4),
        "rank": round(found.rank, 2),
        "alignment": round(alignment(*pair).item(), 4),
        "uniformity": round(uniformity(z).item(), 4),
    }


@torch.no_grad()
def agreement(method: MoCo | PIRL, seen: Seen) -> Tensor:
    """Cosine of what is remembered with what would be remembered now, by age in steps, the newest first."""
    queue = isinstance(method, MoCo)
    writer = copy.deepcopy(method.slow if queue else torch.nn.Sequential(method.encoder, method.head)).train()
    found = []
    for age, (views, rows) in enumerate(reversed(seen)):
        place = method.queue.place - (age + 1) * len(rows) if queue else None
        old = method.queue.values[(place + torch.arange(len(rows))) % QUEUE] if queue else method.bank.values[rows]
        found.append(cosine_similarity(old, writer(views[1 if queue else 0])).mean())
    return torch.stack(found)


def way(args: argparse.Namespace, name: str) -> Result:
    """Train in one of the ways, from each seed, and judge."""
    sets, remembers = sprites(), not name.startswith(("SimCLR", "random"))
    per_epoch, epochs = COUNT // args.batch, WAYS[name].get("epochs", args.epochs)
    runs, losses, memory = [], [], []
    for seed in range(args.seed, args.seed + args.seeds):
        method = build(name, seed)
        seen: Seen = collections.deque(maxlen=QUEUE // args.batch if name.startswith("MoCo") else per_epoch)
        if remembers:
            method.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[:2]))

        def halfway(images: Tensor, g: torch.Generator, method: Method = method, seen: Seen = seen) -> None:
            if int(method.steps) == epochs // 2 * per_epoch:
                if WAYS[name].get("negatives") == "back":
                    method.push = True
                if remembers:
                    memory.append(agreement(method, seen))

        method.begin_epoch = halfway  # called before each pass through the data
        if epochs:
            g = torch.Generator().manual_seed(seed)
            options = {"epochs": epochs, "batch_size": args.batch, "generator": g, "progress": False}
            losses.append(torch.tensor(learn(method, sets[0], make_views(name), **options).loss))
        runs.append(judge(method, sets) | ({"memory": round(memory[-1].mean().item(), 4)} if remembers else {}))
        print(name, seed, runs[-1], flush=True)
    arrays = {"loss": torch.stack(losses)} if losses else {}
    return arrays | ({"memory": torch.stack(memory)} if memory else {}), {"runs": runs}


PARTS: dict[str, Callable[[argparse.Namespace], Result]] = {name: functools.partial(way, name=name) for name in WAYS}


def main() -> None:
    """Train, measure, store."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=PARTS)
    p.add_argument("--epochs", type=int, default=6)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    facts = {"command": "python training/contrastive.py", "epochs": args.epochs, "batch": args.batch,
             "count": COUNT, "held_out": HELD_OUT, "channels": CHANNELS, "queue": QUEUE}  # fmt: skip
    run_parts(PARTS, args, facts)


if __name__ == "__main__":
    main()
