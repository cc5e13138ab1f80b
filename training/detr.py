"""Train a small DETR to find the shapes of generated scenes, with the matching and with three things in its place.

    python training/detr.py                    # all parts; writes training/results/detr.npz and .json
    python training/detr.py --only matching    # one of them; what is stored of the others stays

Scenes have one to four objects and the network has eight slots. Which slot answers for which object is decided by

- matching: the assignment of least cost, a slot for each object;
- alone: each object takes its cheapest slot, also if another object has taken it;
- sorted: object k of the scene, counted from the left, belongs to slot k;
- listed: object k in the order of drawing, which means nothing, belongs to slot k.

Each is trained from two seeds, on the same scenes for the same seed. "shown" is a longer run with the matching, whose
network the page draws. The settings were not searched for.
"""

import argparse
import functools
from pathlib import Path
from typing import Any

import torch
from record import run_parts
from torch import Tensor, nn

from ebm_lib import data
from ebm_lib.nn import init_
from ebm_lib.structured import SetLoss, average_precision, box_iou, generalized_iou, set_loss
from ebm_lib.text import Attention, Block

RESULTS = Path(__file__).parent / "results" / "detr"
SLOTS, KINDS, DIM, HEADS, SIDE = 8, len(data.SCENE_SHAPES), 64, 4, 12  # SIDE × SIDE tokens for a picture
BATCH, EPOCH, RATE, SEEDS = 32, 64, 1e-3, 2  # an epoch is so many steps
EPOCHS, LONG = 16, 40
TEST, SCENES = 1000, 4  # scenes to measure on; scenes whose answers are kept

Result = tuple[dict[str, Tensor], dict[str, Any]]


class Layer(nn.Module):
    """One layer of the decoder: slots look at each other, then at the picture, then each thinks for itself."""

    def __init__(self) -> None:
        super().__init__()
        self.others, self.picture = Attention(DIM, HEADS), Attention(DIM, HEADS)
        self.norms = nn.ModuleList(nn.LayerNorm(DIM) for _ in range(3))
        self.mlp = nn.Sequential(nn.Linear(DIM, 2 * DIM), nn.GELU(), nn.Linear(2 * DIM, DIM))

    def forward(self, s: Tensor, memory: Tensor) -> Tensor:
        """Slots (B, SLOTS, DIM) and tokens (B, SIDE², DIM) to new slots."""
        s = s + self.others(self.norms[0](s))
        s = s + self.picture(self.norms[1](s), memory)
        return s + self.mlp(self.norms[2](s))


class Detr(nn.Module):
    """Pictures (B, 3, 48, 48) to class energies (B, SLOTS, KINDS + 1) and boxes (B, SLOTS, 4), for each layer."""

    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(32, DIM, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(DIM, DIM, 3, padding=1),
        )
        self.place = nn.Parameter(torch.empty(SIDE * SIDE, DIM))
        self.slots = nn.Parameter(torch.empty(SLOTS, DIM))
        self.encoder = nn.ModuleList(Block(DIM, HEADS, 2 * DIM) for _ in range(2))
        self.decoder = nn.ModuleList(Layer() for _ in range(layers))
        self.norm_memory, self.norm = nn.LayerNorm(DIM), nn.LayerNorm(DIM)
        self.kind = nn.Linear(DIM, KINDS + 1)
        self.box = nn.Sequential(nn.Linear(DIM, DIM), nn.ReLU(), nn.Linear(DIM, 4))

    def reset_parameters(self) -> None:
        """Draw the vectors of places and slots."""
        nn.init.normal_(self.place, 0, 0.5)
        nn.init.normal_(self.slots, 0, 1.0)

    def memory(self, x: Tensor) -> Tensor:
        """Return the picture as tokens, (B, SIDE², DIM)."""
        tokens = self.stem(x).flatten(2).mT + self.place
        for block in self.encoder:
            tokens = block(tokens)
        return self.norm_memory(tokens)

    def forward(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the answers of all layers, the last layer's last."""
        memory, s, found = self.memory(x), self.slots.expand(len(x), -1, -1), []
        for layer in self.decoder:
            s = layer(s, memory)
            out = self.norm(s)
            found.append((self.kind(out), self.box(out).sigmoid()))
        return found

    @torch.no_grad()
    def gaze(self, x: Tensor) -> Tensor:
        """Return where each slot of the last layer looks, (B, SLOTS, SIDE, SIDE): the mean over heads."""
        memory, s = self.memory(x), self.slots.expand(len(x), -1, -1)
        for layer in self.decoder[:-1]:
            s = layer(s, memory)
        last = self.decoder[-1]
        s = s + last.others(last.norms[0](s))
        return last.picture.weights(last.norms[1](s), memory).mean(-3).unflatten(-1, (SIDE, SIDE))


def loss_of(energy: Tensor, boxes: Tensor, scene: data.Scenes, order: str) -> SetLoss:
    """Return DETR's loss with one of the four ways of giving objects to slots."""
    slot = None
    if order == "alone":
        known = scene.labels.clamp(min=0)
        p = torch.softmax(-energy.detach(), -1).gather(-1, known[:, None].expand(-1, SLOTS, -1))
        pair = boxes.detach()[:, :, None], scene.boxes[:, None]
        cost = -p + 5 * (pair[0] - pair[1]).abs().sum(-1) + 2 * (1 - generalized_iou(*pair))
        slot = cost.argmin(1)
    elif order == "listed":
        slot = torch.arange(scene.labels.shape[1]).expand_as(scene.labels)
    elif order == "sorted":
        left = scene.boxes[..., 0].masked_fill(scene.labels < 0, 2.0)
        slot = left.argsort(1).argsort(1)
    return set_loss(energy, boxes, scene.labels, scene.boxes, slot=slot)


@functools.cache
def test_scenes() -> data.Scenes:
    """Return scenes that no training sees: their seed is not used for any."""
    return data.scenes(TEST, generator=torch.Generator().manual_seed(10_000))


@torch.no_grad()
def measured(net: Detr) -> dict[str, Any]:
    """Return average precision at IoU 0.5 (mean and by class), at 0.75, and how often objects are found twice."""
    scene = test_scenes()
    energy, boxes = (torch.cat(part) for part in zip(*(net(x)[-1] for x in scene.images.split(250)), strict=True))
    p = torch.softmax(-energy, -1)[..., :-1]
    confidence, kind = p.max(-1)
    ap, strict = (
        average_precision(confidence, kind, boxes, scene.labels, scene.boxes, classes=KINDS, threshold=threshold)
        for threshold in (0.5, 0.75)
    )
    said = confidence > 0.5
    near = (box_iou(boxes[:, :, None], scene.boxes[:, None]) >= 0.5) & said[:, :, None]
    real = scene.labels >= 0
    times = near.sum(1)[real]
    return {
        "ap50": round(ap.mean().item(), 4),
        "ap50_by_kind": [round(v, 4) for v in ap.tolist()],
        "ap75": round(strict.mean().item(), 4),
        "missed": round((times == 0).double().mean().item(), 4),
        "twice": round((times > 1).double().mean().item(), 4),
        "right_count": round((said.sum(1) == scene.counts).double().mean().item(), 4),
    }


@torch.no_grad()
def answers(net: Detr) -> Tensor:
    """Return what the network says of the first test scenes: probabilities and boxes, (SCENES, SLOTS, KINDS + 5)."""
    energy, boxes = net(test_scenes().images[:SCENES])[-1]
    return torch.cat((torch.softmax(-energy, -1), boxes), -1)


def train(order: str, seed: int, epochs: int) -> tuple[Detr, list[dict[str, Any]], list[Tensor]]:
    """Train from one seed; measure after each epoch of the first few, then after every fourth."""
    net, g = init_(Detr(), torch.Generator().manual_seed(seed)), torch.Generator().manual_seed(100 + seed)
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=1e-4)
    curve, kept = [{"epoch": 0, **measured(net)}], [answers(net)]
    for epoch in range(1, epochs + 1):
        for step in range(EPOCH):
            done = ((epoch - 1) * EPOCH + step) / (epochs * EPOCH)
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1.0, ((epoch - 1) * EPOCH + step + 1) / 100) * min(1.0, 5 * (1 - done))
            scene = data.scenes(BATCH, generator=g)
            # as in the paper, each layer of the decoder answers and is matched on its own
            loss = sum(loss_of(*found, scene, order).total.sum() for found in net(scene.images)) / scene.counts.sum()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        if epoch <= 8 or epoch % 4 == 0 or epoch == epochs:
            curve.append({"epoch": epoch, **measured(net)})
            kept.append(answers(net))
            print(order, seed, curve[-1], flush=True)
    return net.eval(), curve, kept


def arm(order: str, args: argparse.Namespace) -> Result:
    """Train one way from all seeds."""
    runs = [train(order, args.seed + s, args.epochs) for s in range(args.seeds)]
    return {"answers": torch.stack(runs[0][2])}, {"curves": [curve for _, curve, _ in runs]}


def shown(args: argparse.Namespace) -> Result:
    """Train for longer, and keep the network and its answers on the way."""
    net, curve, kept = train("matching", args.seed, args.long)
    arrays = {f"weights/{name}": w.detach() for name, w in net.state_dict().items()}
    return arrays | {"answers": torch.stack(kept)}, {"curve": curve}


PARTS = {order: functools.partial(arm, order) for order in ("matching", "alone", "sorted", "listed")} | {"shown": shown}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of the four arms")
    parser.add_argument("--long", type=int, default=LONG, help="epochs of the network that is shown")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    facts = {"scenes": TEST, "slots": SLOTS, "batch": BATCH, "steps_per_epoch": EPOCH, "seeds": args.seeds}
    run_parts(PARTS, args, facts | {"epochs": args.epochs, "long": args.long})
