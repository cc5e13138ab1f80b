"""Train a convolutional energy of the bundled digits by persistent contrastive divergence, and judge it.

    python training/digits_energy.py                        # minutes on one core
    python training/digits_energy.py --ablations            # then: short runs with one thing changed in each
    python training/digits_energy.py --picture samples.png  # also draw what it samples from noise

writes ``training/results/digits_energy.npz`` (weights in half precision, of the energy and of a classifier that judges
its samples; what the short runs sample) and ``.json`` (command, seed, time, held-out figures). The first 9,000 digits
are learned from, the last 1,000 test.

The energy is of *noisy* digits: each picture gets fresh Gaussian noise whenever it is used. The density is then smooth
at the scale of the noise, a step of Langevin dynamics that long moves, and step and noise of the sampler belong to one
temperature, β = 1. Training starts with denoising, 1,000 updates of denoising score matching, which gives the energy
its slopes near digits. Then come the updates of persistent contrastive divergence: six Langevin steps from the replay
buffer, and one step of Adam on the difference of the mean energies. Fresh chains start from noise in a rectangle of
random place, size and brightness, so that small and partial shapes are met too and pushed up; what a rectangle of
noise becomes is the sampler's doing, and no digit is shrunk, cut or turned. Chains are renewed often, so they stay
young: the energy becomes a better judge of what is no digit, and a worse density. Chains far above the data are given
up, and the variance of the energies is penalised, or the two sides may run away from each other. The weights kept are a
running average, rounded to half precision, and it is those that are judged.

What is far from data is told by the mean energy of eight noisy versions of a picture: against uniform noise, against
digits with their pixels shuffled by one permutation, digits shrunk to three quarters, and digits mirrored top to bottom
of the classes that such a mirror changes. A classifier trained on digits and their mirror images is the ceiling there.
"""

import argparse
import copy
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from record import machine
from torch import Tensor, nn

from ebm_lib import data
from ebm_lib.nn import ConvEnergy, init_
from ebm_lib.sampling import ReplayBuffer, langevin
from ebm_lib.score import denoising_score_matching

RESULTS = Path(__file__).parent / "results"
HELD_OUT, SIDE, PIXELS, BATCH = 1000, 28, 784, 64
RUNAWAY = 500.0  # nats between data and negatives; some tens are usual
MIRROR_CLASSES = (2, 4, 5, 6, 7, 9)  # 0, 1, 3 and 8 look the same from below
NET = {"shape": (1, SIDE, SIDE), "channels": (32, 64), "hidden": 96}


class Recipe(NamedTuple):
    """Everything that a run depends on besides its seed."""

    updates: int = 3500
    warm_up: int = 1000  # updates of denoising first
    sigma: float = 0.25  # noise on the data
    step: float = 0.2  # the sampler's step size, in units of sigma²
    k: int = 6  # Langevin steps an update
    capacity: int = 4096
    renewed: float = 0.15  # share of fresh starts
    windows: bool = True  # fresh starts in random rectangles, or as bright all over the picture
    margin: float = 300.0  # a chain so much above the data is lost: not pushed further, and replaced
    penalty: float = 0.001  # weight of the variance of the energies
    lr: float = 1.2e-3
    averaging: float = 0.995

    def energy(self, generator: torch.Generator | None = None) -> ConvEnergy:
        """A new network over the bowl that belongs to the noise; without noise on the data, to a quarter."""
        return ConvEnergy(**NET, bowl=1 / self.scale**2, generator=generator)

    @property
    def scale(self) -> float:
        """The length in terms of which steps are measured."""
        return self.sigma or Recipe().sigma

    def fresh(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Where chains start: noise, and the noise that data have."""
        if self.windows:
            y = windows(count, generator)
        else:
            y = 2 * torch.rand(count, 1, generator=generator) * noise(count, generator)
        return y + self.scale * torch.randn(count, PIXELS, generator=generator)

    @property
    def step_size(self) -> float:
        """The sampler's η."""
        return self.step * self.scale**2


SHORT = Recipe(updates=700, warm_up=500, averaging=0.99)
ABLATIONS = {
    "short run": SHORT,
    "no noise on data": SHORT._replace(sigma=0.0, warm_up=0),
    "no denoising": SHORT._replace(warm_up=0),
    "no contrast": SHORT._replace(updates=0, warm_up=SHORT.warm_up + SHORT.updates),
    "no buffer": SHORT._replace(renewed=1.0),
    "older chains": SHORT._replace(renewed=0.02),
    "no rectangles": SHORT._replace(windows=False),
    "rate × 3": SHORT._replace(lr=3 * SHORT.lr, margin=math.inf, penalty=0.0),
    "rate × 3, longer": Recipe(lr=3 * Recipe().lr, margin=math.inf, penalty=0.0),
}


def load() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return pictures (N, 784) and labels (N,) to learn from, and those to test on."""
    images, labels, _ = data.load_digits()
    pictures = images.flatten(1)
    return (pictures[:-HELD_OUT], labels[:-HELD_OUT]), (pictures[-HELD_OUT:], labels[-HELD_OUT:])


def noise(count: int, generator: torch.Generator | None) -> Tensor:
    """Pictures of uniform noise, (count, 784)."""
    return torch.rand(count, PIXELS, generator=generator)


def windows(count: int, generator: torch.Generator | None) -> Tensor:
    """Uniform noise in a rectangle of random place, size (8 to 28 pixels a side) and brightness, black around it."""
    size = 8 + (SIDE - 8) * torch.rand(count, 2, 1, generator=generator)
    centre = SIDE / 2 + (2 * torch.rand(count, 2, 1, generator=generator) - 1) * (SIDE - size) / 2
    within = ((torch.arange(float(SIDE)) - centre).abs() < size / 2).float()
    rectangle = (within[:, 0, :, None] * within[:, 1, None, :]).flatten(1)
    return rectangle * 2 * torch.rand(count, 1, generator=generator) * noise(count, generator)


def clean(energy: nn.Module, y: Tensor, sigma: float) -> Tensor:
    """The mean of all pictures that y may be a noisy version of: y - σ² ∇F(y)."""
    y = y.detach().requires_grad_()
    (slope,) = torch.autograd.grad(energy(y).sum(), y)
    return (y - sigma**2 * slope).detach()


def train(
    recipe: Recipe, digits: Tensor, seed: int, watch: Callable[[ConvEnergy], tuple[float, ...]] | None = None
) -> tuple[ConvEnergy, list[list[float]]]:
    """Denoise, then contrast; return the averaged energy and, every 100 updates, its gap, spread, and what to watch."""
    generator = torch.Generator().manual_seed(seed)
    energy = recipe.energy(generator)

    def batch() -> Tensor:
        return digits[torch.randint(len(digits), (BATCH,), generator=generator)]

    optimizer = torch.optim.Adam(energy.parameters(), lr=recipe.lr, betas=(0.5, 0.99))
    for _ in range(recipe.warm_up):
        loss = recipe.sigma**2 * denoising_score_matching(energy, batch(), recipe.sigma, generator=generator).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    averaged, history = copy.deepcopy(energy), []
    optimizer = torch.optim.Adam(energy.parameters(), lr=recipe.lr, betas=(0.0, 0.99))
    buffer = ReplayBuffer(recipe.capacity, recipe.fresh, reinit=recipe.renewed, generator=generator)
    for update in range(recipe.updates):
        optimizer.param_groups[0]["lr"] = recipe.lr * min(1, (update + 1) / 50) * (1 - update / recipe.updates)
        start = buffer.take(BATCH)
        y_hat = langevin(energy, start, steps=recipe.k, step_size=recipe.step_size, generator=generator).position
        y = batch()
        y = y + recipe.sigma * torch.randn(y.shape, generator=generator)
        low, high = energy(y), energy(y_hat)
        lost = high.detach() - low.detach().mean() > recipe.margin
        buffer.put(torch.where(lost[:, None], recipe.fresh(BATCH, generator), y_hat) if lost.any() else y_hat)
        if lost.all():
            raise FloatingPointError(f"all chains are lost at update {update}")
        high = high[~lost]
        loss = low.mean() - high.mean() + recipe.penalty * torch.cat([low, high]).var()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(energy.parameters(), 10.0)
        optimizer.step()
        with torch.no_grad():
            for average, parameter in zip(averaged.parameters(), energy.parameters(), strict=True):
                average.lerp_(parameter, 1 - min(recipe.averaging, (update + 1) / (update + 10)))
        if update % 100 == 0 or update == recipe.updates - 1:
            gap = (low.mean() - high.mean()).item()
            if update and not abs(gap) < RUNAWAY:  # an untrained network may start as far apart
                raise FloatingPointError(
                    f"the energies run away: data and negatives {abs(gap):.0f} apart at update {update}"
                )
            history.append([update, gap, low.std().item(), high.std().item(), *(watch(averaged) if watch else ())])
            print(", ".join(f"{value:.2f}" for value in history[-1]), flush=True)
    with torch.no_grad():
        for parameter in averaged.parameters():
            parameter.copy_(parameter.half().float())
    return averaged, history


# --- judging ---------------------------------------------------------------------------------------------------------


def classifier(classes: int, generator: torch.Generator | None = None) -> nn.Sequential:
    """A small convolutional network that names what a picture (..., 784) shows."""
    layers = (
        nn.Unflatten(-1, (1, SIDE, SIDE)),
        nn.Conv2d(1, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1568, 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    )
    return init_(nn.Sequential(*layers), generator)


def train_classifier(pictures: Tensor, labels: Tensor, classes: int, seed: int, epochs: int = 12) -> nn.Sequential:
    """Minimise the cross-entropy, on pictures moved by up to one pixel; weights rounded to half precision."""
    generator = torch.Generator().manual_seed(seed)
    network = classifier(classes, generator)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    steps = epochs * (len(pictures) // BATCH)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for _ in range(steps):
        chosen = torch.randint(len(pictures), (BATCH,), generator=generator)
        down, right = torch.randint(-1, 2, (2,), generator=generator).tolist()
        moved = pictures[chosen].view(-1, SIDE, SIDE).roll((down, right), (1, 2)).flatten(1)
        loss = F.cross_entropy(network(moved), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        falling.step()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.half().float())
    return network


def shrink(pictures: Tensor) -> Tensor:
    """Digits at three quarters of their size, in the middle."""
    small = F.interpolate(pictures.view(-1, 1, SIDE, SIDE), size=21, mode="bilinear", antialias=True)
    return F.pad(small, (3, 4, 3, 4)).flatten(1)


def mirror(pictures: Tensor) -> Tensor:
    """Top to bottom."""
    return pictures.view(-1, SIDE, SIDE).flip(1).flatten(1)


def auroc(low: Tensor, high: Tensor) -> float:
    """The share of pairs in which ``low`` is below ``high``; ties count half."""
    differences = high[None] - low[:, None]
    return ((differences > 0).double().mean() + 0.5 * (differences == 0).double().mean()).item()


@torch.no_grad()
def noisy_energy(energy: nn.Module, pictures: Tensor, sigma: float, draws: int = 8, seed: int = 0) -> Tensor:
    """The mean energy of several noisy versions of each picture, (N,)."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(len(pictures))
    for _ in range(draws):
        y = pictures + sigma * torch.randn(pictures.shape, generator=generator)
        total += torch.cat([energy(part) for part in y.split(250)])
    return total / draws


def tell_apart(energy: nn.Module, pictures: Tensor, labels: Tensor, sigma: float) -> dict[str, float]:
    """AUROCs of held-out digits against what is not one."""
    generator = torch.Generator().manual_seed(1)
    turned = pictures[torch.isin(labels, torch.tensor(MIRROR_CLASSES))]
    shuffled = pictures[:, torch.randperm(PIXELS, generator=generator)]
    low = noisy_energy(energy, pictures, sigma)
    others = {"noise": noise(len(pictures), generator), "shuffled": shuffled, "shrunk": shrink(pictures)}
    found = {name: auroc(low, noisy_energy(energy, other, sigma)) for name, other in others.items()}
    high = noisy_energy(energy, mirror(turned), sigma)
    found["mirrored"] = auroc(noisy_energy(energy, turned, sigma), high)
    return {name: round(value, 4) for name, value in found.items()}


def sample(energy: nn.Module, recipe: Recipe, count: int, steps: int, seed: int) -> Tensor:
    """Langevin dynamics from fresh starts at β = 1; noisy pictures."""
    generator = torch.Generator().manual_seed(seed)
    start = recipe.fresh(count, generator)
    return langevin(energy, start, steps=steps, step_size=recipe.step_size, generator=generator).position


def recognise(judge: nn.Module, pictures: Tensor) -> dict[str, object]:
    """What share the classifier is sure of, and as what."""
    with torch.no_grad():
        surest, named = judge(pictures.clamp(0, 1)).softmax(-1).max(-1)
    sure = surest > 0.9
    return {
        "recognisable": round(sure.float().mean().item(), 4),
        "classes": named[sure].bincount(minlength=10).tolist(),
    }


def assess(energy: nn.Module, recipe: Recipe, judge: nn.Module, test: tuple[Tensor, Tensor]) -> dict[str, object]:
    """All figures of one energy: what it tells apart, and what 256 chains from noise become."""
    pictures, labels = test
    samples = {}
    for steps in (100, 300, 1000):
        y = sample(energy, recipe, 256, steps, seed=2)
        with torch.no_grad():
            mean = round(energy(y).mean().item(), 1)
        samples[str(steps)] = {**recognise(judge, clean(energy, y, recipe.scale)), "energy": mean}
    return {
        "auroc": tell_apart(energy, pictures, labels, recipe.sigma),
        "samples_after_steps": samples,
        "energy_of_noisy_digits": round(noisy_energy(energy, pictures, recipe.sigma, 1).mean().item(), 1),
    }


def ceilings(
    learn: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], seed: int
) -> tuple[nn.Sequential, dict[str, float]]:
    """Train the judge, and the classifiers that were shown what the energy never saw."""
    judge = train_classifier(*learn, 10, seed)
    with torch.no_grad():
        found = {"classifier_accuracy": (judge(test[0]).argmax(-1) == test[1]).double().mean().item()}
    kinds = torch.tensor(MIRROR_CLASSES)
    for name, change, kept in (("mirrored", mirror, kinds), ("shrunk", shrink, torch.arange(10))):
        (x, x_test) = (part[0][torch.isin(part[1], kept)] for part in (learn, test))
        both, wrong = torch.cat([x, change(x)]), torch.arange(2).repeat_interleave(len(x))
        network = train_classifier(both, wrong, 2, seed, epochs=6)
        with torch.no_grad():
            low, high = (network(part) @ torch.tensor([-1.0, 1.0]) for part in (x_test, change(x_test)))
        found[f"supervised_auroc_{name}"] = auroc(low, high)
    return judge, {name: round(value, 4) for name, value in found.items()}


def draw(energy: nn.Module, recipe: Recipe, path: Path) -> None:
    """Draw chains from noise after more and more steps, cleaned."""
    import matplotlib.pyplot as plt

    generator, rows, done = torch.Generator().manual_seed(3), [], 0
    y = recipe.fresh(60, generator)
    for steps in (10, 30, 100, 300, 1000, 3000):
        y = langevin(energy, y, steps=steps - done, step_size=recipe.step_size, generator=generator).position
        done = steps
        rows += clean(energy, y, recipe.scale)[: 60 if steps >= 1000 else 20].split(20)
    grid = torch.cat([torch.cat(list(row.view(-1, SIDE, SIDE)), 1) for row in rows])
    plt.imsave(path, grid.clamp(0, 1).numpy(), cmap="gray")


def halves(module: nn.Module, name: str) -> dict[str, np.ndarray]:
    """A module's weights in half precision, by name."""
    return {f"{name}.{key}": value.detach().numpy().astype(np.float16) for key, value in module.named_parameters()}


def main() -> None:
    """Train, judge, store."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--updates", type=int, default=Recipe().updates)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--ablations", action="store_true", help="only the short runs, added to the stored results")
    p.add_argument("--picture", type=Path)
    p.add_argument("--out", type=Path, default=RESULTS / "digits_energy")
    args = p.parse_args()
    torch.set_num_threads(1)
    command = " ".join(["python", "training/digits_energy.py", *sys.argv[1:]])
    learn, test = load()
    file, notes = args.out.with_suffix(".npz"), args.out.with_suffix(".json")
    args.out.parent.mkdir(exist_ok=True)
    if args.ablations:
        arrays, facts = dict(np.load(file)), json.loads(notes.read_text())
        judge = classifier(10)
        judge.load_state_dict({k: torch.tensor(arrays[f"judge.{k}"]).float() for k, _ in judge.named_parameters()})
        facts["ablations_command"], facts["ablations"] = command, {}
        for name, recipe in ABLATIONS.items():
            begun = time.perf_counter()
            try:
                energy, history = train(recipe, learn[0], args.seed)
                seconds = round(time.perf_counter() - begun, 1)
                shown = clean(energy, sample(energy, recipe, 16, 300, seed=4), recipe.scale).clamp(0, 1)
                arrays[f"samples, {name}"] = (255 * shown).to(torch.uint8).numpy()
                found = {"training_seconds": seconds, **assess(energy, recipe, judge, test)}
            except FloatingPointError as error:
                found = {"diverged": str(error)}
            facts["ablations"][name] = {"updates": recipe.updates, **found}
            print(name, json.dumps(facts["ablations"][name]), flush=True)
            np.savez_compressed(file, **arrays)
            notes.write_text(json.dumps(facts, indent=1) + "\n")
        return
    recipe = Recipe(updates=args.updates)
    begun, cpu_begun = time.perf_counter(), time.process_time()
    some, names = test[0][:300], test[1][:300]
    turned = some[torch.isin(names, torch.tensor(MIRROR_CLASSES))]

    def watch(energy: ConvEnergy) -> tuple[float, float]:
        pairs = ((some, shrink(some)), (turned, mirror(turned)))
        return tuple(auroc(*(noisy_energy(energy, x, recipe.sigma, 1) for x in pair)) for pair in pairs)

    energy, history = train(recipe, learn[0], args.seed, watch)
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu_begun
    judge, supervised = ceilings(learn, test, args.seed)
    arrays = {**halves(energy, "energy"), **halves(judge, "judge"), "history": np.array(history, dtype=np.float32)}
    np.savez_compressed(file, **arrays)
    facts = {
        "command": command,
        "seed": args.seed,
        "recipe": recipe._asdict(),
        "network": NET,
        "parameters": sum(parameter.numel() for parameter in energy.parameters()),
        "training_seconds": round(seconds, 1),
        "training_processor_seconds": round(cpu_seconds, 1),
        **machine(),
        "train": len(learn[0]),
        "held_out": len(test[0]),
        **assess(energy, recipe, judge, test),
        **supervised,
    }
    notes.write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts, indent=1), file.stat().st_size, "bytes")
    if args.picture:
        draw(energy, recipe, args.picture)


if __name__ == "__main__":
    main()
