"""Compare the methods of chapter 7 on sprites: one encoder, one augmentation, one number of epochs.

    python training/joint.py --checkpoints DIR        # all parts that are not stored yet; writes joint.npz and .json
    python training/joint.py --checkpoints DIR --only SimCLR/0     # one part
    python training/joint.py --list                   # what there is, and what is stored

It may be killed at any moment: the same command goes on, past the parts that are stored and from the last checkpoint in
DIR of the run that was cut, with the same numbers as if it had not been, on the same machine (what a cut makes it do
twice is in no sum of seconds). Several may run at a time with the same DIR: each takes a part that no other works at. A
part whose recipe has changed since is learned anew.

8,000 sprites are learned from and 4,000 others measured; another draw of sprites served to choose the recipes
(``joint_recipes.py``). A seed draws weights, batches, views and what a method draws; the pictures are the same for all.
Parts are METHOD/SEED, three seeds of each; "raw pixels" and "random encoder", which learn nothing; "supervised", also
with labels for a tenth and a hundredth of the pictures, for as many steps; "dimension/METHOD/D", "batch/METHOD/B" and
"group/METHOD/SIZE", studies with one seed and fewer epochs. In the last, batches of 256 are cut into groups, and only
what is in a group is compared: the number of steps and of pictures is the same for all sizes, unlike with batches.

Stored of each (``joint_judge.py``): accuracy of the linear probe, of the neighbours' vote, and of probes that see 1 %
and 10 % of the labels, in five draws; alignment, uniformity, effective rank, standard deviation, of representations
and of embeddings; how well the known factors can be read off; processor seconds of each epoch; bytes that training
holds; loss by epoch; in joint.npz the spectra, and of the first seed two maps and the confusion matrix.
"""

import argparse
import fcntl
import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from joint_judge import DRAWS, MAPPED, Sets, judge, labelled, pictures
from joint_recipes import BASELINES, METHODS, Recipe, Stopwatch, make, memory, views
from record import machine, run_parts, stored
from sprite_studies import AUGMENTATION, SMALL
from torch import Tensor, nn

from ebm_lib import joint
from ebm_lib.joint import Method

RESULTS = Path(__file__).parent / "results" / "joint"
TRAIN, TEST, DRAWN = 8000, 4000, 2026
SEEDS, STUDY_EPOCHS = 3, 10
STUDIED = ("SimCLR", "Barlow Twins", "VICReg")
DIMENSIONS = (8, 64, 512, 2048)
BATCHES = (32, 128, 256, 512)  # 64 is in the other study: SimCLR's D is 64, that of the others 512
GROUPS = (4, 16, 64, 256)
NOTHING, UNTRAINED, TIMING = "raw pixels", "random encoder", "timing"
SHARED = Recipe("")  # the views that all are judged by
COMMAND = "python training/joint.py --checkpoints DIR"

Result = tuple[dict[str, Tensor], dict[str, Any]]


def plan() -> dict[str, Recipe | None]:
    """The parts in the order in which they are done: first one seed of everything."""
    parts: dict[str, Recipe | None] = {}
    for seed in range(SEEDS):
        parts |= {f"{name}/{seed}": recipe for name, recipe in (METHODS | BASELINES).items()}
        parts[f"{UNTRAINED}/{seed}"] = None
        if seed == 0:
            parts |= {NOTHING: None, TIMING: None}
    for name in STUDIED:
        short = replace(METHODS[name], epochs=STUDY_EPOCHS)
        rate = short.learning.get("lr", 2e-3)
        for D in DIMENSIONS:
            parts[f"dimension/{name}/{D}"] = replace(short, options=short.options | {"D": D})
        for B in BATCHES:
            # the rate goes with the root of the batch's size, as is usual with Adam
            learning = short.learning | {"lr": rate * (B / short.batch_size) ** 0.5}
            parts[f"batch/{name}/{B}"] = replace(short, batch_size=B, learning=learning)
        for size in GROUPS:
            parts[f"group/{name}/{size}"] = replace(short, batch_size=max(GROUPS), group=size)
    return parts


def seeded(seed: int) -> torch.Generator:
    """Return a generator of this seed."""
    return torch.Generator().manual_seed(seed)


def seed_of(part: str) -> int:
    """The seed of a part: studies have the first."""
    name, _, last = part.partition("/")
    return int(last) if name in METHODS or name in BASELINES or name == UNTRAINED else 0


def mark(part: str, recipe: Recipe | None) -> str:
    """What tells a part from others, and from itself under another recipe or on other pictures."""
    told = [part, recipe and recipe.settings(), AUGMENTATION, SMALL, TRAIN, TEST, DRAWN]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]


def held(method: Method, recipe: Recipe, images: Tensor, generator: torch.Generator) -> dict[str, int]:
    """Bytes that a step of the recipe holds, found on a method that is thrown away."""
    some = images[: recipe.batch_size]
    method.begin_epoch(images, generator)
    return memory(method, views(recipe)(some, generator), torch.arange(len(some)), generator)


def untrained(part: str, recipe: None, sets: Sets, folder: Path) -> Result:
    """Judge pixels, or an encoder as it is before it learns."""
    begun, wall = time.process_time(), time.perf_counter()
    encoder = nn.Flatten() if part == NOTHING else joint.SmallEncoder(generator=seeded(seed_of(part)))
    drawn = part in (NOTHING, f"{UNTRAINED}/0")
    arrays, facts = judge(partial(joint.represent, encoder), None, sets, views(SHARED), drawn)
    spent = {"seconds": time.perf_counter() - wall, "processor_seconds": time.process_time() - begun}
    return arrays, facts | spent


def trained(part: str, recipe: Recipe, sets: Sets, folder: Path) -> Result:
    """Learn, going on from a checkpoint if there is one, and judge."""
    seed, images, labels = seed_of(part), sets.train.images, sets.train.labels
    if recipe.share < 1:
        rows = labelled(sets, recipe.share, seed)
        images, labels = images[rows], labels[rows]
    batch_size = min(recipe.batch_size, len(images))
    per_epoch, steps = len(images) // batch_size, recipe.epochs * (TRAIN // recipe.batch_size)
    size = held(make(recipe, images, labels, seeded(seed)), recipe, images, seeded(seed))

    generator = seeded(seed)
    method, watch = make(recipe, images, labels, generator), Stopwatch(views(recipe), per_epoch)
    history = joint.learn(
        method, images, watch, epochs=steps // per_epoch, batch_size=batch_size, generator=generator, progress=False,
        stateful=[watch], checkpoint=folder / f"{mark(part, recipe)}.pt", **recipe.learning,
    )  # fmt: skip
    seconds, begun, wall = watch.epochs(), time.process_time(), time.perf_counter()
    method.eval()
    look = partial(joint.represent, method.encoder)
    embed = None if recipe.kind in ("Supervised", "DeepCluster") else method.head
    arrays, facts = judge(look, embed, sets, views(SHARED), drawn=part.endswith("/0"))
    if recipe.kind == "Supervised":
        with torch.no_grad():
            named = method.classifier(look(sets.test.images)).argmax(-1)
        facts["classifier"] = (named == sets.test.labels).double().mean().item()
    passes = len(seconds) // recipe.epochs  # through a part of the pictures, for one through all
    return arrays, facts | size | {
        "recipe": recipe.settings(),
        "steps": history.steps,
        "loss": [round(v, 4) for v in history.epoch_loss[::passes]],
        "terms": {name: sum(values[-per_epoch:]) / per_epoch for name, values in history.metrics.items()},
        "epoch_seconds": round(passes * seconds.median().item(), 3),
        "training_seconds": round(seconds.sum().item(), 1),
        "seconds": history.seconds + time.perf_counter() - wall,
        "processor_seconds": seconds.sum().item() + time.process_time() - begun,
    }


def timing(part: str, recipe: None, sets: Sets, folder: Path) -> Result:
    """Time one epoch of each method, twice, forth and back: what else the machine does then hits all alike."""
    found: dict[str, list[float]] = {}
    begun, wall = time.process_time(), time.perf_counter()
    for name, recipe in [*METHODS.items(), *list(METHODS.items())[::-1]]:
        generator, watch = seeded(0), Stopwatch(views(recipe), TRAIN // recipe.batch_size)
        method = make(recipe, sets.train.images, sets.train.labels, generator)
        joint.learn(
            method, sets.train.images, watch, epochs=1, batch_size=recipe.batch_size, generator=generator,
            progress=False, **recipe.learning,
        )  # fmt: skip
        found.setdefault(name, []).append(round(watch.epochs().item(), 3))
    spent = {"seconds": time.perf_counter() - wall, "processor_seconds": time.process_time() - begun}
    return {}, spent | {"epoch_seconds": found}


@contextmanager
def claimed(file: Path, wait: bool) -> Iterator[bool]:
    """Hold a lock while a block runs; it goes with the process. Yields whether it was free."""
    with file.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


def is_stored(out: Path, part: str, recipe: Recipe | None) -> bool:
    """Whether a part is among the results, learned by this recipe."""
    return stored(out, without="")[1].get("parts", {}).get(part, {}).get("mark") == mark(part, recipe)


def keep(args: argparse.Namespace, part: str, recipe: Recipe | None, result: Result) -> None:
    """Put a part with the others: those that other processes have stored meanwhile, too."""
    arrays, facts = result
    facts |= {key: round(facts[key], 1) for key in ("seconds", "processor_seconds")}
    facts |= {"mark": mark(part, recipe), **{key: machine()[key] for key in ("processor", "torch")}}
    with claimed(args.checkpoints / "results.lock", wait=True):
        parts = stored(args.out, without=part)[1].get("parts", {}) | {part: facts}
        hours = sum(p["processor_seconds"] for p in parts.values()) / 3600
        about = {"train": TRAIN, "test": TEST, "drawn_by_seed": DRAWN, "augmentation": AUGMENTATION, "small": SMALL}
        about |= {"draws": DRAWS, "mapped": MAPPED, "processor_hours": round(hours, 3), "command": COMMAND}
        one = argparse.Namespace(only=part, seed=0, out=args.out)
        run_parts({part: lambda _: (arrays, facts)}, one, about)
    (args.checkpoints / f"{mark(part, recipe)}.pt").unlink(missing_ok=True)


def main() -> None:
    """Learn, judge, store, one part after another."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", nargs="+", choices=list(plan()), metavar="PART", help="see --list")
    p.add_argument("--list", action="store_true")
    p.add_argument("--checkpoints", type=Path, help="a folder, outside the repository")
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    parts = plan()
    if args.list:
        for part, recipe in parts.items():
            print("stored" if is_stored(args.out, part, recipe) else "      ", part)
        return
    if args.checkpoints is None:
        p.error("--checkpoints must name a folder")
    args.checkpoints.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    sets = pictures(TRAIN, TEST, DRAWN)
    for part in args.only or parts:
        recipe = parts[part]
        with claimed(args.checkpoints / f"{mark(part, recipe)}.lock", wait=False) as free:
            if free and not is_stored(args.out, part, recipe):
                work = timing if part == TIMING else untrained if recipe is None else trained
                result = work(part, recipe, sets, args.checkpoints)
                print(part, {key: result[1].get(key) for key in ("linear", "knn", "training_seconds")}, flush=True)
                keep(args, part, recipe, result)


if __name__ == "__main__":
    main()
