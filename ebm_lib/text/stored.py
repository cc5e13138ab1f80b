"""Trained models as files of arrays: what the training scripts write and the pages load. Nothing is unpickled."""

import json
import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ebm_lib.text.masked import MaskedLanguageModel
from ebm_lib.text.ranking import WindowEnergy
from ebm_lib.text.vocabulary import SPECIAL, Vocabulary
from ebm_lib.text.word2vec import SkipGram

_MODELS = {model.__name__: model for model in (MaskedLanguageModel, SkipGram, WindowEnergy)}


class Stored(NamedTuple):
    """What a file holds.

    Attributes:
        vocabulary: the words that the models know.
        models: each model by its name, in evaluation mode, float32.
    """

    vocabulary: Vocabulary
    models: dict[str, nn.Module]


def save_models(
    path: str | os.PathLike[str], vocabulary: Vocabulary, models: dict[str, tuple[nn.Module, dict[str, int | bool]]]
) -> None:
    """Write models to a compressed file, in half precision.

    Args:
        path: an ``.npz`` file, replaced if there is one.
        vocabulary: the words of all the models.
        models: by name, each with the keyword arguments that make another one like it.

    Raises:
        ValueError: a model of a kind that is not of this package, a weight that half precision cannot hold, a name with
            a slash, or a word with a line break.

    >>> import tempfile
    >>> vocabulary, model = Vocabulary(["yes", "no"]), SkipGram(7, 2)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_models(f"{folder}/small.npz", vocabulary, {"skip_gram": (model, {"size": 7, "dim": 2})})
    ...     stored = load_models(f"{folder}/small.npz")
    >>> stored.vocabulary, torch.equal(stored.models["skip_gram"].u, model.u.half().float())
    (Vocabulary(7 words), True)
    """
    words = vocabulary.words[len(SPECIAL) :]
    if broken := [word for word in words if "\n" in word]:
        raise ValueError(f"vocabulary must have words without a line break, got {broken[0]!r}")
    arrays = {"words": np.frombuffer("\n".join(words).encode(), np.uint8)}
    made = {}
    for name, (model, arguments) in models.items():
        if "/" in name:
            raise ValueError(f"models must have names without a slash, got {name!r}")
        if _MODELS.get(type(model).__name__) is not type(model):
            raise ValueError(f"models[{name!r}] must be one of {', '.join(_MODELS)}, got {type(model).__name__}")
        made[name] = [type(model).__name__, arguments]
        for key, value in model.state_dict().items():
            half = value.detach().to("cpu", torch.float16)
            if not half.isfinite().all():
                raise ValueError(f"models[{name!r}] must have weights within ±65504, and {key} has not")
            arrays[f"{name}/{key}"] = half.numpy()
    arrays["models"] = np.frombuffer(json.dumps(made).encode(), np.uint8)
    with Path(path).open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_models(path: str | os.PathLike[str], *, device: torch.device | str | None = None) -> Stored:
    """Read models that :func:`save_models` wrote.

    Args:
        path: the file.
        device: where the weights go.

    Returns:
        :class:`Stored`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        words = arrays["words"].tobytes().decode()
        vocabulary = Vocabulary(words.split("\n") if words else [])
        models = {}
        for name, (kind, arguments) in json.loads(arrays["models"].tobytes()).items():
            model = _MODELS[kind](**arguments, device="cpu", generator=torch.Generator())
            model.load_state_dict(_state(arrays, name))
            models[name] = model.eval().to(device or torch.get_default_device())
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{Path(path).name} does not hold stored text models: {error}") from error
    return Stored(vocabulary, models)


def _state(arrays: dict[str, np.ndarray], name: str) -> dict[str, Tensor]:
    """The weights of one model, in single precision."""
    mine = {key.removeprefix(f"{name}/"): value for key, value in arrays.items() if key.startswith(f"{name}/")}
    return {key: torch.from_numpy(value).float() for key, value in mine.items()}
