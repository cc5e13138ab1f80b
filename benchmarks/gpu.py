"""The library's typical works on a GPU beside the processor: one thread, all threads, and the GPU, as a table.

Two lines each: seconds, and how many times longer than on the GPU. Every time is the median of three to seven runs
after one that is not counted; a work whose first run takes longer than two seconds, as some do on one thread, is not
run again. The GPU's queue is emptied before the clock is read; data are made on the device beforehand. In single
precision, as the book works. After each work, writes the table with its circumstances to
``benchmarks/results/gpu.json``; asserts nothing about time::

    python benchmarks/gpu.py

``--quick`` shrinks every work to see that it runs. Then, and without a GPU, whose column stays empty, nothing is
written.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from machine import machine
from torch import Tensor

from ebm_lib import data, joint, sampling
from ebm_lib.latent import sparse
from ebm_lib.nn import EnergyMLP

RESULTS = Path(__file__).parent / "results" / "gpu.json"
Work = Callable[[], object]
Make = Callable[[str, bool], Work]


def seeded(device: str = "cpu") -> torch.Generator:
    """A generator in a fixed state."""
    return torch.Generator(device).manual_seed(0)


def normal(device: str, *shape: int) -> Tensor:
    """Standard Gaussian numbers on the device, the same ones on each."""
    return torch.randn(shape, generator=seeded()).to(device)


def langevin(device: str, quick: bool) -> Work:
    """20 steps of 100,000 chains in the plane."""
    energy = EnergyMLP((2,), (64, 64), generator=seeded(), device=device)
    start, generator = normal(device, 1000 if quick else 100_000, 2), seeded(device)
    return lambda: sampling.langevin(energy, start, steps=20, step_size=1e-3, generator=generator)


def hmc(device: str, quick: bool) -> Work:
    """2 steps of 10 leapfrogs each, 100,000 chains in the plane."""
    energy = EnergyMLP((2,), (64, 64), generator=seeded(), device=device)
    start, generator = normal(device, 1000 if quick else 100_000, 2), seeded(device)
    return lambda: sampling.hmc(energy, start, steps=2, step_size=1e-2, leapfrog_steps=10, generator=generator)


def fista(device: str, quick: bool) -> Work:
    """100 iterations on 10,000 patches of 12 × 12 pixels with 256 atoms."""
    patches = normal(device, 100 if quick else 10_000, 144)
    atoms = sparse.normalize_columns(normal(device, 144, 256))
    return lambda: sparse.fista(patches, atoms, 0.5, steps=100)


def criterion(call: Callable[[Tensor, Tensor], Tensor], batch: int) -> Make:
    """A criterion and its gradient, dimension 2,048."""

    def make(device: str, quick: bool) -> Work:
        leaves = [normal(device, 16 if quick else batch, 2048).requires_grad_() for _ in range(2)]
        return lambda: torch.autograd.grad(call(*leaves), leaves)

    return make


def sinkhorn(device: str, quick: bool) -> Work:
    """Codes of 4,096 pictures for 3,000 prototypes."""
    scores = torch.nn.functional.normalize(normal(device, *((64, 30) if quick else (4096, 3000))), dim=1)
    return lambda: joint.sinkhorn(scores)


@cache
def sprites(n: int) -> Tensor:
    """Pictures, drawn once."""
    return data.sprites(n, generator=seeded(), dtype=torch.float32).images


def simclr(device: str, quick: bool) -> Work:
    """One epoch on 8,000 sprites, augmentations included."""
    encoder = joint.SmallEncoder(generator=seeded())
    method = joint.SimCLR(encoder, generator=seeded()).to(device)
    pictures = sprites(64 if quick else 8000).to(device)
    views, generator = joint.Views(*[joint.Augmentation(32)] * 2), seeded(device)
    size = 32 if quick else 256
    return lambda: joint.learn(method, pictures, views, epochs=1, batch_size=size, generator=generator, progress=False)


WORKS: dict[str, Make] = {
    "Langevin, 100,000 chains, 20 steps": langevin,
    "HMC, 100,000 chains, 2 × 10 leapfrogs": hmc,
    "FISTA, 10,000 × 256 codes, 100 steps": fista,
    "VICReg, batch 256": criterion(lambda a, b: joint.vicreg(a, b).loss, 256),
    "VICReg, batch 4,096": criterion(lambda a, b: joint.vicreg(a, b).loss, 4096),
    "NT-Xent, batch 256": criterion(lambda a, b: joint.nt_xent(a, b).loss, 256),
    "NT-Xent, batch 4,096": criterion(lambda a, b: joint.nt_xent(a, b).loss, 4096),
    "Sinkhorn, 4,096 × 3,000": sinkhorn,
    "SimCLR, an epoch of 8,000 sprites": simclr,
}


def seconds(work: Work, device: str, budget: float = 2.0) -> list[float]:
    """Three to seven runs, within the budget if possible, after a first that is not counted.

    A first run on the CPU that alone exceeds the budget is the only one.
    """
    times: list[float] = []
    while len(times) < 4 or (len(times) < 8 and sum(times) < budget):
        began = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
        if device == "cpu" and times[0] > budget:
            return times
    return times[1:]


def main() -> None:
    """Time every work in every place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny works, to see that they run")
    quick = parser.parse_args().quick
    cores = len(os.sched_getaffinity(0))
    places = [("1 thread", "cpu", 1), (f"{cores} threads", "cpu", cores)]
    facts = machine("torch")
    if torch.cuda.is_available():
        facts |= {"GPU": torch.cuda.get_device_name(), "CUDA": torch.version.cuda}
        places.append(("GPU", "cuda", cores))
    print(", ".join(f"{k} {v}" for k, v in facts.items()), flush=True)
    print(f"{'work':<40}" + "".join(f"{name:>12}" for name, *_ in places), flush=True)
    rows = []
    for name, make in WORKS.items():
        row: dict[str, object] = {"work": name}
        medians = []
        for place, device, threads in places:
            torch.set_num_threads(cores)
            work = make(device, quick)
            torch.set_num_threads(threads)
            times = seconds(work, device)
            medians.append(statistics.median(times))
            row[place] = {"seconds": medians[-1], "low": min(times), "high": max(times), "runs": len(times)}
        rows.append(row)
        print(f"{name:<40}" + "".join(f"{t:>12.4f}" for t in medians), flush=True)
        if places[-1][1] == "cuda":
            print(f"{'':<40}" + "".join(f"{t / medians[-1]:>11.1f}×" for t in medians), flush=True)
            if not quick:
                RESULTS.parent.mkdir(exist_ok=True)
                stored = {"command": "python benchmarks/gpu.py", **facts, "rows": rows}
                RESULTS.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
