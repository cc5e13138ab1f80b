"""The few small networks everything shares, and the one place where weights and masks are drawn.

Networks start from an explicit ``torch.Generator``, so a model is a function of its seed. Activations are smooth by
default: inference descends in y, and the slope of a piecewise linear energy does not fade near its minimum.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ebm_lib.require import require_choice, require_count

ACTIVATIONS = {
    "softplus": F.softplus,
    "tanh": torch.tanh,
    "silu": F.silu,
    "gelu": F.gelu,
    "elu": F.elu,
    "sigmoid": torch.sigmoid,
    "relu": F.relu,
}


class _DrawFrom(TorchDispatchMode):
    """While active, in-place draws come from one generator: float64, on its own device, then copied to where they go.

    So the same seed gives the same weights on every device, and in every dtype up to its rounding.
    """

    def __init__(self, generator: torch.Generator | None) -> None:
        super().__init__()
        self.generator = generator
        self.device = torch.device("cpu") if generator is None else generator.device

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        if func not in (torch.ops.aten.uniform_.default, torch.ops.aten.normal_.default):
            raise ValueError(f"init_ draws with uniform_ and normal_ only, and reset_parameters called {func}")
        target, *bounds = args
        draw = torch.empty(target.shape, dtype=torch.float64, device=self.device)
        return target.copy_(func(draw, *bounds, **(kwargs | {"generator": self.generator})))


def init_(module: nn.Module, generator: torch.Generator | None = None) -> nn.Module:
    r"""Initialise all of a module's parameters anew, from torch's default distributions and an explicit generator.

    .. math::
        W_{ij}, b_i \sim U\!\left(-\tfrac{1}{\sqrt{n}}, \tfrac{1}{\sqrt{n}}\right), \qquad n = \text{fan-in},

    for linear and convolution layers; :math:`n` is the hidden size for recurrent layers. Embeddings are standard
    normal, normalisation layers start at the identity, attention's input weights are Xavier-uniform. What defines
    the distribution is torch's own ``reset_parameters``, called on every submodule, children first; a module of
    yours that owns parameters defines that method too.

    Args:
        module: any module, on any device, in any floating dtype.
        generator: where the draws come from, on any device; torch's global CPU generator if None. The values do
            not depend on the module's device, and on its dtype by rounding only.

    Returns:
        The same module.

    Raises:
        ValueError: a submodule owns parameters and has no ``reset_parameters`` (a parametrized layer, for one:
            initialise before parametrizing), or that method draws by other means than ``uniform_`` and ``normal_``.

    Source: He, Zhang, Ren and Sun, Delving Deep into Rectifiers (ICCV 2015), section 2.2, with torch's gain of
        :math:`1/\sqrt{3}`.

    >>> a, b = nn.Linear(3, 2), nn.Linear(3, 2)
    >>> torch.equal(init_(a, torch.Generator().manual_seed(0)).weight, b.weight)
    False
    >>> torch.equal(a.weight, init_(b, torch.Generator().manual_seed(0)).weight)
    True
    """
    resets = {}
    for name, part in module.named_modules():
        reset = getattr(part, "reset_parameters", None) or getattr(part, "_reset_parameters", None)
        if reset is not None:
            resets[part] = reset
        elif list(part.parameters(recurse=False)) and not isinstance(part, nn.ParameterList | nn.ParameterDict):
            raise ValueError(f"module {name!r} ({type(part).__name__}) has parameters but no reset_parameters()")
    with torch.no_grad(), _DrawFrom(generator):
        module.apply(lambda part: resets.get(part, lambda: None)())
    return module


def random_mask(
    shape: Sequence[int],
    p: float = 0.5,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Draw independent bits.

    .. math:: P(m_i = 1) = p

    Args:
        shape: the mask's shape.
        p: probability of True, from 0 to 1.
        generator: drawn on its own device, so that the mask does not depend on ``device``.
        device: where the mask goes; the generator's device if None.

    Returns:
        A bool tensor.

    Raises:
        ValueError: ``p`` is not a probability.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Methods in NLP /
        Denoising AE / Masked AE".

    >>> random_mask((2, 3), 1.0).all()
    tensor(True)
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p must be a probability, from 0 to 1, got {p}")
    origin = "cpu" if generator is None else generator.device
    return (torch.rand(tuple(shape), generator=generator, device=origin) < p).to(device or origin)


class MLP(nn.Module):
    r"""A multi-layer perceptron: linear layers with a smooth activation between them.

    .. math:: h_0 = x, \qquad h_{k} = \sigma(W_k h_{k-1} + b_k), \qquad \mathrm{MLP}(x) = W_L h_{L-1} + b_L

    Args:
        sizes: widths from input to output, at least two.
        activation: a key of ``ACTIVATIONS``.
        generator: where the weights come from (see :func:`init_`); torch's global generator if None.
        device: where the weights live.
        dtype: their dtype; torch's default if None.

    Attributes:
        sizes: as given, a tuple.
        linears: the linear layers, an ``nn.ModuleList``.
        activation: the activation's name.

    Raises:
        ValueError: fewer than two sizes, a size below 1, an unknown activation.

    Source: Rumelhart, Hinton and Williams, Learning representations by back-propagating errors (Nature 323, 1986).

    >>> mlp = MLP((2, 16, 3), generator=torch.Generator().manual_seed(0))
    >>> mlp(torch.zeros(5, 2)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: str = "softplus",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        if len(self.sizes) < 2:
            raise ValueError(f"sizes must hold at least the input's and the output's, got {self.sizes}")
        for position, size in enumerate(self.sizes):
            require_count(f"sizes[{position}]", size)
        self.activation = require_choice("activation", activation, ACTIVATIONS)
        # skip_init leaves torch's global generator alone: the weights are drawn once, by init_
        self.linears = nn.ModuleList(
            nn.utils.skip_init(nn.Linear, n, m, device=device or torch.get_default_device(), dtype=dtype)
            for n, m in zip(self.sizes[:-1], self.sizes[1:], strict=True)
        )
        init_(self, generator)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., sizes[0]) to (..., sizes[-1])."""
        *hidden, last = self.linears
        for linear in hidden:
            x = ACTIVATIONS[self.activation](linear(x))
        return last(x)

    def extra_repr(self) -> str:
        """Show the activation beside the layers."""
        return f"activation={self.activation!r}"


class EnergyMLP(MLP):
    r"""An energy computed by a perceptron on its concatenated arguments.

    .. math:: F(y), \; F(x, y), \; E(x, y, z) = \mathrm{MLP}([x, y, z])

    Args:
        dims: the last dimension of each argument: ``(2,)`` for F(y) in the plane, ``(1, 1)`` for F(x, y).
        hidden: widths of the hidden layers.
        activation: a key of ``ACTIVATIONS``. Smooth by default, since inference descends in the arguments.
        generator: where the weights come from (see :func:`init_`).
        device: where the weights live.
        dtype: their dtype.

    Attributes:
        dims: as given, a tuple.

    Raises:
        ValueError: no argument, a size below 1, an unknown activation; when called, another number of arguments,
            another last dimension, or leading dimensions that do not broadcast.

    Source: LeCun, Energy-Based Models, part 1 (NYU Deep Learning, spring 2020), "Energy-Based Model: implicit
        function" and "Energy-Based Model: gradient-based inference", which asks for a smooth energy.

    >>> energy = EnergyMLP((1, 1), (16, 16), generator=torch.Generator().manual_seed(0))
    >>> x, y = torch.zeros(5, 1), torch.zeros(7, 1)
    >>> energy(x[:, None], y[None]).shape
    torch.Size([5, 7])
    """

    def __init__(
        self,
        dims: Sequence[int],
        hidden: Sequence[int],
        *,
        activation: str = "softplus",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        dims = tuple(dims)
        if not dims:
            raise ValueError("dims must hold the last dimension of at least one argument, got ()")
        for position, dim in enumerate(dims):
            require_count(f"dims[{position}]", dim)
        super().__init__(
            (sum(dims), *hidden, 1), activation=activation, generator=generator, device=device, dtype=dtype
        )
        self.dims = dims

    def forward(self, *variables: Tensor) -> Tensor:
        """Map arguments (..., dims[k]) to one energy per sample, of their broadcast leading shape."""
        shapes = [tuple(variable.shape) for variable in variables]
        if [shape[-1:] for shape in shapes] != [(dim,) for dim in self.dims]:
            raise ValueError(
                f"the energy takes {len(self.dims)} arguments of last dimension {self.dims}, got shapes {shapes}"
            )
        try:
            leading = torch.broadcast_shapes(*(shape[:-1] for shape in shapes))
        except RuntimeError:
            raise ValueError(f"the leading dimensions of the arguments must broadcast, got shapes {shapes}") from None
        joined = torch.cat([variable.expand(*leading, -1) for variable in variables], dim=-1)
        return super().forward(joined).squeeze(-1)


class ConvEnergy(nn.Module):
    r"""An energy of images: convolutions that halve the picture, two linear layers, and a known bowl underneath.

    .. math::
        F(y) = \tfrac{b}{2}\lVert y \rVert^2 + u^\top \sigma\bigl(V h_L + c\bigr) + d, \qquad
        h_0 = y, \quad h_{k} = \sigma(K_k * h_{k-1} + a_k) \text{ at every second row and column}

    Nothing in it mixes the pictures of a batch, so a picture's energy does not depend on its company. With an
    activation that grows at most in proportion to its argument the network does so too; a bowl of any
    :math:`b > 0` then wins far out, and :math:`Z` is finite. If data carry Gaussian noise of variance
    :math:`\sigma^2`, the ideal energy is the bowl with :math:`b = 1/\sigma^2` minus a convex function, and only the
    latter is left to learn.

    Args:
        shape: colours, height and width of a picture.
        channels: how many maps each convolution makes.
        hidden: width of the linear layer that sees the whole picture.
        kernel: height and width of each kernel, odd.
        bowl: b, zero or positive, in units of energy / y².
        activation: a key of ``ACTIVATIONS``; smooth by default.
        generator: where the weights come from (see :func:`init_`).
        device: where the weights live.
        dtype: their dtype.

    Attributes:
        shape: as given, a tuple.
        bowl: as given.
        convolutions: an ``nn.ModuleList``.
        head: the :class:`MLP` on top.

    Raises:
        ValueError: a size below 1, an even kernel, no convolution, a negative or infinite bowl, an unknown activation;
            when called, pictures that are not (..., colours · height · width).

    Source: LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition (Proceedings of
        the IEEE 86, 1998). Saremi and Hyvärinen, Neural empirical Bayes (JMLR 20, 2019), for the energy of noisy
        pictures.

    >>> energy = ConvEnergy((1, 28, 28), (4, 8), 16, bowl=1.0, generator=torch.Generator().manual_seed(0))
    >>> energy(torch.zeros(5, 3, 784)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: Sequence[int],
        hidden: int,
        *,
        kernel: int = 3,
        bowl: float = 0.0,
        activation: str = "silu",
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        if len(self.shape) != 3:
            raise ValueError(f"shape must be (colours, height, width), got {self.shape}")
        channels = tuple(channels)
        if not channels:
            raise ValueError("channels must hold at least one convolution's, got ()")
        for name, sizes in (("shape", self.shape), ("channels", channels)):
            for position, size in enumerate(sizes):
                require_count(f"{name}[{position}]", size)
        if require_count("kernel", kernel) % 2 == 0:
            raise ValueError(f"kernel must be odd, so that it has a middle, got {kernel}")
        if not 0 <= bowl < math.inf:
            raise ValueError(f"bowl must be zero or a positive finite number, got {bowl}")
        self.bowl, self.activation = bowl, require_choice("activation", activation, ACTIVATIONS)
        place = {"device": device or torch.get_default_device(), "dtype": dtype}
        self.convolutions = nn.ModuleList(
            nn.utils.skip_init(nn.Conv2d, n, m, kernel, stride=2, padding=kernel // 2, **place)
            for n, m in zip((self.shape[0], *channels[:-1]), channels, strict=True)
        )
        height, width = (-(-side // 2 ** len(channels)) for side in self.shape[1:])  # halved and rounded up, each time
        init_(self.convolutions, generator)
        self.head = MLP((channels[-1] * height * width, hidden, 1), activation=activation, generator=generator, **place)
        self.to(memory_format=torch.channels_last)  # faster on CPUs

    def forward(self, y: Tensor) -> Tensor:
        """Map pictures (..., colours · height · width) to one energy each, (...)."""
        if y.ndim == 0 or y.shape[-1] != math.prod(self.shape):
            raise ValueError(f"y must be (..., {math.prod(self.shape)}), pictures {self.shape}, got {tuple(y.shape)}")
        h = y.reshape(-1, *self.shape)
        for convolution in self.convolutions:
            h = ACTIVATIONS[self.activation](convolution(h))
        return self.bowl / 2 * y.square().sum(-1) + self.head(h.flatten(1)).reshape(y.shape[:-1])

    def extra_repr(self) -> str:
        """Show what the layers do not."""
        return f"shape={self.shape}, bowl={self.bowl}, activation={self.activation!r}"
