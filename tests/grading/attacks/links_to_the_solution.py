"""Hands in a symbolic link to the solutions as the notebook. Against what follows links."""

REFUSED = "link"


def place(folder, world):
    """Put the link in place."""
    (folder / "ps91.ipynb").symlink_to(world.course.source("ps91"))
