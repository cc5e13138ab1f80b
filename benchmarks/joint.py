"""Joint-embedding criteria beside lightly's, on one thread at batch 256 and dimension 2,048: prints a table.

To SwAV the dimension is the number of prototypes: it takes scores. With a hundred, both take less than
a millisecond, and ours the longer.

``lightly`` needs an environment of its own: its import fails at two of torchvision's operators unless their schemas are
declared first. Without it the other columns stay empty, and nothing is written. Each figure is of loss and gradient
together; runs are interleaved, each repeat gives one ratio, and the table shows the median and the range of the ratios.
Times are the processor's, so that a busy machine disturbs them little. Writes the table with its circumstances to
``benchmarks/results/joint.json``; asserts nothing about time::

    python benchmarks/joint.py --batch 256 --dimension 2048
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from machine import machine
from torch import Tensor

from ebm_lib import joint

RESULTS = Path(__file__).parent / "results" / "joint.json"
Loss = Callable[..., Tensor]


def milliseconds(loss: Loss, leaves: list[Tensor]) -> float:
    """Processor time of a loss and its gradient, once: on one thread, what others run beside it does not count."""
    began = time.process_time()
    torch.autograd.grad(loss(*leaves), leaves, allow_unused=True)
    return 1e3 * (time.process_time() - began)


def compare(name: str, mine: Loss, yours: Loss | None, leaves: list[Tensor], repeats: int) -> dict[str, object]:
    """Return one row of the table; the first two pairs of runs are not counted."""
    both = [mine] if yours is None else [mine, yours]
    times = [[milliseconds(loss, leaves) for loss in both] for _ in range(repeats + 2)][2:]
    row: dict[str, object] = {"criterion": name, "ebm_lib": statistics.median(t[0] for t in times)}
    if yours is not None:
        ratios = [t[1] / t[0] for t in times]
        row |= {"lightly": statistics.median(t[1] for t in times), "ratio": statistics.median(ratios)}
        row |= {"low": min(ratios), "high": max(ratios)}
        row |= {f"loss, {who}": loss(*leaves).item() for who, loss in zip(("ebm_lib", "lightly"), both, strict=True)}
    return row


def line(row: dict[str, object]) -> str:
    """Return a row as text."""
    text = f"{row['criterion']:<14}{row['ebm_lib']:>10.2f}"
    if "ratio" in row:
        text += f"{row['lightly']:>10.2f}{row['ratio']:>8.2f}{row['low']:>8.2f} to {row['high']:.2f}"
    return text


def ours() -> dict[str, Loss]:
    """This library's criteria, by name."""
    generator = torch.Generator().manual_seed(0)
    return {
        "NT-Xent": lambda a, b: joint.nt_xent(a, b).loss,
        "SimSiam": lambda a, b: joint.simsiam(a, b, b, a).loss,
        "SwAV": lambda a, b: joint.swav([a, b]).loss,
        "Barlow Twins": lambda a, b: joint.barlow_twins(a, b).loss,
        "VICReg": lambda a, b: joint.vicreg(a, b).loss,
        "LeJEPA": lambda a, b: joint.lejepa([a, b], slices=256, generator=generator).loss,
    }


def theirs() -> dict[str, Loss]:
    """The same from lightly, if it can be imported here."""
    try:
        for operator in ("nms", "qnms"):
            schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{operator}", schema)
        from lightly import loss
    except (ImportError, RuntimeError) as error:
        print(f"lightly is not available: {error}")
        return {}
    ntxent, cosine, swav = loss.NTXentLoss(0.5), loss.NegativeCosineSimilarity(), loss.SwaVLoss()
    lejepa = loss.LeJEPALoss(sigreg_num_vectors=256) if hasattr(loss, "LeJEPALoss") else None
    found = {
        "NT-Xent": ntxent,
        "SimSiam": lambda a, b: 0.5 * (cosine(a, a.detach()) + cosine(b, b.detach())),
        "SwAV": lambda a, b: swav([a, b], []),
        "Barlow Twins": loss.BarlowTwinsLoss(),
        "VICReg": loss.VICRegLoss(),
    }
    if lejepa is not None:
        found["LeJEPA"] = lambda a, b: lejepa(local_proj=torch.stack([a, b]), global_proj=torch.stack([a, b]))
    return found


def main() -> None:
    """Time every criterion and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--dimension", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    shape = options.batch, options.dimension
    leaves = [torch.nn.functional.normalize(torch.randn(shape, generator=generator)).requires_grad_() for _ in range(2)]
    other = theirs()
    facts = machine("torch", *(["lightly"] if other else [])) | {"threads": torch.get_num_threads()}
    print(", ".join(f"{k} {v}" for k, v in facts.items()), flush=True)
    print(f"batch {options.batch}, dimension {options.dimension}; milliseconds for loss and gradient")
    print(f"{'criterion':<14}{'ebm_lib':>10}{'lightly':>10}{'ratio':>8}{'range':>16}")
    rows = []
    for name, loss in ours().items():
        rows.append(compare(name, loss, other.get(name), leaves, options.repeats))
        print(line(rows[-1]), flush=True)
    print("ratio: lightly's time by ours, of each pair of runs; losses differ where the conventions do.")
    if other:
        RESULTS.parent.mkdir(exist_ok=True)
        command = " ".join(["python", "benchmarks/joint.py", *sys.argv[1:]])
        RESULTS.write_text(json.dumps({"command": command, **facts, "rows": rows}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
