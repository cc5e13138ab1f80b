r"""Joint-embedding predictive architectures: predict the representation of y from that of x.

.. math:: E(x, y, z) = \frac1D \big\lVert \text{Pred}(\text{Enc}_x(x), z) - \text{Enc}_y(y) \big\rVert^2

A :class:`JEPA` is put together from an encoder, a predictor, a target, a latent variable and terms that ask its
representations for information. All of them are exchangeable, and its energy is one function. :func:`generative` makes
the counterpart that predicts y itself. Train either by :func:`ebm_lib.joint.learn`, with views (x, y).
"""

from ebm_lib.jepa.hierarchy import HJEPA, Ascent, HJEPATerms, Levels
from ebm_lib.jepa.information import Information, gaussianity, variance_covariance
from ebm_lib.jepa.latent import Inferred, Latent
from ebm_lib.jepa.latents import Bounded, Discrete, Noisy, Sparse
from ebm_lib.jepa.masked import MaskedJEPA, place_free
from ebm_lib.jepa.masking import Masks, block_masks, from_patches, masked_views, scattered_masks, to_patches
from ebm_lib.jepa.model import JEPA, JEPATerms, generative
from ebm_lib.jepa.patches import PatchEncoder, PatchPredictor, Pixels, Pooled, positions
from ebm_lib.jepa.predictor import Dictionary, Predictor
from ebm_lib.jepa.video import FramePredictor, VideoJEPA, VideoTerms, split_film

__all__ = [
    "HJEPA",
    "JEPA",
    "Ascent",
    "Bounded",
    "Dictionary",
    "Discrete",
    "FramePredictor",
    "HJEPATerms",
    "Inferred",
    "Information",
    "JEPATerms",
    "Latent",
    "Levels",
    "MaskedJEPA",
    "Masks",
    "Noisy",
    "PatchEncoder",
    "PatchPredictor",
    "Pixels",
    "Pooled",
    "Predictor",
    "Sparse",
    "VideoJEPA",
    "VideoTerms",
    "block_masks",
    "from_patches",
    "gaussianity",
    "generative",
    "masked_views",
    "place_free",
    "positions",
    "scattered_masks",
    "split_film",
    "to_patches",
    "variance_covariance",
]
