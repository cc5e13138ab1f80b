"""Data to learn on: two-dimensional sets with known truth, and small real sets that come with the library."""

from ebm_lib.data.bundled import (
    Images,
    Prompts,
    SpokenDigits,
    Text,
    load_digits,
    load_fashion,
    load_french,
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
from ebm_lib.data.frames import Films, fork_films
from ebm_lib.data.journeys import Journeys, digit_journeys, draw_journeys
from ebm_lib.data.mulaw import mulaw_decode, mulaw_encode
from ebm_lib.data.patches import (
    COLOUR_PHOTOGRAPHS,
    PHOTOGRAPHS,
    Patches,
    Whitening,
    cut_patches,
    load_photographs,
    natural_patches,
    whiten_picture,
    whitening,
)
from ebm_lib.data.scenes import SCENE_SHAPES, Scenes, scenes
from ebm_lib.data.sequences import sprite_films
from ebm_lib.data.signatures import signatures
from ebm_lib.data.sprites import FACTORS, SHAPES, Sprites, draw_sprites, sprite_pairs, sprites
from ebm_lib.data.strings import DigitStrings, digit_strings
from ebm_lib.data.textured import TexturedFilms, draw_textured, texture_patterns, textured_films

__all__ = [
    "COLOUR_PHOTOGRAPHS",
    "FACTORS",
    "PHOTOGRAPHS",
    "SCENE_SHAPES",
    "SHAPES",
    "TOY_NAMES",
    "DigitStrings",
    "Films",
    "Images",
    "Journeys",
    "Pairs",
    "Patches",
    "Prompts",
    "Scenes",
    "SpokenDigits",
    "Sprites",
    "Text",
    "TexturedFilms",
    "Whitening",
    "checkerboard",
    "checkerboard_log_density",
    "cut_patches",
    "digit_journeys",
    "digit_strings",
    "draw_journeys",
    "draw_sprites",
    "draw_textured",
    "ellipse",
    "ellipse_family",
    "ellipse_radii",
    "fork",
    "fork_films",
    "fork_roads",
    "gaussian_mixture",
    "grid_means",
    "grid_of_gaussians",
    "load_digits",
    "load_fashion",
    "load_french",
    "load_photographs",
    "load_prompts",
    "load_spoken_digits",
    "load_text",
    "mixture_log_density",
    "mulaw_decode",
    "mulaw_encode",
    "natural_patches",
    "pinwheel",
    "ring_means",
    "ring_of_gaussians",
    "rings",
    "rings_log_density",
    "scenes",
    "signatures",
    "spiral",
    "sprite_films",
    "sprite_pairs",
    "sprites",
    "swiss_roll",
    "texture_patterns",
    "textured_films",
    "toy",
    "two_moons",
    "whiten_picture",
    "whitening",
]
