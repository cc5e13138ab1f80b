r"""Augmentations: random changes that keep what a picture is of, drawn batch-wise on the pictures' device.

.. math:: x, y = T_1(\text{picture}), \; T_2(\text{picture}), \qquad T_1, T_2 \sim \mathcal T

What they change, the representation learns to ignore: they are the only thing that tells a joint embedding what
matters. Warping is kornia's; the package is needed by this module alone.
"""

import importlib
import math
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor, nn

from ebm_lib.data.draw import uniform
from ebm_lib.joint._require import require_weight
from ebm_lib.require import require_count, require_points

Augment = Callable[[Tensor, torch.Generator | None], Tensor]
GREY = (0.299, 0.587, 0.114)  # of red, green and blue, as in kornia.color.rgb_to_grayscale (ITU-R BT.601)
YIQ = (GREY, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


class Augmentation:
    r"""SimCLR's augmentation: crop, flip, turn, and shift the colours, each by its own random amount in each picture.

    .. math:: x' = \big[ A\, x(W p) + t \big]_0^1, \qquad A = G H(\phi) S(s)\, c\, b

    The geometry (crop, aspect, flip, rotation) is one affine map W, so a picture is resampled once; the colours
    (brightness b, contrast c about the picture's mean grey, saturation s, hue φ, grey) are one affine map of RGB, and
    clipped once at the end, in this order. Brightness, contrast, saturation and grey are those of ``kornia.enhance`` up
    to the clipping in between; the hue turns about the grey axis at constant luminance (in YIQ), where kornia's goes
    through HSV at fifty times the cost.

    Args:
        size: height and width of the result, in pixels.
        crop: range of the crop's area, as a share of the picture's; above 1 the picture shrinks, mirrored at its edges.
        ratio: range of the crop's width over its height.
        flip: probability of a flip, left to right.
        rotate: largest turn, in degrees.
        brightness: b is uniform in 1 ± this.
        contrast: c is uniform in 1 ± this.
        saturation: s is uniform in 1 ± this.
        hue: φ is uniform in ± this, in turns.
        jitter: probability that the four above happen at all.
        grey: probability that no colour is left.

    Raises:
        ValueError: amounts out of range; when called, pictures that are no finite (N, 3, height, width).
        ImportError: when called without kornia installed; the message says how.

    Source: Chen, Kornblith, Norouzi and Hinton, A Simple Framework for Contrastive Learning of Visual Representations
        (ICML 2020), section 3 and appendix A; Riba et al., Kornia (WACV 2020).

    >>> augment = Augmentation(16)
    >>> augment(torch.rand(4, 3, 32, 32), torch.Generator().manual_seed(0)).shape
    torch.Size([4, 3, 16, 16])
    """

    def __init__(
        self,
        size: int,
        *,
        crop: tuple[float, float] = (0.5, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: float = 0.5,
        rotate: float = 0.0,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.4,
        hue: float = 0.1,
        jitter: float = 0.8,
        grey: float = 0.2,
    ) -> None:
        self.size = require_count("size", size)
        for name, (low, high) in (("crop", crop), ("ratio", ratio)):
            if not 0 < low <= high < math.inf:
                raise ValueError(f"{name} must be a range of positive numbers, got ({low}, {high})")
        for name, chance in (("flip", flip), ("jitter", jitter), ("grey", grey)):
            if not 0 <= chance <= 1:
                raise ValueError(f"{name} must be a probability, from 0 to 1, got {chance}")
        self.crop, self.ratio, self.flip, self.jitter, self.grey = crop, ratio, flip, jitter, grey
        self.rotate, self.hue = require_weight("rotate", rotate), require_weight("hue", hue)
        self.amounts = brightness, contrast, saturation
        for name, amount in zip(("brightness", "contrast", "saturation"), self.amounts, strict=True):
            if require_weight(name, amount) > 1:
                raise ValueError(f"{name} must be at most 1, got {amount}")

    @torch.no_grad()
    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Change pictures (N, 3, height, width), intensities from 0 to 1, into (N, 3, size, size)."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be (N, 3, height, width), got shape {tuple(images.shape)}")
        require_points("images", images)
        draws = uniform((len(images), 12), generator, images.dtype, images.device)
        warped = _kornia("geometry.transform").warp_affine(
            images, self.warps(draws, *images.shape[-2:]), (self.size, self.size), padding_mode="reflection",
            align_corners=False,
        )  # fmt: skip
        A, t = self.colours(draws, warped.mean((2, 3)))
        return torch.baddbmm(t.unsqueeze(-1), A, warped.flatten(2)).view_as(warped).clamp_(0, 1)

    def warps(self, draws: Tensor, height: int, width: int) -> Tensor:
        """The maps from the picture's pixels to the result's, (N, 2, 3), that 12 uniform draws a picture stand for."""
        area, aspect, across, down, flipped, turn = draws[:, :6].unbind(-1)
        share = self.crop[0] + (self.crop[1] - self.crop[0]) * area
        low, high = (math.log(r) for r in self.ratio)
        stretch = torch.exp((low + (high - low) * aspect) / 2)
        # Half width and height of the crop, and its centre, where the picture is [-1, 1]²
        half = torch.stack([share.sqrt() * stretch, share.sqrt() / stretch], -1)
        if self.crop[1] <= 1:
            half = half.clamp(max=1)
        centre = (1 - half) * (2 * torch.stack([across, down], -1) - 1)
        angle = math.radians(self.rotate) * (2 * turn - 1)
        mirror = torch.where(flipped < self.flip, -1.0, 1.0).to(draws.dtype)
        cos, sin = angle.cos(), angle.sin()
        # From the result to the picture: mirror, turn, scale, shift; kornia wants the inverse, in pixels
        rows = [half[:, 0] * cos * mirror, -half[:, 0] * sin, half[:, 1] * sin * mirror, half[:, 1] * cos]
        linear = torch.stack(rows, -1).view(-1, 2, 2)
        to_picture, to_result = draws.new_tensor([width / 2, height / 2]), self.size / 2
        linear = linear * to_picture[:, None] / to_result
        inverse = torch.linalg.inv(linear)
        # Pixel centres are at whole numbers: the middle of n pixels is (n − 1)/2
        middle = (centre + 1) * to_picture - 0.5
        shift = (self.size - 1) / 2 - (inverse @ middle[..., None]).squeeze(-1)
        return torch.cat([inverse, shift[..., None]], -1)

    def colours(self, draws: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        """The maps of colours, A (N, 3, 3) and t (N, 3), for pictures of mean colour (N, 3)."""
        grey, yiq = draws.new_tensor(GREY), draws.new_tensor(YIQ)
        happens = (draws[:, 6] < self.jitter).to(draws.dtype)
        b, c, s = (1 + happens * a * (2 * u - 1) for a, u in zip(self.amounts, draws[:, 7:10].T, strict=True))
        phi = happens * 2 * math.pi * self.hue * (2 * draws[:, 10] - 1)
        one, zero = torch.ones_like(phi), torch.zeros_like(phi)
        turn = torch.stack([one, zero, zero, zero, phi.cos(), -phi.sin(), zero, phi.sin(), phi.cos()], -1)
        hue = torch.linalg.inv(yiq) @ turn.view(-1, 3, 3) @ yiq
        greyed = torch.where(draws[:, 11] < self.grey, 0.0, 1.0).to(draws.dtype)
        to_grey = torch.ones_like(grey)[:, None] * grey
        identity = torch.eye(3, dtype=draws.dtype, device=draws.device)

        def towards_grey(share: Tensor) -> Tensor:
            return share[:, None, None] * identity + (1 - share)[:, None, None] * to_grey

        A = towards_grey(greyed) @ hue @ towards_grey(s) * (b * c)[:, None, None]
        return A, ((1 - c) * b * (mean @ grey))[:, None].expand(-1, 3)


class Views:
    """Several augmentations of the same pictures: one view each.

    Multi-crop is a matter of what is passed: two large crops, and as many small ones as time allows.

    Args:
        augmentations: functions of (images, generator).

    Raises:
        ValueError: no augmentation.

    >>> large, small = Augmentation(32), Augmentation(16, crop=(0.2, 0.5))
    >>> views = Views(large, large, small, small)(torch.rand(2, 3, 32, 32))
    >>> [view.shape[-1] for view in views]
    [32, 32, 16, 16]
    """

    def __init__(self, *augmentations: Augment) -> None:
        if not augmentations:
            raise ValueError("augmentations must be at least one, got none")
        self.augmentations = augmentations

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> list[Tensor]:
        """A list of views of pictures (N, 3, height, width)."""
        return [augment(images, generator) for augment in self.augmentations]


class Kornia:
    """Any of kornia's own augmentations as a function of (images, generator).

    Kornia draws from torch's global generator. Here that is seeded from ``generator`` for the length of the call, and
    then put back as it was.

    Args:
        augmentations: modules from ``kornia.augmentation``, applied in turn.

    Raises:
        ValueError: when called, pictures that are not floating point or not finite.

    >>> import kornia.augmentation as K
    >>> blur = Kornia(K.RandomGaussianBlur((3, 3), (0.1, 2.0), p=1.0))
    >>> blur(torch.rand(4, 3, 32, 32), torch.Generator().manual_seed(0)).shape
    torch.Size([4, 3, 32, 32])
    """

    def __init__(self, *augmentations: nn.Module) -> None:
        self.augmentations = augmentations

    @torch.no_grad()
    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Change pictures (N, C, height, width)."""
        require_points("images", images)
        device = "cpu" if generator is None else generator.device
        seed = torch.randint(2**62, (), generator=generator, device=device).item()
        with torch.random.fork_rng([images.device] if images.is_cuda else []):
            torch.manual_seed(seed)
            for augment in self.augmentations:
                images = augment(images)
        return images


def jigsaw(
    images: Tensor, *, grid: int = 3, patch: int | None = None, generator: torch.Generator | None = None
) -> Tensor:
    r"""Cut each picture into a grid of cells, take a patch at a random place in each, and shuffle the patches.

    Args:
        images: (N, C, height, width).
        grid: cells a side; what is left over at the right and the bottom is not used.
        patch: size of the patches in pixels, at most a cell's; None takes three quarters of it.
        generator: draws places and orders, anew for each picture.

    Returns:
        (N, grid², C, patch, patch).

    Raises:
        ValueError: pictures that are no finite (N, C, height, width), cells smaller than a patch.

    Source: Noroozi and Favaro, Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles (ECCV 2016);
    Misra and van der Maaten, Self-Supervised Learning of Pretext-Invariant Representations (CVPR 2020), section 2.3.

    >>> jigsaw(torch.rand(2, 3, 32, 32), grid=3).shape
    torch.Size([2, 9, 3, 7, 7])
    """
    if images.ndim != 4:
        raise ValueError(f"images must be (N, C, height, width), got shape {tuple(images.shape)}")
    require_points("images", images)
    cell = min(images.shape[-2:]) // require_count("grid", grid)
    patch = max(1, 3 * cell // 4) if patch is None else require_count("patch", patch)
    if not 1 <= patch <= cell:
        raise ValueError(f"patch must be from 1 to the cell's {cell} pixels, got {patch}")
    count, cells = len(images), grid**2
    draws = uniform((3, count, cells), generator, torch.float32, images.device)
    order = draws[0].argsort(-1)
    corner = cell * torch.stack([order // grid, order % grid])
    down, right = corner + (draws[1:] * (cell - patch + 1)).long()
    steps = torch.arange(patch, device=images.device)
    rows, columns = down[..., None] + steps, right[..., None] + steps  # (N, cells, patch)
    which = torch.arange(count, device=images.device)[:, None, None, None]
    return images.movedim(1, -1)[which, rows[..., None], columns[:, :, None]].movedim(-1, 2)


def _kornia(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"kornia.{name}")
    except ImportError as error:
        raise ImportError(
            f"augmentations come with a package that is not installed ({error}): pip install kornia"
        ) from None
