"""Take DeepCluster and SwAV apart on small sprites; count the prototypes in use; see what small crops are worth.

    python training/clustering.py                   # all ways; writes training/results/clustering.npz and .json
    python training/clustering.py --only "SwAV"     # one of them; what is stored of the others stays

Each way is trained from several seeds, which draw weights, batches and views; all see the same 3,000 sprites. Along the
way the embeddings of 1,000 other sprites, at length 1, are judged by the course's thresholds, the features by a linear
probe, and the clusters by how many of them are in use: e to the entropy of their shares. Before the first step the
probe judges a random encoder. Seconds are the processor's, for training alone. Stored beside: the course of the
loss, the sizes of DeepCluster's clusters in each round, and for some ways the cluster of each of the 4,000 sprites.
"""

import argparse
import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from record import run_parts
from sprite_studies import AUGMENTATION, CHANNELS, COUNT, GEOMETRY, HELD_OUT, SMALL, sprites
from torch import Tensor
from torch.nn.functional import log_softmax, normalize, one_hot

from ebm_lib.joint import (
    Augmentation,
    DeepCluster,
    SmallEncoder,
    Swapped,
    SwAV,
    Views,
    collapse,
    learn,
    linear_probe,
    represent,
)
from ebm_lib.joint.methods.base import Method

RESULTS = Path(__file__).parent / "results" / "clustering"
NO_COLOURS = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "jitter": 0.0, "grey": 0.0}
WAYS: dict[str, dict[str, Any]] = {
    "SwAV": {},
    "SwAV, softmax for Sinkhorn": {"assignment": "softmax"},
    "SwAV, nearest for Sinkhorn": {"assignment": "nearest"},
    "SwAV, softmax, gradient not stopped": {"assignment": "softmax", "stop": False},
    "SwAV, gradient not stopped": {"stop": False},
    "SwAV, Sinkhorn back halfway": {"assignment": "softmax", "back": "sinkhorn"},
    "SwAV, ε = 0.02": {"epsilon": 0.02},
    "SwAV, ε = 5": {"epsilon": 5.0},
    "SwAV, 2 prototypes": {"K": 2},
    "DeepCluster": {},
    "DeepCluster, numbers from its own classifier": {"own": "always", "balanced": False, "anew": False},
    "DeepCluster, K-means once, then its own": {"own": "later", "balanced": False, "anew": False},
    "DeepCluster, plain K-means, not balanced": {"plain": True, "balanced": False},
    "DeepCluster, not balanced": {"balanced": False},
    "DeepCluster, classifier kept": {"anew": False},
    "SwAV, no change of colour": {"views": "shapes"},
    "SwAV, small crops too": {"views": "multi"},
    "SwAV, small whole views too": {"views": "whole"},
    "SwAV, longer": {"longer": True},
}
KEPT = ("DeepCluster", "SwAV", "SwAV, no change of colour")  # whose clusters are stored, sprite by sprite

Result = tuple[dict[str, Tensor], dict[str, Any]]


def views(kind: str) -> Views:
    """Return what draws the views."""
    large = Augmentation(32, **AUGMENTATION | (NO_COLOURS if kind == "shapes" else {}))
    small = Augmentation(**AUGMENTATION | SMALL | ({"crop": GEOMETRY["crop"]} if kind == "whole" else {}))
    return Views(large, large, *([small] * 4 if kind in ("multi", "whole") else []))


class Rounds(DeepCluster):
    """DeepCluster with parts that can be left out; keeps the codes of every round."""

    def __init__(
        self,
        encoder: SmallEncoder,
        N: int,
        *,
        anew: bool = True,
        plain: bool = False,
        own: str = "never",
        **options: Any,
    ) -> None:
        super().__init__(encoder, N, **options)
        self.anew, self.plain, self.own, self.found = anew, plain, own, []

    def begin_epoch(self, images: Tensor, generator: torch.Generator | None = None) -> None:
        """Cluster anew, in one of the ways."""
        kept = {name: value.clone() for name, value in self.head[-1].state_dict().items()}
        if self.own == "always" or (self.own == "later" and int(self.steps)):
            self.train(False)
            with torch.no_grad():
                self.take(self.head(represent(self.encoder, images)).argmax(1))
            self.train(True)
        else:
            super().begin_epoch(images, generator)
            if self.plain:
                self.take(plain_kmeans(represent(self.encoder, images), len(self.counts), generator))
            if not self.anew and int(self.steps):
                self.head[-1].load_state_dict(kept)
        self.found.append(self.codes.clone())

    def take(self, codes: Tensor) -> None:
        """Make these the clusters."""
        self.codes.copy_(codes)
        self.counts.copy_(one_hot(codes, len(self.counts)).sum(0))


def plain_kmeans(points: Tensor, K: int, generator: torch.Generator | None, rounds: int = 20) -> Tensor:
    """Lloyd's algorithm from K of the points, in which a cluster that falls empty stays empty."""
    W = points[torch.randperm(len(points), generator=generator)[:K]]
    for _ in range(rounds):
        codes = torch.cdist(points, W).argmin(1)
        members = one_hot(codes, K).to(points.dtype)
        counts = members.sum(0)[:, None]
        W = torch.where(counts > 0, members.T @ points / counts.clamp(min=1), W)
    return torch.cdist(points, W).argmin(1)


def shares(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """The library's Sinkhorn–Knopp, in logarithms, with its gradient."""
    log_q = scores / epsilon
    for _ in range(iterations):
        log_q = log_softmax(log_q - log_q.logsumexp(0), 1)
    return log_q


class Parts(SwAV):
    """SwAV of two views with parts that can be left out."""

    def __init__(
        self, encoder: SmallEncoder, *, assignment: str = "sinkhorn", stop: bool = True,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(encoder, **options)
        self.assignment, self.stop = assignment, stop

    def forward(self, views: Sequence[Tensor], rows: Tensor, generator: torch.Generator | None = None) -> Swapped:
        """Swapped prediction, with the assignment that was asked for."""
        if self.assignment == "sinkhorn" and self.stop:
            return super().forward(views, rows, generator)
        scores = [self.prototypes(self.head(self.encoder(view))) for view in views]
        loss = entropy = 0.0
        for own, other in (scores, scores[::-1]):
            s = own.detach() if self.stop else own
            if self.assignment == "sinkhorn":
                log_q = shares(s, self.options["epsilon"], self.options["iterations"])
            else:
                log_q = log_softmax(s / self.options["epsilon"], 1)
            q = log_q.exp()
            if self.assignment == "nearest":
                q = one_hot(s.argmax(1), s.shape[1]).to(s.dtype)
            loss = loss - (q * log_softmax(other / self.options["temperature"], 1)).sum(1).mean() / 2
            entropy = entropy - torch.xlogy(q, q).sum(1).mean() / 2
        return Swapped(loss, entropy, loss - entropy)


def build(name: str, seed: int, args: argparse.Namespace) -> Method:
    """Return the method, in one of the ways, with fresh weights."""
    g = torch.Generator().manual_seed(seed)
    way = {k: v for k, v in WAYS[name].items() if k not in ("views", "longer", "back")}
    encoder = SmallEncoder(CHANNELS, generator=g)
    if name.startswith("DeepCluster"):
        return Rounds(encoder, COUNT, **{"K": args.clusters} | way, generator=g)
    return Parts(encoder, **{"K": args.clusters} | way, generator=g)


@torch.no_grad()
def embed(method: Method, features: Tensor) -> tuple[Tensor, Tensor]:
    """Return embeddings of length 1, and the scores of the clusters."""
    z = method.head(features)
    if isinstance(method, SwAV):
        return normalize(z, dim=1), method.prototypes(z)
    return normalize(z - z.mean(1, keepdim=True), dim=1), z  # a softmax does not see the mean of the scores


@torch.no_grad()
def judge(method: Method, sets: tuple[Tensor, Tensor, Tensor, Tensor]) -> dict[str, Any]:
    """Measure features by a probe, embeddings by the thresholds, and the clusters' shares, on unseen pictures."""
    train, labels, test, truth = sets
    training = method.training
    method.eval()
    known, new = represent(method.encoder, train), represent(method.encoder, test)
    z, scores = embed(method, new)
    method.train(training)
    found = collapse(z)
    with torch.enable_grad():
        probe = linear_probe(known, labels, new, truth, steps=100).accuracy
    share = one_hot(scores.argmax(1), scores.shape[1]).double().mean(0)
    return {
        "probe": round(100 * probe, 2),
        "verdict": found.verdict,
        "spread": round(found.spread, 4),
        "rank": round(found.rank, 2),
        "in_use": round((-torch.xlogy(share, share).sum()).exp().item(), 2),
        "largest": round(share.max().item(), 3),
    }


def way(args: argparse.Namespace, name: str) -> Result:
    """Train in one of the ways, from each seed, and judge at the beginning, at the end, and between."""
    sets = sprites()
    draw = views(WAYS[name].get("views", "two"))
    epochs = args.long if WAYS[name].get("longer") else args.epochs
    runs, losses, entropies, codes, rounds = [], [], [], [], []
    for seed in range(args.seed, args.seed + args.seeds):
        method, rows, spent = build(name, seed, args), [], [0.0]
        begin: Callable = method.begin_epoch

        def look(
            images: Tensor, generator: torch.Generator, method: Method = method, rows: list = rows,
            begin: Callable = begin, spent: list = spent,
        ) -> None:  # fmt: skip
            paused = time.process_time()
            epoch = round(int(method.steps) / (COUNT // args.batch))
            if epoch in args.looks:
                rows.append({"epoch": epoch} | judge(method, sets))
            if epoch == epochs // 2 and "back" in WAYS[name]:
                method.assignment = WAYS[name]["back"]
            spent[0] -= time.process_time() - paused
            begin(images, generator)

        method.begin_epoch = look  # called before each pass through the data
        g = torch.Generator().manual_seed(seed)
        options = {"epochs": epochs, "batch_size": args.batch, "generator": g, "progress": False}
        begun = time.process_time()
        history = learn(method, sets[0], draw, **options)
        seconds = time.process_time() - begun + spent[0]
        rows.append({"epoch": epochs, "seconds": round(seconds, 2)} | judge(method, sets))
        method.eval()
        scores = embed(method, represent(method.encoder, torch.cat([sets[0], sets[2]])))[1]
        codes.append(scores.argmax(1))
        if isinstance(method, Rounds):
            rounds.append(torch.stack(method.found))
        losses.append(torch.tensor(history.loss))
        if isinstance(method, SwAV):
            entropies.append(torch.tensor(history.metrics["entropy"]))
        runs.append(rows)
        print(name, seed, rows[-1], flush=True)
    arrays = {"loss": torch.stack(losses)}
    if name in KEPT:
        arrays["codes"] = torch.stack(codes)
    if rounds:
        found = torch.stack(rounds)
        arrays["sizes"] = one_hot(found, args.clusters).sum(2)
        arrays |= {"rounds": found} if name in KEPT else {}
    if entropies:
        arrays["entropy"] = torch.stack(entropies)
    return arrays, {"runs": runs}


PARTS = {name: functools.partial(way, name=name) for name in WAYS}


def main() -> None:
    """Train, measure, store."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=PARTS)
    p.add_argument("--epochs", type=int, default=4)
    p.add_argument("--long", type=int, default=8, help="epochs of the way that runs longer")
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--clusters", type=int, default=30)
    p.add_argument("--looks", type=int, nargs="+", default=[0, 2], help="epochs before which to measure")
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    facts = {"command": "python training/clustering.py", "epochs": args.epochs, "batch": args.batch,
             "clusters": args.clusters, "count": COUNT, "held_out": HELD_OUT, "channels": CHANNELS}  # fmt: skip
    run_parts(PARTS, args, facts)


if __name__ == "__main__":
    main()
