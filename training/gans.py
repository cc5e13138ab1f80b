"""Train generative adversarial networks on 25 Gaussians, over several seeds, and on small digits.

    python training/gans.py                 # all parts; writes training/results/gans.npz and gans.json
    python training/gans.py --only wgan     # one part; what is stored of the others stays

The parts in the plane, "gan", "gan_r1" (the same with a price on the critic's slope at the data), "ebgan" and "wgan",
use the same generator, data and number of the generator's updates; the rate of learning falls linearly to zero.
Stored for each: coverage over training for all seeds, samples of all seeds at the end, and of the first seed samples
over training and the networks, in float16. "digits" trains the same kinds on the bundled digits at 14 by 14 pixels,
and the energy-based one again with margin 0, which makes it a plain auto-encoder. It judges the critic's features by a
linear probe: the last hidden layer (the code, for an auto-encoder), standardised, with the probe's weight decay chosen
on digits kept apart for that. All seeds of a part are trained side by side, as one batched computation.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from record import machine, stored, write
from torch import Tensor, nn

from ebm_lib import adversarial as adv
from ebm_lib import data
from ebm_lib.denoising import reconstruction_energy
from ebm_lib.losses import energy_loss
from ebm_lib.nn import ACTIVATIONS, MLP

RESULTS = Path(__file__).parent / "results" / "gans"
SIDE, SPACING, NOISE = 5, 1.0, 0.05
RADIUS = 3 * NOISE
ACTIVATION = "relu"
PLANE = {
    "gan": {},
    "gan_r1": {"r1": 0.02},
    "ebgan": {"margin": 0.5},
    "wgan": {"penalty": 0.1, "critic_updates": 3},
}
DIGITS = {
    "gan": {},
    "gan_r1": {"r1": 1.0},
    "ebgan": {"margin": 1.5},
    "ebgan_without_push": {"margin": 0.0},
    "wgan": {"penalty": 10.0, "critic_updates": 2},
}


class Stack(nn.Module):
    """As many perceptrons as seeds, side by side: (S, B, in) → (S, B, out)."""

    def __init__(self, sizes: tuple[int, ...], seeds: int, generator: torch.Generator, squash: bool = False) -> None:
        super().__init__()
        members = [MLP(sizes, generator=generator) for _ in range(seeds)]
        layers = [[m.linears[i] for m in members] for i in range(len(sizes) - 1)]
        self.weight = nn.ParameterList(torch.stack([x.weight.T.detach() for x in layer]) for layer in layers)
        self.bias = nn.ParameterList(torch.stack([x.bias.detach()[None] for x in layer]) for layer in layers)
        self.squash = squash

    def hidden(self, x: Tensor) -> Tensor:
        """Return the last hidden layer."""
        for weight, bias in zip(self.weight[:-1], self.bias[:-1], strict=True):
            x = ACTIVATIONS[ACTIVATION](torch.baddbmm(bias, x, weight))
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Apply each member to its own batch."""
        out = torch.baddbmm(self.bias[-1], self.hidden(x), self.weight[-1])
        return torch.sigmoid(out) if self.squash else out

    def member(self, index: int) -> dict[str, Tensor]:
        """Return one member as the state of an ``ebm_lib.nn.MLP``."""
        state = {}
        for i, (weight, bias) in enumerate(zip(self.weight, self.bias, strict=True)):
            state[f"linears.{i}.weight"] = weight[index].detach().T
            state[f"linears.{i}.bias"] = bias[index, 0].detach()
        return state


class Critics(nn.Module):
    """The critics of one kind: an energy (S, B, D) → (S, B), and the features that it is computed from."""

    def __init__(self, kind: str, dim: int, hidden: tuple[int, ...], code: int, seeds: int, g: torch.Generator) -> None:
        super().__init__()
        self.kind = kind
        if kind.startswith("ebgan"):
            self.encoder = Stack((dim, *hidden, code), seeds, g)
            self.decoder = Stack((code, *hidden[::-1], dim), seeds, g)
        else:
            self.network = Stack((dim, *hidden, 1), seeds, g)

    def features(self, y: Tensor) -> Tensor:
        """Return the code, or the last hidden layer."""
        return self.encoder(y) if self.kind.startswith("ebgan") else self.network.hidden(y)

    def forward(self, y: Tensor) -> Tensor:
        """Return the energies."""
        if self.kind.startswith("ebgan"):
            return reconstruction_energy(lambda y: self.decoder(self.encoder(y)))(y)
        return self.network(y).squeeze(-1)


def critic_loss(kind: str, critic: Critics, y: Tensor, y_hat: Tensor, options: dict, g: torch.Generator) -> Tensor:
    """Loss of the critic, one value per pair."""
    if kind.startswith("ebgan"):
        return adv.ebgan_critic(critic(y), critic(y_hat), options["margin"])
    if kind == "wgan":
        slope = adv.gradient_penalty(critic, y, y_hat, generator=g)
        return adv.wgan_critic(critic(y), critic(y_hat)) + options["penalty"] * slope
    loss = adv.gan_critic(critic(y), critic(y_hat))
    if "r1" in options:
        loss = loss + options["r1"] / 2 * adv.gradient_penalty(critic, y, y, slope=0)
    return loss


def play(
    kind: str,
    critic: Critics,
    generator: Stack,
    draw: Callable[[], Tensor],
    noise: Callable[[int], Tensor],
    args: argparse.Namespace,
    options: dict,
    watch: Callable[[int], None],
    g: torch.Generator,
) -> None:
    """Let critic and generator take turns."""
    momentum = (0.0, 0.9) if kind == "wgan" else (0.5, 0.99)
    for_critic = torch.optim.Adam(critic.parameters(), lr=args.rate, betas=momentum)
    for_generator = torch.optim.Adam(generator.parameters(), lr=args.rate, betas=momentum)
    falling = [
        torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.0, args.updates * n)
        for o, n in ((for_critic, options.get("critic_updates", 1)), (for_generator, 1))
    ]
    watch(0)
    for update in range(1, args.updates + 1):
        for _ in range(options.get("critic_updates", 1)):
            y = draw()
            with torch.no_grad():
                y_hat = generator(noise(y.shape[1]))
            loss = critic_loss(kind, critic, y, y_hat, options, g).mean(1).sum()
            for_critic.zero_grad()
            loss.backward()
            for_critic.step()
            falling[0].step()
        y_hat = generator(noise(y.shape[1]))
        F = critic(y_hat)
        loss = (adv.gan_generator(F) if kind.startswith("gan") else energy_loss(F)).mean(1).sum()
        for_generator.zero_grad()
        loss.backward()
        for_generator.step()
        falling[1].step()
        watch(update)


def in_the_plane(kind: str, args: argparse.Namespace) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Train one kind on the grid of Gaussians."""
    g = torch.Generator().manual_seed(args.seed)
    S, hidden, means = args.seeds, (64, 64, 64), data.grid_means(SIDE, SPACING)
    critic = Critics(kind, 2, hidden[:2] if kind.startswith("ebgan") else hidden, 64, S, g)
    generator = Stack((2, *hidden, 2), S, g)

    def draw() -> Tensor:
        y = data.grid_of_gaussians(S * args.batch, side=SIDE, spacing=SPACING, noise=NOISE, generator=g)
        return y.view(S, args.batch, 2)

    def noise(n: int) -> Tensor:
        return torch.randn(S, n, 2, generator=g)

    fixed, at, seen, shown = noise(2500), [], [], []
    checks = {round(args.updates * i / 40) for i in range(41)}
    snapshots = {round(args.updates * f) for f in (0.02, 0.1, 0.3, 1.0)}

    def watch(update: int) -> None:
        if update in checks or update in snapshots:
            with torch.no_grad():
                samples = generator(fixed)
            if update in checks:
                at.append(update)
                seen.append(torch.stack([v.float() for v in adv.modes_covered(samples, means, RADIUS, minimum=20)]))
            if update in snapshots:
                shown.append(samples[0, :600])
            if update in checks and len(at) % 8 == 1:
                print(kind, update, [[round(x, 2) for x in row] for row in seen[-1].tolist()], flush=True)

    play(kind, critic, generator, draw, noise, args, PLANE[kind], watch, g)
    arrays = {"updates": torch.tensor(at), "coverage": torch.stack(seen), "snapshots": torch.stack(shown)}
    with torch.no_grad():
        arrays["samples"] = generator(fixed)[:, :600]
    networks = {"generator": generator} | dict(critic.named_children())
    for name, stack in networks.items():
        arrays |= {f"{name}.{key}": value for key, value in stack.member(0).items()}
    last = torch.stack(seen)[-1]
    return arrays, {
        "settings": {"batch": args.batch, "rate": args.rate, **PLANE[kind]},
        "seeds": S,
        "generator_updates": args.updates,
        "snapshots_at": sorted(snapshots),
        **{n: [round(x, 3) for x in row.tolist()] for n, row in zip(adv.Coverage._fields, last, strict=True)},
    }


def small_digits() -> tuple[Tensor, Tensor]:
    """Return the digits at 14 by 14 pixels, (N, 196) from 0 to 1, and their labels."""
    digits = data.load_digits()
    images = nn.functional.avg_pool2d(digits.images[:, None].float(), 2).flatten(1)
    return images, digits.labels


def probe(train: tuple[Tensor, Tensor], choose: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor]) -> float:
    """Return the test accuracy of logistic regression, with its weight decay chosen on digits kept for that."""
    mean, scale = train[0].mean(0), train[0].std(0) + 1e-3
    sets = [((f - mean) / scale, label) for f, label in (train, choose, test)]
    best = (-1.0, 0.0)
    for decay in (1e-3, 1e-2, 1e-1, 1.0):
        W = torch.zeros(train[0].shape[1] + 1, 10, requires_grad=True)
        optimizer = torch.optim.LBFGS([W], max_iter=100, line_search_fn="strong_wolfe")

        def closure(W: Tensor = W, decay: float = decay, optimizer: torch.optim.Optimizer = optimizer) -> Tensor:
            optimizer.zero_grad()
            logits = sets[0][0] @ W[:-1] + W[-1]
            loss = nn.functional.cross_entropy(logits, sets[0][1]) + decay / 2 * W[:-1].square().sum() / 10
            loss.backward()
            return loss

        optimizer.step(closure)
        with torch.no_grad():
            right = [((f @ W[:-1] + W[-1]).argmax(-1) == label).float().mean().item() for f, label in sets[1:]]
        best = max(best, (right[0], right[1]))
    return best[1]


def supervised(
    train: tuple[Tensor, Tensor], choose: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], g: torch.Generator
) -> float:
    """Return the test accuracy of the critic's architecture, trained on the labels; early stop on ``choose``."""
    network = MLP((196, 256, 256, 10), activation=ACTIVATION, generator=g)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    best = (-1.0, 0.0)
    for step in range(600):
        batch = torch.randint(len(train[0]), (64,), generator=g)
        loss = nn.functional.cross_entropy(network(train[0][batch]), train[1][batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 19:
            with torch.no_grad():
                right = [(network(y).argmax(-1) == label).float().mean().item() for y, label in (choose, test)]
            best = max(best, (right[0], right[1]))
    return best[1]


def on_digits(args: argparse.Namespace) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Train each kind on small digits and probe their critics."""
    images, labels = small_digits()
    pool, choose, test = (0, 8000), (8000, 9000), (9000, 10_000)
    g = torch.Generator().manual_seed(args.seed)
    S, code = args.digit_seeds, 64

    def part(f: Tensor, span: tuple[int, int]) -> tuple[Tensor, Tensor]:
        return f[slice(*span)], labels[slice(*span)]

    def noise(n: int) -> Tensor:
        return torch.randn(S, n, 32, generator=g)

    def draw() -> Tensor:
        return images[torch.randint(pool[1], (S, args.batch), generator=g)]

    features, arrays, seconds = {"pixels": [images] * S}, {}, {}

    def keep(name: str, critic: Critics) -> None:
        with torch.no_grad():
            f = critic.features(images.expand(S, -1, -1))
        features[name] = list(f)

    for kind, options in DIGITS.items():
        critic = Critics(kind, 196, (256,) if kind.startswith("ebgan") else (256, 256), code, S, g)
        generator = Stack((32, 256, 256, 196), S, g, squash=True)
        keep(f"random, as {kind}", critic)
        begun, arguments = time.perf_counter(), argparse.Namespace(**vars(args))
        arguments.updates, arguments.rate = args.digit_updates, args.digit_rate
        play(kind, critic, generator, draw, noise, arguments, options, lambda _: None, g)
        seconds[kind] = round(time.perf_counter() - begun, 1)
        keep(kind, critic)
        with torch.no_grad():
            arrays[f"{kind}.samples"] = (255 * generator(noise(20))[0]).round().to(torch.uint8)
        print(kind, "on digits,", seconds[kind], "s", flush=True)
    accuracy: dict[str, dict[str, list[float]]] = {}
    for count in (100, 1000):
        row = accuracy[str(count)] = {name: [] for name in [*features, "supervised"]}
        for s in range(S):
            chosen = torch.randperm(pool[1], generator=g)[:count]
            for name, f in features.items():
                right = probe((f[s][chosen], labels[chosen]), part(f[s], choose), part(f[s], test))
                row[name].append(round(right, 4))
            few = (images[chosen], labels[chosen])
            row["supervised"].append(round(supervised(few, part(images, choose), part(images, test), g), 4))
        print(count, {n: round(sum(v) / S, 3) for n, v in row.items()}, flush=True)
    every = [supervised(part(images, pool), part(images, choose), part(images, test), g) for _ in range(S)]
    return arrays, {
        "settings": {"batch": args.batch, "rate": args.digit_rate, **DIGITS},
        "seeds": S,
        "generator_updates": args.digit_updates,
        "training_seconds": seconds,
        "accuracy": accuracy,
        "accuracy_supervised_by_all_8000": [round(a, 4) for a in every],
    }


def main() -> None:
    """Train, judge, store."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=[*PLANE, "digits"])
    p.add_argument("--updates", type=int, default=6000, help="of the generator, in the plane")
    p.add_argument("--digit-updates", type=int, default=3000)
    p.add_argument("--digit-rate", type=float, default=5e-4)
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--rate", type=float, default=2e-3)
    p.add_argument("--seeds", type=int, default=5)
    p.add_argument("--digit-seeds", type=int, default=3)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    torch.set_num_threads(1)
    kept, facts = stored(args.out, without=args.only) if args.only else ({}, {})
    facts.setdefault("parts", {})
    for part in [args.only] if args.only else [*PLANE, "digits"]:
        begun, cpu_begun = time.perf_counter(), time.process_time()
        arrays, verdict = on_digits(args) if part == "digits" else in_the_plane(part, args)
        for name, value in arrays.items():
            numbers = value.numpy()
            kept[f"{part}/{name}"] = numbers.astype(np.float16) if numbers.dtype == np.float32 else numbers
        facts["parts"][part] = {
            "seconds": round(time.perf_counter() - begun, 1),
            "processor_seconds": round(time.process_time() - cpu_begun, 1),
            **verdict,
        }
    facts |= {
        "command": " ".join(["python", "training/gans.py"]),
        "seed": args.seed,
        **machine(),
        "data": f"{SIDE * SIDE} Gaussians, {SPACING} apart, of standard deviation {NOISE}; good: within {RADIUS:.2f}",
    }
    print(write(args.out, kept, facts), "bytes;", " ".join(sys.argv))


if __name__ == "__main__":
    main()
