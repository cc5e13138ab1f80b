"""Settings for every test run from the repository root, nbval's included."""

import pytest
from hypothesis import settings

# no deadline for an example: a busy machine is not a bug
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give a notebook's kernel time to hand over its outputs.

    nbval has no option for it: it gives up on a cell 5 seconds after the last message, which a busy machine exceeds.
    """
    for item in items:
        if hasattr(item, "output_timeout"):
            item.output_timeout = 60
