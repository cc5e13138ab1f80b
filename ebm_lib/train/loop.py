"""The loop."""

import copy
import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import Dataset, default_collate
from tqdm import tqdm

from ebm_lib.require import require_count, require_finite, require_positive
from ebm_lib.train.checkpoint import Run
from ebm_lib.train.history import History


def fit(
    module: nn.Module,
    loss: Callable[..., Tensor | Mapping[str, Tensor]],
    data: Tensor | Sequence[Tensor] | Dataset,
    *,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    optimizer: Optimizer | None = None,
    scheduler: LRScheduler | None = None,
    clip: float | None = None,
    generator: torch.Generator | None = None,
    stateful: Sequence[Any] = (),
    validate: Callable[[nn.Module], Tensor | float] | None = None,
    validate_every: int | None = None,
    patience: int | None = None,
    callback: Callable[[History], Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 100,
    resume: bool = True,
    fabric: Any = None,
    progress: bool = True,
) -> History:
    r"""Minimise a loss over data by stochastic gradient descent.

    .. math:: w \leftarrow w - \eta \, g\!\left(\nabla_w \frac{1}{B} \sum_{b=1}^{B} L(w, x_b, y_b)\right),

    with the update rule :math:`g` of the optimizer. Batches are a function of the generator's seed and the step
    alone. A run that was interrupted and resumed from its checkpoint equals an uninterrupted one bit for bit, on the
    same machine and software: weights, optimizer, schedule, ``generator``, and torch's (CPU and the module's
    device), NumPy's and Python's global random states are all restored.

    Args:
        module: what is trained, in place, on the device where it is. In training mode during steps, in evaluation
            mode during ``validate``, in the mode it came in afterwards.
        loss: ``loss(module, *batch)`` returns a scalar, or a mapping with that scalar as ``"loss"`` and other numbers
            to record. Noise in it should come from ``generator``, the object passed here: its state is stored.
        data: samples along the first dimension of a tensor or of several, or a map-style data set whose items are
            tensors or tuples of them. Batches move to the module's device.
        steps: how many updates in all, those of a resumed checkpoint included. Give this or ``epochs``.
        epochs: how often to go through the data, in freshly shuffled order; an incomplete last batch is left out.
        batch_size: samples per step, over all processes; None takes all the data at each step, unshuffled.
        lr: Adam's learning rate, 1e-3 if None. Give this or ``optimizer``.
        optimizer: a torch optimizer over the module's parameters.
        scheduler: a learning-rate scheduler of that optimizer, advanced at every step.
        clip: largest norm of the gradient; longer ones are scaled down to it.
        generator: draws the seed of the batch order here at the start; torch's global generator does if None.
        stateful: what else changes while training, such as a replay buffer: anything with ``state_dict`` and
            ``load_state_dict``.
        validate: ``validate(module)`` returns a number, lower is better, with gradients on for losses that infer.
        validate_every: steps between validations; one epoch if None.
        patience: stop after so many validations without a new lowest value, and end, stopped or not, with the
            weights of the lowest one.
        callback: called with the history after every update, as for snapshots or a moving average of the weights.
        checkpoint: a file that holds the whole state, replaced in one move, so that a kill at any moment leaves a
            readable one. It is written every ``checkpoint_every`` steps and at the end.
        checkpoint_every: steps between checkpoints.
        resume: go on from ``checkpoint`` if that file exists (learning rate included); False starts anew.
        fabric: a launched ``lightning.fabric.Fabric`` with a strategy that keeps the whole module in each process
            (one device, DDP); pass module and optimizer plain, ``fit`` sets them up. Each process takes an equal
            share of each batch, and a loss that is a mean over samples gives the result of one process. On all but
            the first, ``generator`` is seeded anew, so that noise differs between processes; dropout follows the
            global seeds, which are the caller's.
        progress: show a bar.

    Returns:
        The history, over all resumptions.

    Raises:
        ValueError: an argument out of range, arguments that contradict each other, data of unequal lengths or not
            finite, a loss that is not a differentiable scalar, a checkpoint that is damaged or of another run.
        FloatingPointError: the loss, a validation or a weight is not finite; the last checkpoint stays as it was.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Training EBMs"; Bottou, Curtis and
        Nocedal, Optimization methods for large-scale machine learning (SIAM Review 60, 2018), section 4.

    >>> x = torch.linspace(-1, 1, 20)[:, None]
    >>> line = nn.Linear(1, 1)
    >>> def squared(f, x, y):
    ...     return (f(x) - y).square().mean()
    >>> history = fit(line, squared, (x, 3 * x + 1), steps=500, lr=0.1, progress=False)
    >>> round(line.weight.item(), 3), round(line.bias.item(), 3), history.steps
    (3.0, 1.0, 500)
    """
    processes = _OneProcess() if fabric is None else fabric
    count, fetch = _samples(data)
    size = count if batch_size is None else require_count("batch_size", batch_size)
    if size > count or size % processes.world_size:
        raise ValueError(
            f"batch_size must be at most the {count} samples and a multiple of the {processes.world_size} processes, "
            f"got {size}"
        )
    if (steps is None) == (epochs is None):
        raise ValueError(f"give either steps or epochs, got steps={steps} and epochs={epochs}")
    per_epoch = count // size
    total = require_count("epochs", epochs) * per_epoch if steps is None else require_count("steps", steps)
    validate_every = per_epoch if validate_every is None else require_count("validate_every", validate_every)
    if patience is not None and require_count("patience", patience) and validate is None:
        raise ValueError("patience counts validations: give validate too")
    if clip is not None:
        require_positive("clip", clip)
    require_count("checkpoint_every", checkpoint_every)
    for part in stateful:
        if not (hasattr(part, "state_dict") and hasattr(part, "load_state_dict")):
            raise ValueError(
                f"stateful must hold things with state_dict and load_state_dict, got {type(part).__name__}"
            )
    path = None if checkpoint is None else _place(checkpoint)
    optimizer = _optimizer(module, optimizer, lr, scheduler)

    forward, update = processes.setup(_Step(module, loss), optimizer)
    device = next(module.parameters()).device
    origin = "cpu" if generator is None else generator.device
    seed, noise_seed = processes.broadcast(torch.randint(2**62, (2,), generator=generator, device=origin).tolist())
    if generator is not None and processes.global_rank > 0:
        generator.manual_seed(noise_seed + processes.global_rank)
    facts = {
        "the number of samples": count,
        "batch_size": size,
        "the number of processes": processes.world_size,
        "optimizer": type(optimizer).__name__,
        "scheduler": type(scheduler).__name__,
        "generator": None if generator is None else generator.device.type,
        "stateful": [type(part).__name__ for part in stateful],
        "early stopping": patience is not None,
    }
    run = Run(
        module, optimizer, scheduler, generator, stateful, processes, facts, seed, History(steps_per_epoch=per_epoch)
    )
    if path is not None and resume:
        run.resume(path)
    history = run.history
    if history.steps > total:
        raise ValueError(f"checkpoint {path} has done {history.steps} steps, more than the {total} asked for")
    history.stopped_early = history.exhausts(patience)

    began = time.perf_counter() - history.seconds
    batches = _batches(count, size, run.seed, history.steps, processes)
    modes = [(part, part.training) for part in module.modules()]
    module.train()
    hidden = not progress or processes.global_rank > 0
    try:
        with tqdm(total=total, initial=history.steps, unit="step", disable=hidden) as bar:
            while history.steps < total and not history.stopped_early:
                parts = forward(*(part.to(device) for part in fetch(next(batches))))
                _record(history, parts, processes)
                optimizer.zero_grad()
                processes.backward(parts["loss"])
                if clip is not None:
                    processes.clip_gradients(forward, update, max_norm=clip, error_if_nonfinite=False)
                update.step()
                if scheduler is not None:
                    scheduler.step()
                if callback is not None:
                    callback(history)
                if validate is not None and history.steps % validate_every == 0:
                    _validate(history, validate, module, processes)
                    if patience is not None and history.best_step == history.steps:
                        run.best = copy.deepcopy(module.state_dict())
                    history.stopped_early = history.exhausts(patience)
                history.seconds = time.perf_counter() - began
                if history.steps == total or history.stopped_early or history.steps % checkpoint_every == 0:
                    run.require_finite()
                    if path is not None:
                        run.save(path)
                bar.update()
                bar.set_postfix(loss=f"{history.loss[-1]:.4g}", refresh=False)
    finally:
        for part, training in modes:
            part.training = training
    if run.best is not None:
        module.load_state_dict(run.best)
    return history


def _place(checkpoint: str | os.PathLike[str]) -> Path:
    """Make the checkpoint's folder now, rather than fail after hours."""
    path = Path(checkpoint)
    if path.is_dir():
        raise ValueError(f"checkpoint must be a file, and {path} is a directory")
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _optimizer(
    module: nn.Module, optimizer: Optimizer | None, lr: float | None, scheduler: LRScheduler | None
) -> Optimizer:
    """Check the optimizer against the module, or make the default one."""
    if hasattr(module, "mark_forward_method"):
        raise ValueError("module is already set up by Fabric: pass the plain one, fit sets it up")
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not trainable:
        raise ValueError(f"module must have trainable parameters, and this {type(module).__name__} has none")
    if optimizer is None:
        optimizer = torch.optim.Adam(trainable, lr=require_positive("lr", 1e-3 if lr is None else lr))
    elif lr is not None:
        raise ValueError("lr is Adam's: give either lr or optimizer, which has its own")
    own = {id(parameter) for parameter in module.parameters()}
    if not all(id(parameter) in own for group in optimizer.param_groups for parameter in group["params"]):
        raise ValueError("optimizer must hold the module's parameters only: nothing else is stored in a checkpoint")
    if scheduler is not None and scheduler.optimizer is not optimizer:
        raise ValueError("scheduler must drive the optimizer given, and drives another")
    return optimizer


def _record(history: History, parts: Mapping[str, Tensor], processes: Any) -> None:
    """Add a step's numbers to the history, averaged over processes; refuse a non-finite loss on all of them."""
    values = processes.all_reduce(torch.stack([value.detach() for value in parts.values()])).tolist()
    step = dict(zip(parts, values, strict=True))
    loss = step.pop("loss")
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss at step {history.steps + 1} is {loss}, and nothing was updated from it")
    if history.steps and step.keys() != history.metrics.keys():
        raise ValueError(f"loss must return the same names at each step: {list(step)} after {list(history.metrics)}")
    history.loss.append(loss)
    for name, value in step.items():
        history.metrics.setdefault(name, []).append(value)


def _validate(history: History, validate: Callable[..., Any], module: nn.Module, processes: Any) -> None:
    """Add a validation to the history: the first process's value, so that all stop together."""
    module.eval()
    value = processes.broadcast(float(validate(module)))
    module.train()
    if not math.isfinite(value):
        raise FloatingPointError(f"validate after step {history.steps} returned {value}")
    history.validation_steps.append(history.steps)
    history.validation.append(value)


def _samples(data: Tensor | Sequence[Tensor] | Dataset) -> tuple[int, Callable[[Tensor], tuple[Tensor, ...]]]:
    """Count the samples, and give the function from indices to a batch."""
    tensors = (data,) if isinstance(data, Tensor) else data
    if isinstance(tensors, Sequence) and tensors and all(isinstance(t, Tensor) for t in tensors):
        for position, tensor in enumerate(tensors):
            if tensor.ndim == 0 or len(tensor) != len(tensors[0]) or len(tensor) == 0:
                shapes = ", ".join(str(tuple(t.shape)) for t in tensors)
                raise ValueError(f"data must hold tensors with one row per sample, equally many, got shapes {shapes}")
            require_finite(f"data[{position}]", tensor)
        return len(tensors[0]), lambda indices: tuple(tensor[indices] for tensor in tensors)
    if not (hasattr(data, "__getitem__") and hasattr(data, "__len__")) or len(data) == 0:
        raise ValueError(
            f"data must be a tensor, a tuple of tensors or a map-style data set, not empty, got {type(data).__name__}"
        )

    def collate(indices: Tensor) -> tuple[Tensor, ...]:
        batch = default_collate([data[i] for i in indices.tolist()])
        batch = tuple(batch) if isinstance(batch, list | tuple) else (batch,)
        if not all(isinstance(part, Tensor) for part in batch):
            raise ValueError(f"data[i] must be a tensor or a tuple of tensors, got {type(data[0]).__name__}")
        return batch

    return len(data), collate


def _batches(count: int, size: int, seed: int, start: int, processes: Any) -> Iterator[Tensor]:
    """Yield this process's indices of each step's batch from step ``start`` on: a function of seed and step alone."""
    share = size // processes.world_size
    for step in itertools.count(start):
        epoch, position = divmod(step, count // size)
        if position == 0 or step == start:
            shuffle = torch.Generator().manual_seed(seed + epoch)
            order = torch.arange(count) if size == count else torch.randperm(count, generator=shuffle)
        yield order[position * size + processes.global_rank * share :][:share]


class _Step(nn.Module):
    """The loss as a forward pass, whatever it does with the module.

    Fabric and DDP see ``forward`` only. Wrapping the loss, not the module, lets the loss call any method of the
    module, several times, and differentiate with respect to y, with one synchronisation per step.
    """

    def __init__(self, module: nn.Module, loss: Callable[..., Any]) -> None:
        super().__init__()
        self.module = module
        self.__dict__["loss"] = loss  # not a submodule: what is trained and stored is the module and nothing else

    def forward(self, *batch: Tensor) -> dict[str, Tensor]:
        out = self.loss(self.module, *batch)
        out = dict(out) if isinstance(out, Mapping) else {"loss": out}
        loss = out.pop("loss", None)
        if not isinstance(loss, Tensor) or loss.ndim > 0 or not loss.is_floating_point():
            was = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise ValueError(f"loss must return a scalar tensor, or a mapping with one as 'loss', got {was}")
        if not loss.requires_grad:
            raise ValueError("loss must depend on the module's trainable parameters; its result does not")
        metrics = {k: torch.as_tensor(v, dtype=loss.dtype, device=loss.device).detach() for k, v in out.items()}
        return {"loss": loss, **metrics}


class _OneProcess:
    """What ``fit`` asks of a Fabric object, for one process on the module's own device."""

    world_size, global_rank, strategy = 1, 0, None

    def setup(self, step: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Optimizer]:
        return step, optimizer

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def clip_gradients(self, step: nn.Module, optimizer: Optimizer, *, max_norm: float, **_: Any) -> None:
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], max_norm)

    def all_reduce(self, values: Tensor) -> Tensor:
        return values

    def broadcast(self, value: Any) -> Any:
        return value
