"""Train predictors of films that may turn left or right: blur, many futures, and what latent drop-out is good for.

    python training/futures.py               # all parts; writes training/results/futures.npz and futures.json
    python training/futures.py --only wheel  # one part; what is stored of the others stays

2,000 films of ``ebm_lib.data.fork_films`` train, 300 others are measured, both of whose futures are known. All networks
are perceptrons; every run is repeated over seeds that change the films, the weights and the draws.

"models": a regression, a conditional variational auto-encoder without and with latent drop-out, and GLO, on turns that
are equally frequent, at one β, with codes of two dimensions; their draws are also compared with films that have nothing
to do with the past, and with those of codes drawn three times too wide.

"equal", "unequal", "wheel": the conditional auto-encoder without and with drop-out, with codes of four dimensions, at
several β, on three tasks. The draws that are judged have fixed seeds. Both turns are as frequent; the left one comes in
four films of five; or x also tells how the wheel is turned, which the film follows in nine of ten. Kept of the wheel's
first seed: what z = 0 predicts of one film, and a few draws.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from record import run_parts
from torch import Tensor

from ebm_lib import data
from ebm_lib.latent import variational as vi

RESULTS = Path(__file__).parent / "results" / "futures"
TRAIN, TEST, TEST_SEED = 2000, 300, 1000
PIXELS = 768  # three frames of 16 by 16
DRAWS = 20
TOLERANCE = 2.0  # squared distance below which a prediction counts as one of the futures
COUNTS = (1, 2, 5, 10, 20, 50, 100)
BETAS = (5.0, 50.0, 500.0)
LEFT = 0.8  # share of left turns where they are unequal
OBEYS = 0.9  # share of films that follow the wheel


class Task(NamedTuple):
    """Films with what is known of them.

    Attributes:
        x: what the model sees of the past, (n, Dx).
        y: what came, (n, Dy).
        futures: what could come, (n, 2, Dy).
        chance: how likely each is, (n, 2), given all that x tells.
        shape: of the future, (frames, height, width).
    """

    x: Tensor
    y: Tensor
    futures: Tensor
    chance: Tensor
    shape: tuple[int, ...]


def seeded(seed: int) -> torch.Generator:
    """Return a source of randomness."""
    return torch.Generator().manual_seed(seed)


def equal(n: int, seed: int) -> Task:
    """Return films that turn left as often as right."""
    f = data.fork_films(n, generator=seeded(seed))
    return Task(f.x, f.y, f.futures, torch.full((n, 2), 0.5), f.future_shape)


def unequal(n: int, seed: int) -> Task:
    """Return films that mostly turn left."""
    f = data.fork_films(n, weights=[LEFT, 1 - LEFT], generator=seeded(seed))
    return Task(f.x, f.y, f.futures, torch.tensor([LEFT, 1 - LEFT]).expand(n, 2), f.future_shape)


def wheel(n: int, seed: int) -> Task:
    """Return films whose past tells how the wheel is turned (four numbers, all -1 or all 1), which mostly decides."""
    g = seeded(seed + 5000)
    wanted = torch.randint(2, (n,), generator=g)
    turn = torch.where(torch.rand(n, generator=g) < OBEYS, wanted, 1 - wanted)
    f = data.fork_films(n, turn=turn, generator=seeded(seed))
    chance = torch.where(wanted[:, None] == torch.arange(2), OBEYS, 1 - OBEYS)
    x = torch.cat([f.x, (2.0 * wanted - 1)[:, None].expand(-1, 4)], -1)
    return Task(x, f.y, f.futures, chance, f.future_shape)


def learn(kind: str, task: Task, L: int, beta: float, seed: int, steps: int) -> vi.ConditionalVAE | vi.GLO:
    """Train one model; ``kind`` is "glo" or the share of drop-out."""
    g = seeded(100 + seed)
    how = {"lr": 2e-3, "batch_size": 64, "steps": steps, "generator": g}
    Dx = task.x.shape[1]
    if kind == "glo":
        model = vi.GLO(PIXELS, L, Dx=Dx, generator=g)
        model.learn(task.x, task.y, code_lr=0.02, **how)
    else:
        model = vi.ConditionalVAE(Dx, PIXELS, L, beta=beta, dropout=float(kind), generator=g)
        model.learn(task.x, task.y, **how)
    return model


def judge_draws(drawn: Tensor, task: Task) -> dict[str, float]:
    """Measure predictions (n, K, Dy): of what came, of what could come, and their sharpness."""
    to_truths = torch.stack([(drawn - one[:, None]).square().sum(-1) for one in task.futures.unbind(1)], -1)
    near, way = to_truths.min(-1)
    return {
        "error": (drawn - task.y[:, None]).square().sum(-1).mean().item(),
        "best": vi.best_of(drawn[:, :DRAWS], task.y).mean().item(),
        "coverage": vi.coverage(drawn[:, :DRAWS], task.futures, TOLERANCE).mean().item(),
        "true": (near <= TOLERANCE).float().mean().item(),
        "sharpness": (vi.sharpness(drawn, task.shape).mean() / vi.sharpness(task.y, task.shape).mean()).item(),
        "likelier": (way == task.chance.argmax(-1)[:, None]).float().mean().item(),
    }


def at_zero(model: vi.ConditionalVAE | vi.GLO, task: Task) -> dict[str, float]:
    """Measure what z = 0 predicts: against what came, against the mean of the futures, against the likelier one."""
    alone = model.decode(task.x, task.x.new_zeros(model.L))
    mean = (task.chance[..., None] * task.futures).sum(1)
    likelier = task.futures[torch.arange(len(mean)), task.chance.argmax(-1)]
    return {
        "zero_error": (alone - task.y).square().sum(-1).mean().item(),
        "zero_from_mean": (alone - mean).square().sum(-1).mean().item(),
        "zero_from_likelier": (alone - likelier).square().sum(-1).mean().item(),
        "zero_sharpness": (vi.sharpness(alone, task.shape).mean() / vi.sharpness(task.y, task.shape).mean()).item(),
    }


def message(model: vi.ConditionalVAE, task: Task, draws: int = 64) -> dict[str, float]:
    r"""Split the nats of a code: what z says of the turn, and how far q(z|x) is from the prior.

    :math:`\sum_t P(t) \mathrm{KL}(q_t \| p) = I(z; t \mid x) + \mathrm{KL}(\sum_t P(t) q_t \| p)`, by draws of both.
    """
    q = model.encode(task.x[:, None], task.futures)  # one for each turn, (n, 2, L)
    z = vi.reparameterize(q.mean, q.std, samples=draws, generator=seeded(8))  # (n, 2, draws, L)
    each = vi.log_normal_density(z[:, :, :, None], q.mean[:, None, None], q.std[:, None, None])  # of both balls
    mixed = torch.logsumexp(each + task.chance.log()[:, None, None], -1)
    own = torch.stack([each[:, 0, :, 0], each[:, 1, :, 1]], 1)
    about = ((own - mixed).mean(-1) * task.chance).sum(-1).mean().item()
    total = (vi.gaussian_kl(q.mean, q.std) * task.chance).sum(-1).mean().item()
    return {"information": total, "about_turn": about, "off_prior": total - about}


@torch.no_grad()
def judge(model: vi.ConditionalVAE | vi.GLO, task: Task) -> dict[str, Any]:
    """Measure draws, z = 0 and the code."""
    g = seeded(5)
    facts = judge_draws(model.futures(task.x, DRAWS, generator=g), task) | at_zero(model, task)
    if isinstance(model, vi.ConditionalVAE):
        facts |= message(model, task)
    return facts


def by_count(drawn: Tensor, task: Task) -> dict[str, Any]:
    """Error of the best of more and more predictions (n, K, Dy), and of the average of all."""
    return {
        "by_count": [vi.best_of(drawn[:, :count], task.y).mean().item() for count in COUNTS],
        "average_error": (drawn.mean(1) - task.y).square().sum(-1).mean().item(),
    }


def models(args: argparse.Namespace) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Compare four models, and two ways of drawing that should not win."""
    test = equal(TEST, TEST_SEED)
    facts: dict[str, Any] = {"L": 2, "beta": 5.0, "steps": args.steps, "counts": COUNTS, "runs": {}}
    kinds = {"regression": "1", "no drop-out": "0", "drop-out": "0.5", "GLO": "glo"}
    for seed in range(args.seed, args.seed + args.seeds):
        train = equal(TRAIN, seed)
        for name, kind in kinds.items():
            model = learn(kind, train, 2, 5.0, seed, args.steps)
            with torch.no_grad():
                row = judge(model, test) | by_count(model.futures(test.x, max(COUNTS), generator=seeded(6)), test)
            if name == "no drop-out":
                z = 3 * torch.randn(TEST, max(COUNTS), 2, generator=seeded(6))
                with torch.no_grad():
                    wild = model.decode(test.x[:, None], z)
                facts["runs"].setdefault("z three times too wide", []).append(
                    judge_draws(wild, test) | by_count(wild, test)
                )
            facts["runs"].setdefault(name, []).append(row)
            print(name, seed, row, flush=True)
        # films of the training set, drawn without a look at the past
        any_film = train.y[torch.randint(TRAIN, (TEST, max(COUNTS)), generator=seeded(7 + seed))]
        row = judge_draws(any_film, test) | by_count(any_film, test)
        facts["runs"].setdefault("any film", []).append(row)
        print("any film", seed, row, flush=True)
    return {}, facts


def sweep(make: Callable[[int, int], Task], args: argparse.Namespace) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Compare the conditional auto-encoder without and with drop-out at several β on one task."""
    test = make(TEST, TEST_SEED)
    facts: dict[str, Any] = {"L": 4, "steps": args.steps, "runs": {}}
    arrays = {}
    for beta in BETAS:
        for dropout in ("0", "0.5"):
            rows = facts["runs"].setdefault(f"{beta:g}", {})[dropout] = []
            for seed in range(args.seed, args.seed + args.seeds):
                model = learn(dropout, make(TRAIN, seed), 4, beta, seed, args.steps)
                rows.append(judge(model, test))
                print(make.__name__, beta, dropout, seed, rows[-1], flush=True)
                if seed == args.seed and make is wheel:
                    with torch.no_grad():
                        some = model.futures(test.x[0], 5, generator=seeded(5))
                        arrays[f"{beta:g}/{dropout}"] = torch.cat([model.predict(test.x[:1]), some])
    return arrays, facts


PARTS = {
    "models": models,
    "equal": lambda args: sweep(equal, args),
    "unequal": lambda args: sweep(unequal, args),
    "wheel": lambda args: sweep(wheel, args),
}


def main() -> None:
    """Train, measure, store."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=PARTS)
    p.add_argument("--steps", type=int, default=800)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--seed", type=int, default=0, help="the first")
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    run_parts(
        PARTS, args, {"command": "python training/futures.py", "films": TRAIN, "draws": DRAWS, "tolerance": TOLERANCE}
    )


if __name__ == "__main__":
    main()
