"""How a student's code fails, as the examiner sees it."""

import builtins
from typing import Any

import torch

from .wire import ProtocolError

# A check's own loop would take the first two for its end and go on; IPython shows no error for the third.
_NO_ERRORS = (StopIteration, StopAsyncIteration, ExceptionGroup)


class StudentGone(BaseException):
    """The student kernel died, was stopped, or broke the protocol; no ``except Exception`` can hide it."""


class Stopped(BaseException):
    """The student's code was interrupted because time was up."""


class ContractError(AssertionError):
    """The student's code gave something that a check cannot use."""


def rebuilt(said: Any) -> BaseException:
    """Return the nearest builtin exception to what the student's code raised, as text."""
    if type(said) is not dict or not (
        type(said.get("types")) is list
        and all(type(name) is str for name in said["types"])
        and type(said.get("message")) is str
        and type(said.get("frames")) is list
        and all(type(frame) is str for frame in said["frames"])
    ):
        raise ProtocolError("an error that is none")
    if "KeyboardInterrupt" in said["types"]:
        return Stopped("The student's code was stopped.")
    known = {"LinAlgError": torch.linalg.LinAlgError, "OutOfMemoryError": torch.OutOfMemoryError}
    for name in said["types"]:
        base = known.get(name) or getattr(builtins, name, None)
        if isinstance(base, type) and issubclass(base, Exception) and not issubclass(base, _NO_ERRORS):
            break
    else:
        base = RuntimeError
    first = said["types"][0] if said["types"] and said["types"][0].isidentifier() else base.__name__
    message = said["message"]
    cls = type(first[:100], (base,), {"__init__": lambda self: None, "__str__": lambda self: message})
    error = cls()
    error.frames_of_the_student = said["frames"]
    return error
