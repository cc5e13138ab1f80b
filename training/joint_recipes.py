"""The recipes of the benchmark of joint-embedding methods: what all share, and what each has of its own.

Shared: encoder, augmentation, epochs, batches of 64, the optimizer and its rate; heads and weights of terms are the
library's defaults but for what METHODS names. Chosen in short runs of one seed (5 to 8 epochs, about 20 processor
minutes in all) on another draw of sprites than is measured here. Batches of 64, not 256, since in so few epochs the
number of steps decides: in 6 epochs BYOL came to 52 % with 64, to 45 % with 128, and to 41 % in 8 epochs with 256.
SIGReg with weight 0.05 and batches of 256 came to 45 % in 8 epochs, with 0.02 and 64 to 65 % in 5. PIRL is the slowest:
each entry of its bank is seen once an epoch (42 % in 5 epochs, 55 % in 12, with patches of 16 pixels).
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import torch
from sprite_studies import AUGMENTATION, SMALL
from torch import Tensor

from ebm_lib import joint
from ebm_lib.joint.methods import Method


@dataclass(frozen=True)
class Recipe:
    """How one run learns; what is not named is the library's default.

    Attributes:
        kind: class in ``ebm_lib.joint``.
        options: of the method.
        learning: of ``joint.learn``: highest rate and its warm-up, if they are not the shared ones.
        views: ``"two"``, ``"jigsaw"`` (of PIRL: the second view is cut in patches), or ``"multi"`` (with small crops).
        batch_size: pictures a step.
        epochs: passes through 8,000 pictures; fewer pictures are passed more often, for as many steps.
        share: of the pictures that have a label and are learned from.
        group: the criterion is the mean over groups of so many pictures of a batch; None takes the batch whole.
    """

    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    learning: dict[str, float] = field(default_factory=dict)
    views: str = "two"
    batch_size: int = 64
    epochs: int = 24
    share: float = 1.0
    group: int | None = None

    def settings(self) -> dict[str, Any]:
        """What is stored of it."""
        return asdict(self)


METHODS = {
    "siamese": Recipe("Siamese", options={"mining": "semi-hard"}),
    "SimCLR": Recipe("SimCLR"),
    "MoCo": Recipe("MoCo"),
    "PIRL": Recipe("PIRL", views="jigsaw"),
    "BYOL": Recipe("BYOL"),
    "SimSiam": Recipe("SimSiam"),
    "DeepCluster": Recipe("DeepCluster"),
    "SwAV": Recipe("SwAV"),
    "SwAV, multi-crop": Recipe("SwAV", views="multi"),
    "Barlow Twins": Recipe("BarlowTwins"),
    "VICReg": Recipe("VICReg"),
    "SIGReg": Recipe("SIGReg", options={"weight": 0.02}),
}
CRITERIA = {
    joint.SimCLR: lambda method, a, b: joint.nt_xent(a, b, temperature=method.temperature),
    joint.BarlowTwins: lambda method, a, b: joint.barlow_twins(a, b, redundancy=method.redundancy),
    joint.VICReg: lambda method, a, b: joint.vicreg(a, b, **method.weights),
}
BASELINES = {
    "supervised": Recipe("Supervised"),
    "supervised, 10 %": Recipe("Supervised", share=0.1),
    "supervised, 1 %": Recipe("Supervised", share=0.01),
}


def make(recipe: Recipe, images: Tensor, labels: Tensor, generator: torch.Generator) -> Method:
    """Return an untrained method; the encoder is the same for all methods of a seed."""
    encoder = joint.SmallEncoder(generator=generator)
    extra = {"DeepCluster": (len(images),), "PIRL": (len(images),), "Supervised": (labels,)}.get(recipe.kind, ())
    method = getattr(joint, recipe.kind)(encoder, *extra, generator=generator, **recipe.options)
    return method if recipe.group is None else Grouped(method, recipe.group)


class Grouped(Method):
    """A method of two views whose criterion sees a part of the batch at a time, while its networks see all of it."""

    def __init__(self, method: Method, group: int) -> None:
        super().__init__()
        self.method, self.encoder, self.head, self.group = method, method.encoder, method.head, group

    def forward(self, views: Sequence[Tensor], rows: Tensor, generator: torch.Generator | None = None) -> NamedTuple:
        """The mean of the groups' criteria."""
        pairs = zip(*(self.head(self.encoder(view)).split(self.group) for view in views), strict=True)
        found = [CRITERIA[type(self.method)](self.method, *pair) for pair in pairs]
        return type(found[0])(*(sum(term) / len(found) for term in zip(*found, strict=True)))


def views(recipe: Recipe) -> joint.Views:
    """Return what draws the views."""
    large = joint.Augmentation(32, **AUGMENTATION)
    if recipe.views == "jigsaw":
        return joint.Views(large, lambda x, g: joint.jigsaw(large(x, g), grid=2, patch=16, generator=g))
    small = joint.Augmentation(**AUGMENTATION | SMALL)
    return joint.Views(large, large, *([small] * 4 if recipe.views == "multi" else []))


class Stopwatch:
    """Views that note the processor's time as they are drawn; goes on counting where a checkpoint left off.

    Attributes:
        marks: seconds at which each epoch began.
        spent: seconds so far.
    """

    def __init__(self, views: joint.Views, per_epoch: int) -> None:
        self.views, self.per_epoch = views, per_epoch
        self.marks = [0.0]
        self.spent, self.calls, self.since = 0.0, 0, time.process_time()

    def stop(self) -> float:
        """Add what passed since the last look; return the sum."""
        now = time.process_time()
        self.spent, self.since = self.spent + now - self.since, now
        return self.spent

    def __call__(self, images: Tensor, generator: torch.Generator | None) -> Sequence[Tensor]:
        """Draw the views."""
        if self.calls and self.calls % self.per_epoch == 0:
            self.marks.append(self.stop())
        self.calls += 1
        return self.views(images, generator)

    def epochs(self) -> Tensor:
        """Seconds of each epoch up to now; what is done before the views are drawn counts to the epoch before."""
        return torch.tensor([*self.marks, self.stop()], dtype=torch.float64).diff()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"marks": list(self.marks), "spent": self.stop(), "calls": self.calls}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.marks, self.spent, self.calls = list(state["marks"]), state["spent"], state["calls"]
        self.since = time.process_time()


def memory(method: Method, seen: Sequence[Tensor], rows: Tensor, generator: torch.Generator) -> dict[str, int]:
    """Count the bytes of tensors that training holds: those kept for the backward pass of one step, and all others.

    The step is done on the method itself, without an update: give it one that is not trained afterwards.
    """
    weights = {p.untyped_storage().data_ptr() for p in [*method.parameters(), *method.buffers()]}
    kept: dict[int, int] = {}

    def note(t: Tensor) -> Tensor:
        if t.untyped_storage().data_ptr() not in weights:
            kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        method(seen, rows, generator)
    size = {kind: sum(p.nbytes for p in tensors) for kind, tensors in (
        ("trained", [p for p in method.parameters() if p.requires_grad]),
        ("all", [*method.parameters(), *method.buffers()]),
    )}  # fmt: skip
    # a gradient and AdamW's two averages for each weight that is trained
    return {"step_bytes": sum(kept.values()), "state_bytes": size["all"] + 3 * size["trained"]}
