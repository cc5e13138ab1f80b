"""Latent-variable models, side by side: this library's K-means, Gaussian mixture and sparse codes, and scikit-learn's.

``python benchmarks/latent.py --help`` tells what there is to choose. Both get the same data, start, number of rounds or
penalty, dtype and one thread; runs are interleaved, each repeat gives one ratio, and the table shows the median and the
range of the ratios, beside what both reached, so that nobody is fast by stopping early. Times are the processor's, so
that a busy machine disturbs them little. Writes the table with its circumstances to ``benchmarks/results/latent.json``;
asserts nothing about time.
"""

import argparse
import json
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from machine import machine
from sklearn.cluster import KMeans as PeerKMeans
from sklearn.decomposition import sparse_encode
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as PeerMixture
from threadpoolctl import threadpool_limits
from torch import Tensor

from ebm_lib.latent import Components, GaussianMixture, KMeans
from ebm_lib.latent.sparse import sparse_codes, sparse_energy

RESULTS = Path(__file__).parent / "results" / "latent.json"
Run = Callable[[], Tensor]


@dataclass
class Row:
    """One comparison.

    Args:
        method: which method, at what size.
        data: on what.
        rounds: how many both made; 0 where each goes on until it is exact.
        ours: seconds of processor, the median of all repeats.
        theirs: the same, of scikit-learn.
        ratio: theirs / ours, the median of the repeats' ratios.
        low: the lowest of them.
        high: the highest.
        our_loss: the mean energy reached.
        their_loss: the same, of scikit-learn.
    """

    method: str
    data: str
    rounds: int
    ours: float
    theirs: float
    ratio: float
    low: float
    high: float
    our_loss: float
    their_loss: float


def seconds(run: Run) -> tuple[float, Tensor]:
    """Return the processor time of a call, and what it found."""
    begun = time.process_time()
    found = run()
    return time.process_time() - begun, found


def compare(
    method: str, data: str, rounds: int, ours: Run, theirs: Run, loss: Callable[[Tensor], float], repeats: int
) -> Row:
    """Time both ways by turns; ``loss`` judges what either found."""
    pairs = []
    for repeat in range(repeats):  # who goes first takes turns, too
        if repeat % 2:
            (their_time, peers), (our_time, mine) = seconds(theirs), seconds(ours)
        else:
            (our_time, mine), (their_time, peers) = seconds(ours), seconds(theirs)
        pairs.append((our_time, their_time))
    ratios = [b / a for a, b in pairs]
    median = [statistics.median(column) for column in zip(*pairs, strict=True)]
    row = Row(
        method, data, rounds, *median, statistics.median(ratios), min(ratios), max(ratios), loss(mine), loss(peers)
    )
    print(line(row), flush=True)
    return row


def clouds(n: int, d: int, k: int, spread: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """K Gaussians that overlap, with axes of their own; ``spread`` 0 is one round cloud."""
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(n, d, generator=g)
    if spread == 0:
        return noise.to(dtype)
    labels = torch.randint(k, (n,), generator=g)
    means, shape = spread * torch.randn(k, d, generator=g), torch.randn(k, d, d, generator=g) / math.sqrt(d)
    y = torch.empty(n, d)
    for j in range(k):
        y[labels == j] = noise[labels == j] @ shape[j] + means[j]
    return y.to(dtype)


def kmeans(data: str, spread: float, rounds: int, repeats: int) -> Row:
    """Lloyd's algorithm on 100 000 points of 64 dimensions, from the same 64 of them."""
    n, d, k = 100_000, 64, 64
    y = clouds(n, d, k, spread)
    start = y[:k].T.contiguous()

    def ours() -> Tensor:
        model = KMeans(d, k)
        with torch.no_grad():
            model.W.copy_(start)
        model.learn(y, start="current", rounds=rounds, tol=0)
        return model.W.detach()

    def theirs() -> Tensor:
        peer = PeerKMeans(k, init=start.T.numpy(), n_init=1, max_iter=rounds, tol=0, algorithm="lloyd")
        return torch.from_numpy(peer.fit(y.numpy()).cluster_centers_).T

    def loss(W: Tensor) -> float:
        model = KMeans(d, k)
        with torch.no_grad():
            model.W.copy_(W)
            return model(y).double().mean().item()

    return compare(f"K-means, {n // 1000}k x {d}, K = {k}", data, rounds, ours, theirs, loss, repeats)


def mixture(dtype: torch.dtype, rounds: int, repeats: int) -> Row:
    """EM with full covariances on 50 000 points of 16 dimensions, from the same 16 of them."""
    n, d, k = 50_000, 16, 16
    y = clouds(n, d, k, 1.0, dtype)
    eye = torch.eye(d, dtype=dtype).repeat(k, 1, 1)
    start = Components(torch.full((k,), -math.log(k), dtype=dtype), y[:k].T.contiguous(), eye)

    def ours() -> Tensor:
        model = GaussianMixture(d, k, dtype=dtype)
        model.assign(start)
        return torch.tensor(model.learn(y, start="current", rounds=rounds, tol=0).loss[-1])

    def theirs() -> Tensor:
        peer = PeerMixture(
            k, tol=0, max_iter=rounds, init_params="random_from_data", weights_init=np.full(k, 1 / k),
            means_init=start.mean.T.numpy(), precisions_init=eye.numpy(),
        )  # fmt: skip
        return torch.tensor(-peer.fit(y.numpy()).score(y.numpy()))

    name = f"mixture, {n // 1000}k x {d}, K = {k}"
    return compare(name, f"clusters, {dtype}".replace("torch.", ""), rounds, ours, theirs, Tensor.item, repeats)


def patches(n: int, side: int) -> Tensor:
    """Patches of a photograph that comes with scikit-learn, less their means, of unit variance on average."""
    from sklearn.datasets import load_sample_images
    from sklearn.feature_extraction.image import extract_patches_2d

    image = load_sample_images().images[0].mean(-1)
    y = torch.from_numpy(extract_patches_2d(image, (side, side), max_patches=n, random_state=0)).reshape(n, -1).float()
    y = y - y.mean(-1, keepdim=True)
    return y / y.std()


def sparse(n: int, lam: float, repeats: int) -> Row:
    """Codes of least energy of patches of 12 × 12 pixels, with 256 of them as atoms."""
    side, k = 12, 256
    y = patches(n + k, side)
    W, y = torch.nn.functional.normalize(y[:k], dim=-1).T.contiguous(), y[k:].contiguous()
    atoms, numbers = W.T.contiguous().numpy(), y.numpy()

    def theirs() -> Tensor:
        codes = sparse_encode(
            numbers, atoms, algorithm="lasso_cd", alpha=lam / 2, max_iter=10_000, check_input=False, n_jobs=1
        )
        return torch.from_numpy(codes)

    def loss(z: Tensor) -> float:
        return sparse_energy(y, z.to(y.dtype), W, lam).double().mean().item()

    name = f"sparse codes, {n // 1000}k x {side * side}, K = {k}"
    return compare(name, f"patches, λ = {lam:g}", 0, lambda: sparse_codes(y, W, lam), theirs, loss, repeats)


def warm_up() -> None:
    """Call everything once on little data: the first calls load libraries."""
    y = clouds(200, 4, 3, 1.0)
    KMeans(4, 3).learn(y)
    GaussianMixture(4, 3).learn(y)
    PeerMixture(3).fit(y.numpy())
    W = torch.nn.functional.normalize(y[:8], dim=-1)
    sparse_codes(y, W.T.contiguous(), 1.0)
    sparse_encode(y.numpy(), W.numpy(), algorithm="lasso_cd", alpha=0.5)


def line(r: Row) -> str:
    """Return a row as text."""
    excess = (r.our_loss - r.their_loss) / abs(r.their_loss)
    return (
        f"{r.method:34}{r.data:24}{r.rounds or '-':>7}{r.ours:9.3f}{r.theirs:10.3f}{r.ratio:8.2f}"
        f"{f'{r.low:.2f} to {r.high:.2f}':>15}{r.our_loss:12.6g}{r.their_loss:12.6g}{excess:11.1e}"
    )


def main() -> None:
    """Measure what was asked for."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--repeats", type=int, default=7, metavar="N", help="pairs of runs per row")
    p.add_argument("--patches", type=int, default=20_000, metavar="N", help="patches to code")
    p.add_argument("--only", choices=("kmeans", "mixture", "sparse"), help="one method; nothing is written then")
    args = p.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    facts, rows = machine("torch", "scikit-learn") | {"threads": torch.get_num_threads()}, []
    print(", ".join(f"{k} {v}" for k, v in facts.items()), flush=True)
    print(
        f"{'':58}{'rounds':>7}{'ours s':>9}{'theirs s':>10}{'ratio':>8}{'range':>15}{'our loss':>12}{'theirs':>12}"
        f"{'excess':>11}"
    )
    with threadpool_limits(1):
        warm_up()
        if args.only in (None, "kmeans"):
            for data, spread, rounds in (
                ("one cloud", 0.0, 20), ("one cloud", 0.0, 100), ("clusters", 0.5, 20), ("clusters", 0.5, 300),
            ):  # fmt: skip
                rows.append(kmeans(data, spread, rounds, args.repeats))
        if args.only in (None, "mixture"):
            rows += [mixture(dtype, 20, args.repeats) for dtype in (torch.float64, torch.float32)]
        if args.only in (None, "sparse"):
            rows += [sparse(args.patches, lam, max(1, args.repeats // 3)) for lam in (1.0, 0.3)]
    print("s: of processor time of a whole fit, one thread; ratio: scikit-learn's time by ours; loss: the mean energy,")
    print("computed the same way for both; excess: ours above theirs, relative.")
    if args.only is None:
        RESULTS.parent.mkdir(exist_ok=True)
        command = " ".join(["python", "benchmarks/latent.py", *sys.argv[1:]])
        result = {"command": command, **facts, "rows": [asdict(r) for r in rows]}
        RESULTS.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
