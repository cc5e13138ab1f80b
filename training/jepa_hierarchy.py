"""Two levels of prediction on digits that travel: errors and facts against the horizon, and what each part is good for.

    python training/jepa_hierarchy.py                       # all ways; writes training/results/jepa_hierarchy.*
    python training/jepa_hierarchy.py --only "one level"    # one of them; what is stored of the others stays

Each way is trained from several seeds, which draw weights and batches; all see the same 4,000 films, as many times.
Then, at frame 16 of 1,000 films of digits that were held out, each level is rolled out, without a look at what follows.
Weights and learning rate were chosen on other films than these, of the same held-out digits. Stored are the error of
the predicted representation (1: no better than the mean of all films), where there is a latent also of one future
alone, and what a linear readout finds in the predictions of a number of facts: R², or accuracy. Readouts are fitted on
1,000 other films, to the predictions for the same horizon. ``seen`` holds the readouts of the representations
themselves, 16 frames later, with the class as it is read off pixels; ``kept`` what they tell of the stretch that they
describe. The weights of the first seed are stored for two ways.
"""

import argparse
import functools
from pathlib import Path
from typing import Any

import torch
from record import run_parts
from torch import Tensor, nn

from ebm_lib import data
from ebm_lib.jepa import HJEPA, JEPA, Discrete, Predictor, variance_covariance
from ebm_lib.joint import collapse, learn
from ebm_lib.nn import MLP, init_

RESULTS = Path(__file__).parent / "results" / "jepa_hierarchy"
COUNT, FRAMES, JUDGED = 4000, 32, 1000
WINDOW, START, FUTURES = 8, 16, 32
JUDGES = 2026  # the seed of the films that are judged by: nothing was chosen on them
WEIGHT = 0.25  # of level 2's prediction term: at 1, level 2 drops the place from some seeds
HORIZONS = (1, 2, 4, 8, 16, 24, 32)
CLASSES = {"goal": 4, "next goal": 4, "way round": 2, "digit": 10}
WAYS: dict[str, dict[str, Any]] = {
    "both levels": {},
    "both levels, full weight": {"weight": 1.0},
    "states alone": {"hand_over": False},
    "last state and latents": {"states": 1},
    "last state alone": {"states": 1, "hand_over": False},
    "last state alone, full weight": {"states": 1, "hand_over": False, "weight": 1.0},
    "latent at level 2": {"K": 4},
    "level 2 on pixels": {"alone": True},
    "one level": {"alone": True, "step": 1},
    "one level, full weight": {"alone": True, "step": 1, "weight": 1.0},
}
KEEP_WEIGHTS = ("both levels", "latent at level 2")

Result = tuple[dict[str, Tensor], dict[str, Any]]


def seeded(seed: int = 0) -> torch.Generator:
    """Return a generator with this seed."""
    return torch.Generator().manual_seed(seed)


@functools.cache
def films() -> tuple[Tensor, data.Journeys, data.Journeys]:
    """Return films to learn from, films to fit readouts on, and films of held-out digits to judge by."""
    drawn = data.digit_journeys(COUNT, FRAMES, generator=seeded())
    length = START + max(HORIZONS) + 1
    fit = data.digit_journeys(JUDGED, length, generator=seeded(1))
    new = data.digit_journeys(JUDGED, length, held_out=True, generator=seeded(JUDGES))
    return drawn.frames[:, :, None], fit, new


def build(
    seed: int,
    *,
    states: int = WINDOW,
    hand_over: bool = True,
    K: int = 0,
    step: int = WINDOW,
    alone: bool = False,
    weight: float = WEIGHT,
    D: int = 32,
    hidden: int = 128,
) -> HJEPA:
    """Return the two levels with fresh weights; ``alone`` leaves level 1 without a criterion and a latent."""
    g = seeded(seed)
    frame = nn.Sequential(nn.Conv2d(1, 16, 5, 3, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(),
                          nn.Linear(288, D))  # fmt: skip
    L, told = (0, {"prediction": 0.0}) if alone else (8, {"latent": Discrete(8), "information_x": variance_covariance})
    low = JEPA(init_(frame, g), Predictor(D, L, hidden=(hidden,), generator=g), **told)
    width = states * D + WINDOW * L * hand_over
    high = JEPA(
        MLP((width, hidden, D), activation="silu", generator=g),
        Predictor(D, K, hidden=(hidden,), generator=g),
        latent=Discrete(K) if K else None,
        information_x=variance_covariance,
        prediction=weight,
    )
    stride = min(step, WINDOW // 2)
    return HJEPA(low, high, window=WINDOW, step=step, stride=stride, states=states, hand_over=hand_over)


def facts(drawn: data.Journeys, t: int) -> dict[str, Tensor]:
    """Return what is true at frame t."""
    return {
        "place": drawn.place[:, t],
        "last step": drawn.place[:, t] - drawn.place[:, t - 1],
        "jitter": drawn.jitter[:, t],
        "goal": drawn.corner[:, t],
        "next goal": drawn.following[:, t],
        "way round": drawn.labels % 2,
        "digit": drawn.labels,
    }


def readout(known: Tensor, truth: Tensor, new: Tensor, penalty: float = 1e-3) -> Tensor:
    """Return what ridge regression, fitted on known representations and their truth, says of new ones."""
    mean, spread = known.mean(0), known.std(0) + 1e-6
    a, b = (torch.cat([(s - mean) / spread, torch.ones_like(s[:, :1])], 1).double() for s in (known, new))
    gram = a.T @ a + penalty * len(a) * torch.eye(a.shape[1], dtype=a.dtype)
    return b @ torch.linalg.solve(gram, a.T @ truth.double())


def score(known: Tensor, truth: Tensor, new: Tensor, new_truth: Tensor, classes: int = 0) -> float:
    """Return R², or accuracy if there are classes."""
    if classes:
        found = readout(known, nn.functional.one_hot(truth, classes), new).argmax(1)
        return round((found == new_truth).double().mean().item(), 4)
    error = (readout(known, truth, new) - new_truth).square().sum()
    return round(1 - (error / (new_truth - new_truth.mean(0)).square().sum()).item(), 4)


def relative_error(predicted: Tensor, s: Tensor) -> float:
    """Return the squared error over what the mean would make."""
    return round(((predicted - s).square().mean() / (s - s.mean(0)).square().mean()).item(), 4)


def known_latents(model: HJEPA, s: Tensor, z: Tensor, steps: int) -> Tensor:
    """Roll level 1 out with the latents of what really came, (N, steps, L)."""
    path = []
    for t in range(steps):
        s = model.low.predictor(s, z[:, t])
        path.append(s)
    return torch.stack(path, 1)


@torch.no_grad()
def judge(model: HJEPA) -> dict[str, Any]:
    """Measure both levels, from frame ``START`` of the films that are judged by."""
    sets, paths, windows = films()[1:], [], []
    for drawn in sets:
        path = model.ascend(drawn.frames[:, :, None])
        paths.append(path)
        z = None if path.found is None else path.found.z
        every = [model.read(path.low[:, t : t + WINDOW + 1], None if z is None else z[:, t : t + WINDOW])
                 for t in range(path.low.shape[1] - WINDOW)]  # fmt: skip
        windows.append(model.high.represent(torch.cat(every, 1)))  # that of frame t is number t - WINDOW
    ways = {"high": (2, windows, WINDOW, model.step)}
    if model.low.latent is not None:
        ways["low"] = (1, [path.low for path in paths], 0, 1)
        ways["low, latents known"] = ways["low"]
    found: dict[str, Any] = {}
    for name, (level, s, offset, step) in ways.items():
        now = [part[:, START - offset] for part in s]
        n = None
        if name == "low, latents known":
            rolled = [
                known_latents(model, a, path.found.z[:, START:], max(HORIZONS))
                for a, path in zip(now, paths, strict=True)
            ]
        else:
            latent = (model.low if level == 1 else model.high).latent
            n = None if latent is None else FUTURES
            rolled = [model.predict(level, a, max(HORIZONS) // step, n, seeded(5)) for a in now]
            if n is not None:
                alone, rolled = rolled[1][:, 0], [a.mean(1) for a in rolled]
        rows = {}
        for h in (h for h in HORIZONS if h % step == 0):
            then = [part[:, START + h - offset] for part in s]
            said = [a[:, h // step - 1] for a in rolled]
            true, new = (facts(drawn, START + h) for drawn in sets)
            rows[h] = {"error": relative_error(said[1], then[1])} | {
                key: score(said[0], true[key], said[1], new[key], CLASSES.get(key, 0)) for key in true
            }
            if n is not None:
                rows[h]["one future"] = relative_error(alone[:, h // step - 1], then[1])
            if h == 16 and name != "low, latents known":
                found[f"seen, {name}"] = {
                    key: score(then[0], true[key], then[1], new[key], CLASSES.get(key, 0)) for key in true
                }
        found[name] = rows
        verdict = collapse(now[1])
        found[f"collapse, {name}"] = [verdict.verdict, round(verdict.spread, 3), round(verdict.rank, 2)]
    pixels = {"in the picture": [drawn.frames[:, START + 16].flatten(1) for drawn in sets],
              "in its middle": [drawn.digits.flatten(1) for drawn in sets]}  # fmt: skip
    found["seen, pixels"] = {key: score(a, sets[0].labels, b, sets[1].labels, 10) for key, (a, b) in pixels.items()}
    stretch = slice(START - WINDOW + 1, START + 1)
    told = {"frame": [drawn.frames[:, START].flatten(1) for drawn in sets],
            "steps": [drawn.place.diff(dim=1)[:, START - WINDOW : START].flatten(1) for drawn in sets]}  # fmt: skip
    read = {"high": [s[:, START - WINDOW] for s in windows], "low": [p.low[:, stretch].flatten(1) for p in paths]}
    found["kept"] = {
        level: {key: score(s[0], t[0], s[1], t[1]) for key, t in told.items()} for level, s in read.items()
    }
    return found


def way(args: argparse.Namespace, name: str) -> Result:
    """Train in one of the ways, from each seed, and judge."""
    options = dict(WAYS[name])
    weights, runs = {}, []
    for seed in range(args.seed, args.seed + args.seeds):
        model = build(seed, **options)
        learn(model, films()[0], lambda batch, generator: [batch], epochs=args.epochs, batch_size=args.batch,
              lr=args.lr, generator=seeded(seed), progress=False)  # fmt: skip
        model.eval()
        runs.append(judge(model) | {"parameters": sum(p.numel() for p in model.parameters() if p.requires_grad)})
        if seed == args.seed and name in KEEP_WEIGHTS:
            weights = {key: value.detach().clone() for key, value in model.state_dict().items()}
        print(name, seed, {h: row["error"] for h, row in runs[-1]["high"].items()}, flush=True)
    return weights, {"runs": runs}


PARTS = {name: functools.partial(way, name=name) for name in WAYS}


def main() -> None:
    """Train, measure, store."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=PARTS)
    p.add_argument("--epochs", type=int, default=4)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--lr", type=float, default=4e-3)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    facts = {"command": "python training/jepa_hierarchy.py", "epochs": args.epochs, "batch": args.batch, "lr": args.lr,
             "count": COUNT, "frames": FRAMES, "judged": JUDGED}  # fmt: skip
    run_parts(PARTS, args, facts)


if __name__ == "__main__":
    main()
