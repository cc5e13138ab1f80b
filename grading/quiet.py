"""nbgrader's log, kept instead of printed, and the one line of it that says what went wrong."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from traitlets.log import get_logger


class Log(logging.Handler):
    """Keeps the lines that nbgrader logs."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self.lines.append(f"{record.levelname}: {record.getMessage()}")

    def reason(self, error: BaseException) -> str:
        """Return what went wrong in one line.

        nbgrader's converters log the traceback of the real error and raise one that says "see the above traceback".

        Args:
            error: what was raised.
        """
        for line in self.lines:  # the first traceback is the cause's
            if "Traceback (most recent call last)" in line:
                named = [text for text in line.splitlines() if re.match(r"[A-Za-z_][\w.]*(: |$)", text)]
                if named:
                    return named[-1].rpartition("exceptions.")[2].strip()
        return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def quietly() -> Iterator[Log]:
    """Keep what nbgrader and nbconvert would print, for the length of a with block."""
    logger, log = get_logger(), Log()
    before, propagate, level = logger.handlers[:], logger.propagate, logger.level
    logger.handlers, logger.propagate = [log], False
    logger.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield log
    finally:
        logger.handlers, logger.propagate = before, propagate
        logger.setLevel(level)
