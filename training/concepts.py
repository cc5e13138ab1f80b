"""Train the energy of concepts in the plane: infer one from a few demonstrations, descend to new events.

    python training/concepts.py              # minutes on one core
    python training/concepts.py --updates 200 --out /tmp/short

writes ``training/results/concepts.npz`` (weights in single precision, the course of the losses) and ``.json`` (command,
seed, time). Five families of concepts are learned from: circles, squares, lines, pairs of heaps, spots; triangles are
never seen. All concepts and events are drawn anew at each update.

An update draws 32 concepts, one to five demonstrations of each and two more events, infers z from the demonstrations
by five steps of descent, and adds up three losses for the other events. *Denoising*: the slope of E in y must lead
from a noisy event back to the clean one; it shapes what generation descends. *Choice*: E must be lower for the
event's own concept than for five others of the batch (InfoNCE, its β learned); it gives the energies of different
concepts one scale, and makes z tell radii, directions and places apart. *Repulsion*: an event must have lower energy
than the same with some of its points knocked off. The gradient of all three flows through the descent in z.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from record import machine
from torch import Tensor, nn

from ebm_lib.concepts import ConceptEnergy, denoising_loss
from ebm_lib.data.concepts import SHAPES, draw_events, draw_parameters
from ebm_lib.losses import info_nce

RESULTS = Path(__file__).parent / "results" / "concepts"
FAMILIES = tuple(name for name in SHAPES if name != "triangle")
CONCEPTS, POINTS, DEMONSTRATIONS, QUERIES, RIVALS = 32, 8, 5, 2, 5
SIGMA = 0.05  # noise on the events whose energies are compared
WEIGHTS = {"denoising": 1.0, "choice": 0.3, "repulsion": 0.1}


def draw(count: int, events: int, generator: torch.Generator) -> Tensor:
    """Events of concepts of all families in turn, (count, events, 2P)."""
    sizes = [(count + len(FAMILIES) - 1 - i) // len(FAMILIES) for i in range(len(FAMILIES))]
    drawn = [
        draw_events(name, draw_parameters(name, size, generator=generator), events, points=POINTS, generator=generator)
        for name, size in zip(FAMILIES, sizes, strict=True)
    ]
    return torch.cat(drawn)


def present(*shape: int, generator: torch.Generator) -> Tensor:
    """Attention on the first three to eight points of each event."""
    count = torch.randint(3, POINTS + 1, (*shape, 1), generator=generator)
    return (torch.arange(POINTS) < count).float()


def knock(y: Tensor, generator: torch.Generator) -> Tensor:
    """Move a random share of the points of each event (the first one in any case) by noise of a random size."""
    points = y.unflatten(-1, (-1, 2))
    size = 0.05 * 20 ** torch.rand(*points.shape[:-2], 1, 1, generator=generator)
    share = torch.rand(*points.shape[:-2], 1, 1, generator=generator)
    hit = torch.rand(*points.shape[:-1], 1, generator=generator) < share
    hit[..., 0, :] = True
    return (points + hit * size * torch.randn(points.shape, generator=generator)).flatten(-2)


def losses(energy: ConceptEnergy, log_beta: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """The three losses of one update."""
    shown = int(torch.randint(1, DEMONSTRATIONS + 1, (), generator=generator))
    events = draw(CONCEPTS, shown + QUERIES, generator)
    noisy = events + SIGMA * torch.randn(events.shape, generator=generator)
    z = energy.infer(noisy[:, :shown], present(CONCEPTS, shown, generator=generator), create_graph=True)
    concept, attention = z[:, None], present(CONCEPTS, QUERIES, generator=generator)
    own = energy(noisy[:, shown:], concept, attention)
    knocked = energy(knock(noisy[:, shown:], generator), concept, attention)
    others = torch.stack(
        [z.roll(int(by), 0) for by in 1 + torch.randperm(CONCEPTS - 1, generator=generator)[:RIVALS]], 1
    )
    rival = energy(noisy[:, shown, None], others, attention[:, :1])
    return {
        "denoising": denoising_loss(energy, events[:, shown:], concept, attention, generator=generator).mean(),
        # β is learned, so it multiplies the energies here and is 1 in the loss
        "choice": info_nce(log_beta.exp() * own[:, 0], log_beta.exp() * rival).mean(),
        "repulsion": F.softplus((own - knocked) / SIGMA**2).mean(),
    }


def train(updates: int, rate: float, seed: int) -> tuple[ConceptEnergy, Tensor, list[list[float]]]:
    """Adam, its rate rising over 100 updates, then falling linearly; every 500 updates the mean losses are kept."""
    generator = torch.Generator().manual_seed(seed)
    energy, log_beta = ConceptEnergy(generator=generator), nn.Parameter(torch.tensor(2.0))
    optimizer = torch.optim.Adam([*energy.parameters(), log_beta], lr=rate, betas=(0.9, 0.99))
    history, recent = [], []
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = rate * min(1, (update + 1) / 100) * (1 - update / updates)
        parts = losses(energy, log_beta, generator)
        loss = sum(WEIGHTS[name] * part for name, part in parts.items())
        if not math.isfinite(loss.item()):
            raise FloatingPointError(f"the loss is {loss.item()} at update {update}")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(energy.parameters(), 1.0)
        optimizer.step()
        recent.append([part.item() for part in parts.values()])
        if (update + 1) % 500 == 0 or update == updates - 1:
            history.append([update + 1, *np.mean(recent, axis=0).tolist()])
            recent = []
            print(", ".join(f"{value:.3f}" for value in history[-1]), f"beta {log_beta.exp().item():.0f}", flush=True)
    return energy, log_beta.exp().detach(), history


def main() -> None:
    """Train and store."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--updates", type=int, default=8000)
    p.add_argument("--rate", type=float, default=2e-3)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    torch.set_num_threads(1)
    begun, cpu_begun = time.perf_counter(), time.process_time()
    energy, beta, history = train(args.updates, args.rate, args.seed)
    facts = {
        "command": " ".join(["python", "training/concepts.py", *sys.argv[1:]]),
        "seed": args.seed,
        "updates": args.updates,
        "training_seconds": round(time.perf_counter() - begun, 1),
        "training_processor_seconds": round(time.process_time() - cpu_begun, 1),
        **machine(),
        "parameters": sum(parameter.numel() for parameter in energy.parameters()),
        "families": FAMILIES,
        "points": POINTS,
        "demonstrations": DEMONSTRATIONS,
        "beta": round(beta.item(), 1),
        "losses_at_the_end": dict(zip(WEIGHTS, (round(x, 3) for x in history[-1][1:]), strict=True)),
    }
    args.out.parent.mkdir(exist_ok=True)
    weights = {f"energy.{key}": value.detach().numpy() for key, value in energy.named_parameters()}
    np.savez_compressed(args.out.with_suffix(".npz"), **weights, history=np.array(history, dtype=np.float32))
    args.out.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts, indent=1), args.out.with_suffix(".npz").stat().st_size, "bytes")


if __name__ == "__main__":
    main()
