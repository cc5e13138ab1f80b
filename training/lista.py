"""Train networks that guess sparse codes of natural patches: LISTA of several depths, and PSD.

    python training/lista.py                 # all parts, one after the other
    python training/lista.py --only lista    # one part; the others stay as they are in the file

writes ``training/results/lista.npz`` (dictionaries and weights in half precision) and ``.json`` (what was measured,
command, seed, time). Patches are 10 by 10 pixels, from the left four fifths of ten photographs; what is measured is
measured on patches from the right fifth. Each loses its mean and is divided by its standard deviation, the flattest
three tenths are dropped (much as in Gregor and LeCun, 2010). Parts:

``lista``     a dictionary of 100 atoms; LISTA of 1, 2, 3 and 5 layers, tied or not, trained on codes or on the energy
``contrast``  LISTA of 3 layers for the same dictionary, trained on patches of many contrasts
``white``     the same for whitened patches and a dictionary of theirs
``psd``       PSD at three prices of the prediction; a sparse auto-encoder with the same encoder; the same encoder,
              trained afterwards for the dictionary of plain sparse coding

How many iterations of FISTA a network is worth: the fewest after which FISTA's mean squared error of the codes (or its
mean energy above the minimum), on the same patches, is no larger.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from record import run_parts
from torch import Tensor

from ebm_lib import data
from ebm_lib.latent import SparseAutoEncoder
from ebm_lib.latent.sparse import LISTA, PSD, ScaledTanh, SparseCoding, fista, sparse_codes, sparse_energy
from ebm_lib.train import fit

RESULTS = Path(__file__).parent / "results" / "lista"
SIZE, ATOMS, LAM, TRAIN, HELD_OUT, ITERATIONS = 10, 100, 1.0, 20_000, 1_000, 200
CONTRASTS = (0.5, 4.0)


def patches(white: bool = False) -> tuple[Tensor, Tensor]:
    """Patches to learn from and patches held out, no pixel of which is in any of the former."""
    photographs = data.load_photographs().values()
    cuts = [round(0.8 * picture.shape[2]) for picture in photographs]
    sides = (
        [picture[:, :, :cut] for picture, cut in zip(photographs, cuts, strict=True)],
        [picture[:, :, cut:] for picture, cut in zip(photographs, cuts, strict=True)],
    )
    parts = []
    for seed, (pictures, n) in enumerate(zip(sides, (TRAIN, HELD_OUT), strict=True)):
        y = data.cut_patches(pictures, 3 * n // 2, SIZE, generator=torch.Generator().manual_seed(seed))
        y = y - y.mean(-1, keepdim=True)
        if not white:
            spread = y.std(-1, keepdim=True)
            keep = (spread > spread.quantile(0.3))[:, 0]
            y = y[keep] / spread[keep]
        parts.append(y[:n])
    if white:
        map_ = data.whitening(parts[0], noise=0.01)
        parts = [map_.whiten(y) for y in parts]
        parts = [y / parts[0].std() for y in parts]
    return parts[0], parts[1]


def learn_dictionary(y: Tensor, seed: int) -> Tensor:
    """The dictionary of sparse coding, (D, K)."""
    g = torch.Generator().manual_seed(seed)
    model = SparseCoding(y.shape[1], ATOMS, lam=LAM, generator=g)
    model.learn(y, rounds=6, batch_size=500, tol=1e-3, generator=g, progress=False)
    return model.W.detach()


def exact(y: Tensor, W: Tensor) -> Tensor:
    """The best codes, each with a certificate: its energy is above the minimum by at most a millionth of that at 0."""
    return sparse_codes(y.double(), W.double(), LAM, tol=1e-6).to(y.dtype)


class Judge:
    """Held-out patches, their best codes, and FISTA's way to them."""

    def __init__(self, y: Tensor, W: Tensor) -> None:
        self.y, self.W, self.z = y, W, exact(y, W)
        self.lowest = sparse_energy(y, self.z, W, LAM)
        way = fista(y, W, LAM, steps=ITERATIONS, keep_path=True)
        self.curves = {
            "code_error": (way.path - self.z).square().sum(-1).mean(-1),
            "energy_gap": (way.energies - self.lowest).mean(-1),
        }

    @torch.no_grad()
    def __call__(self, z: Tensor) -> dict[str, float]:
        """Code error and energy above the minimum of guesses, and what they are worth."""
        values = {
            "code_error": (z - self.z).square().sum(-1).mean(),
            "energy_gap": (sparse_energy(self.y, z, self.W, LAM) - self.lowest).mean(),
        }
        verdict = {}
        for name, value in values.items():
            reached = (self.curves[name] <= value).nonzero()
            verdict[name] = round(value.item(), 4)
            verdict[f"{name}_worth"] = int(reached[0]) if len(reached) else ITERATIONS
        return verdict

    def facts(self) -> dict[str, float]:
        """What there is to guess."""
        return {
            "largest_eigenvalue": round(torch.linalg.matrix_norm(self.W, 2).item() ** 2, 2),
            "active_share": round((self.z != 0).float().mean().item(), 3),
            "code_norm_squared": round(self.z.square().sum(-1).mean().item(), 2),
            "energy_at_zero": round(self.y.square().sum(-1).mean().item(), 2),
            "lowest_energy": round(self.lowest.mean().item(), 2),
        }


def train(
    y: Tensor, W: Tensor, codes: Tensor, layers: int, args: argparse.Namespace, *, tied: bool = False,
    target: str = "codes", seed: int = 0,
) -> LISTA:  # fmt: skip
    """LISTA, trained."""
    network = LISTA(W, LAM, layers, tied=tied)
    network.learn(
        y,
        target=target,
        codes=codes if target == "codes" else None,
        steps=args.steps,
        batch_size=256,
        lr=args.rate,
        generator=torch.Generator().manual_seed(seed),
        progress=False,
    )
    return network


def weights(network: torch.nn.Module, name: str) -> dict[str, Tensor]:
    """A network's parameters under its name; the dictionary is stored once, elsewhere."""
    return {f"{name}.{key}": value.detach() for key, value in network.named_parameters() if key != "W"}


def lista(args: argparse.Namespace) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Depth, tying, target, seeds."""
    y, held_out = patches()
    W = learn_dictionary(y, args.seed)
    judge, codes = Judge(held_out, W), sparse_codes(y, W, LAM)
    stored, rows = {"W": W}, {}
    kinds = [("codes", False, n, 0) for n in (1, 2, 3, 5)] + [("codes", True, n, 0) for n in (2, 3, 5)]
    kinds += [("energy", False, n, 0) for n in (1, 2, 3, 5)] + [("codes", False, 2, seed) for seed in (1, 2)]
    for target, tied, layers, seed in kinds:
        network = train(y, W, codes, layers, args, tied=tied, target=target, seed=seed)
        name = f"{target}, {'tied' if tied else 'untied'}, {layers}" + (f", seed {seed}" if seed else "")
        rows[name] = judge(network.encode(held_out))
        if target == "codes" and not tied and not seed:
            stored |= weights(network, f"codes{layers}")
        print(name, rows[name], flush=True)
    return stored, {**judge.facts(), "networks": rows}


def contrast(args: argparse.Namespace) -> tuple[dict[str, Tensor], dict[str, object]]:
    """The same dictionary, patches of many contrasts."""
    y, held_out = patches()
    with np.load(args.out.with_suffix(".npz")) as stored:
        W = torch.tensor(stored["lista/W"]).float()
    low, high = CONTRASTS
    c = low * (high / low) ** torch.rand(len(y), 1, generator=torch.Generator().manual_seed(args.seed))
    network = train(c * y, W, sparse_codes(c * y, W, LAM), 3, args)
    judge = Judge(held_out, W)
    verdict = judge(network.encode(held_out))
    print(verdict)
    return weights(network, "many3"), {"contrasts": CONTRASTS, "at contrast 1": verdict}


def white(args: argparse.Namespace) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Whitened patches."""
    y, held_out = patches(white=True)
    W = learn_dictionary(y, args.seed)
    judge, codes, rows = Judge(held_out, W), sparse_codes(y, W, LAM), {}
    # of the rates 1, 1/4 and 1/16 of this, 1/4 was best for one and two layers
    gentler = argparse.Namespace(**vars(args) | {"rate": args.rate / 4})
    for layers in (1, 2, 3):
        rows[layers] = judge(train(y, W, codes, layers, gentler).encode(held_out))
        print(layers, rows[layers], flush=True)
    curve = [round(v, 4) for v in judge.curves["code_error"][:31].tolist()]
    return {}, {**judge.facts(), "rate": gentler.rate, "networks": rows, "fista_code_error": curve}


def psd(args: argparse.Namespace) -> tuple[dict[str, Tensor], dict[str, object]]:
    """From a dictionary with an encoder added afterwards, over PSD, to an auto-encoder."""
    y, held_out = patches()
    D, K, stored, rows = y.shape[1], ATOMS, {}, {}
    options = {"batch_size": 256, "lr": 3e-3, "progress": False}

    def judged(name: str, W: Tensor, guess: Tensor, offset: Tensor | float = 0.0) -> None:
        left = held_out - offset
        best = sparse_codes(left, W, LAM, tol=1e-5)
        rows[name] = {
            "searched": round(sparse_energy(left, best, W, LAM).mean().item(), 2),
            "guessed": round(sparse_energy(left, guess, W, LAM).mean().item(), 2),
            "zeros_searched": round((best == 0).float().mean().item(), 3),
            "zeros_guessed": round((guess == 0).float().mean().item(), 3),
        }
        print(name, rows[name], flush=True)

    def fresh() -> tuple[ScaledTanh, torch.Generator]:
        g = torch.Generator().manual_seed(args.seed)
        return ScaledTanh(D, K, generator=g), g

    with np.load(args.out.with_suffix(".npz")) as known:
        W = torch.tensor(known["lista/W"]).float()
    encoder, g = fresh()
    adam = torch.optim.Adam(encoder.parameters(), lr=3e-3)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, args.psd_steps)
    fit(
        encoder,
        lambda module, y, z: (module(y) - z).square().sum(-1).mean(),
        (y, sparse_codes(y, W, LAM)),
        steps=args.psd_steps, batch_size=256, optimizer=adam, scheduler=falling, generator=g, progress=False,
    )  # fmt: skip
    with torch.no_grad():
        judged("afterwards", W, encoder(held_out))
    for prediction in (0.1, 1.0, 10.0):
        encoder, g = fresh()
        model = PSD(D, K, lam=LAM, prediction=prediction, encoder=encoder, generator=g)
        model.learn(y, steps=args.psd_steps, inference_steps=15, generator=g, **options)
        with torch.no_grad():
            judged(f"{prediction:g}", model.W.detach(), model.encode(held_out))
        if prediction == 1:
            stored = {"W": model.W.detach(), **weights(encoder, "encoder")}
    encoder, g = fresh()
    auto = SparseAutoEncoder(D, K, lam=LAM, code="linear", encoder=encoder, generator=g)
    adam = torch.optim.Adam(auto.parameters(), lr=3e-3)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, args.psd_steps)
    auto.learn(y, steps=args.psd_steps, batch_size=256, optimizer=adam, scheduler=falling, generator=g)
    with torch.no_grad():
        offset = auto.decode(torch.zeros(K))
        judged("auto-encoder", auto.decode(torch.eye(K)).T - offset[:, None], auto.encode(held_out), offset)
    return stored, {"steps": args.psd_steps, "models": rows}


PARTS = {"lista": lista, "contrast": contrast, "white": white, "psd": psd}


def main() -> None:
    """Train, judge, store."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=PARTS)
    p.add_argument("--steps", type=int, default=3000)
    p.add_argument("--psd-steps", type=int, default=1500)
    p.add_argument("--rate", type=float, default=4e-3)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    facts = {
        "command": "python training/lista.py",
        "steps": args.steps,
        "data": f"{TRAIN} patches to learn from, {HELD_OUT} held out, lambda {LAM:g}",
    }
    run_parts(PARTS, args, facts)


if __name__ == "__main__":
    main()
