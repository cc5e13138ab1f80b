"""Data to learn on: two-dimensional sets with known truth, and small real sets that come with the library."""

from ebm_lib.data.bundled import (
    Images,
    Prompts,
    SpokenDigits,
    Text,
    load_digits,
    load_fashion,
    load_prompts,
    load_spoken_digits,
    load_text,
)
from ebm_lib.data.catalogue import TOY_NAMES, toy
from ebm_lib.data.conditional import Pairs, ellipse_family, ellipse_radii, fork, fork_roads
from ebm_lib.data.curves import ellipse, pinwheel, rings, rings_log_density, spiral, swiss_roll, two_moons
from ebm_lib.data.densities import (
    checkerboard,
    checkerboard_log_density,
    gaussian_mixture,
    grid_means,
    grid_of_gaussians,
    mixture_log_density,
    ring_means,
    ring_of_gaussians,
)
from ebm_lib.data.mulaw import mulaw_decode, mulaw_encode

__all__ = [
    "TOY_NAMES",
    "Images",
    "Pairs",
    "Prompts",
    "SpokenDigits",
    "Text",
    "checkerboard",
    "checkerboard_log_density",
    "ellipse",
    "ellipse_family",
    "ellipse_radii",
    "fork",
    "fork_roads",
    "gaussian_mixture",
    "grid_means",
    "grid_of_gaussians",
    "load_digits",
    "load_fashion",
    "load_prompts",
    "load_spoken_digits",
    "load_text",
    "mixture_log_density",
    "mulaw_decode",
    "mulaw_encode",
    "pinwheel",
    "ring_means",
    "ring_of_gaussians",
    "rings",
    "rings_log_density",
    "spiral",
    "swiss_roll",
    "toy",
    "two_moons",
]
