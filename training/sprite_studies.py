"""What the studies on sprites share: the pictures, and the views that turn, crop and recolour them."""

import functools

import torch
from torch import Tensor

from ebm_lib import data

CHANNELS = (16, 32, 64, 64)  # of the small encoder that methods are taken apart with
COUNT, HELD_OUT = 3000, 1000
# Turns and colours are what differs between sprites of one shape; crops below half the area lose it
GEOMETRY = {"crop": (0.6, 1.0), "rotate": 45.0}
COLOURS = {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.2, "jitter": 0.9, "grey": 0.2}
AUGMENTATION = GEOMETRY | COLOURS
SMALL = {"size": 16, "crop": (0.3, 0.6)}  # the small crops of multi-crop


@functools.cache
def sprites() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return pictures and labels to learn from, and others to judge by."""
    drawn = data.sprites(COUNT + HELD_OUT, generator=torch.Generator().manual_seed(0))
    return drawn.images[:COUNT], drawn.labels[:COUNT], drawn.images[COUNT:], drawn.labels[COUNT:]
