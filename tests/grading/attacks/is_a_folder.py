"""Hands in a folder and a pipe named like the notebook. Against what opens them."""

REFUSED = "folder"


def place(folder, world):
    """Put the folder in place, with a notebook in it."""
    (folder / "ps91.ipynb" / "ps91.ipynb").mkdir(parents=True)
