"""What changes while training, how it is stored, and how it comes back."""

import io
import os
import random
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ebm_lib.train.history import History


@dataclass
class Run:
    """Everything that changes while training: what a checkpoint holds."""

    module: nn.Module
    optimizer: Optimizer
    scheduler: LRScheduler | None
    generator: torch.Generator | None
    stateful: Sequence[Any]
    processes: Any  # a Fabric object, or what stands in for one
    facts: dict[str, Any]  # what must be the same for a resumed run to equal an uninterrupted one
    seed: int
    history: History
    best: dict[str, Any] | None = None

    FORMAT: ClassVar[str] = "ebm_lib.train.fit 1"

    @property
    def device(self) -> torch.device:
        """Where the module is."""
        return next(self.module.parameters()).device

    @property
    def scaler(self) -> Any:
        """Fabric's precision plugin, whose state is the scale of a 16-bit loss."""
        return getattr(self.processes.strategy, "precision", None)

    def require_finite(self) -> None:
        """Refuse weights spoilt by a non-finite gradient of a finite loss, before they are stored or returned."""
        for name, parameter in self.module.named_parameters():
            if not torch.isfinite(parameter).all():
                raise FloatingPointError(f"parameter {name!r} is not finite after step {self.history.steps}")

    def _own(self) -> dict[str, Any]:
        """The state that each process has for itself."""
        name, keys, *rest = np.random.get_state()
        own = {
            "stateful": [part.state_dict() for part in self.stateful],
            "torch": torch.get_rng_state(),
            "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
            "python": random.getstate(),
        }
        if self.generator is not None:
            own["generator"] = self.generator.get_state()
        if self.device.type != "cpu":
            own[self.device.type] = torch.get_device_module(self.device).get_rng_state(self.device)
        return own

    def _set_own(self, own: dict[str, Any]) -> None:
        for part, state in zip(self.stateful, own["stateful"], strict=True):
            part.load_state_dict(state)
        torch.set_rng_state(own["torch"])
        name, keys, *rest = own["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
        random.setstate(own["python"])
        if self.generator is not None:
            self.generator.set_state(own["generator"])
        if self.device.type in own:
            torch.get_device_module(self.device).set_rng_state(own[self.device.type], self.device)

    def _all_own(self) -> list[dict[str, Any]]:
        """Every process's own state, in the order of ranks, on the CPU."""
        if self.processes.world_size == 1:
            return [self._own()]
        buffer = io.BytesIO()
        torch.save(self._own(), buffer)
        everyone = [b""] * self.processes.world_size
        torch.distributed.all_gather_object(everyone, buffer.getvalue())
        return [torch.load(io.BytesIO(own), map_location="cpu", weights_only=True) for own in everyone]

    def save(self, path: Path) -> None:
        """Write a checkpoint beside ``path``, read it back, and put it in the old one's place in one move."""
        state = {
            "format": self.FORMAT,
            "facts": self.facts,
            "seed": self.seed,
            "history": asdict(self.history),
            "module": self.module.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "scaler": self.scaler.state_dict() if self.scaler else {},
            "processes": self._all_own(),
        }
        if self.processes.global_rank > 0:
            return
        partial = path.with_name(path.name + ".partial")
        try:
            with partial.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            self.read(partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: Path) -> dict[str, Any]:
        """Read a checkpoint as plain data: a file can neither run code nor pass with a damaged byte."""
        try:
            with zipfile.ZipFile(path) as archive:
                if (damaged := archive.testzip()) is not None:
                    raise ValueError(f"{damaged} is damaged")
            state = torch.load(path, map_location="cpu", weights_only=True)
            if state["format"] != cls.FORMAT:
                raise ValueError(f"its format is {state['format']!r}, expected {cls.FORMAT!r}")
        except OSError:
            raise
        except Exception as error:
            raise ValueError(f"checkpoint {path} is not a readable checkpoint of fit: {error}") from error
        return state

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint, read by the first process for all: the others may not see its disk."""
        try:
            state = self.read(path) if self.processes.global_rank == 0 and path.exists() else None
        except (OSError, ValueError) as error:
            state = error
        state = self.processes.broadcast(state)
        if isinstance(state, Exception):
            raise state
        if state is not None:
            self._load(state, path)

    def _load(self, state: dict[str, Any], path: Path) -> None:
        was = state["facts"] | _shapes(state["module"])
        now = self.facts | _shapes(self.module.state_dict())
        changed = [name for name in (was | now) if was.get(name) != now.get(name)]
        if changed:
            differences = "; ".join(f"{name} was {was.get(name)}, is {now.get(name)}" for name in changed[:4])
            raise ValueError(f"checkpoint {path} is from another run: {differences}")
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler:
            self.scheduler.load_state_dict(state["scheduler"])
        if self.scaler and state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self._set_own(state["processes"][self.processes.global_rank])
        self.seed, self.best, self.history = state["seed"], state["best"], History(**state["history"])


def _shapes(weights: Mapping[str, Any]) -> dict[str, Any]:
    return {f"weight {name}": tuple(w.shape) if isinstance(w, Tensor) else type(w) for name, w in weights.items()}
