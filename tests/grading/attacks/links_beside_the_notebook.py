"""Links to secrets, to the root and to themselves beside the notebook. Against what copies files."""

import os

import nbformat

SAYS = r"beside \[\]"


def place(folder, world):
    """Put a right notebook and links in place."""
    look = "\nimport os\nprint('beside', [f for f in os.listdir() if os.path.islink(f) or 'link' in f])\n"
    nbformat.write(world.answered({"q1": world.right["q1"] + look}), folder / "ps91.ipynb")
    for name, target in {"link": world.vault / "solutions.txt", "link_all": "/", "link_self": "link_self",
                         "link_up": "../../c-honest"}.items():  # fmt: skip
        (folder / name).symlink_to(target)
    os.mkfifo(folder / "link_pipe")
