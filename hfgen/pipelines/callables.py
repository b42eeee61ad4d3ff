"""Functions that the caller holds, as a pipeline: a pair that encodes and decodes, one that reconstructs or draws."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import torch
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from torch import Tensor, nn

from hfgen.autoencoders import Autoencoder, class_fits, traits_at
from hfgen.autoencoders.adapter import NOISE_SEED
from hfgen.autoencoders.network_calls import drawing
from hfgen.errors import DataError, ModelError, SettingsError, UserError
from hfgen.images import from_pil, to_float
from hfgen.pipelines.foreign_images import to_pixels
from hfgen.pipelines.hfgen_pipelines_v1 import Generators, ImagePipeline

logger = logging.getLogger("hfgen")

# Of uint8: where floats are 0.
_MIDDLE = 127

_ROLES = ("encode", "decode", "reconstruct", "sample")


class Callables(NamedTuple):
    """What the caller's functions are for; see `hfgen.evaluate` for what each takes and returns."""

    encode: Callable[..., Any] | None = None
    decode: Callable[..., Any] | None = None
    reconstruct: Callable[..., Any] | None = None
    sample: Callable[..., Any] | None = None

    @property
    def there(self) -> list[Callable[..., Any]]:
        """Those that were given."""
        return [function for function in self if function is not None]

    @property
    def name(self) -> str:
        """Of the functions, as a file may be called."""
        names = dict.fromkeys(_name(function) for function in self.there)
        return "-".join(names)

    @property
    def networks(self) -> list[nn.Module]:
        """The networks that are called, or whose methods are; not those that a function's body mentions."""
        found = [network for function in self.there if (network := _network_behind(function)) is not None]
        return list({id(network): network for network in found}.values())

    @property
    def is_known(self) -> bool:
        """Whether nothing but networks is called, so that their weights say what comes out."""
        return all(_network_behind(function) is not None for function in self.there)


def find_callables(model: Any) -> Callables | None:
    """The functions that are given in a model's place; None where it is none.

    A pair is (encode, decode), a single one reconstructs, and a mapping names them; whatever has both methods is a
    pair.

    Raises:
        ModelError: a mapping with other names, or with half a pair.
    """
    if isinstance(model, Mapping):
        wrong = [name for name, function in model.items() if name not in _ROLES or not callable(function)]
        if wrong or not model or ("encode" in model) != ("decode" in model):
            given = ", ".join(map(str, model)) or "nothing"
            raise ModelError(f"model: {given}; give functions by the names encode and decode, reconstruct, or sample")
        return Callables(**model)
    if isinstance(model, (tuple, list)):
        if len(model) == 2 and all(map(_is_function, model)):
            return Callables(encode=model[0], decode=model[1])
        return None
    if isinstance(model, nn.Module):
        return None if class_fits(type(model)) else Callables(reconstruct=model)
    if hasattr(model, "components"):
        return None
    if all(callable(getattr(model, role, None)) for role in ("encode", "decode")) and not isinstance(model, type):
        return Callables(encode=model.encode, decode=model.decode)
    return Callables(reconstruct=model) if _is_function(model) else None


def _is_function(model: Any) -> bool:
    return callable(model) and not isinstance(model, type) and not hasattr(model, "components")


def _network_behind(function: Any) -> nn.Module | None:
    owner = function if isinstance(function, nn.Module) else getattr(function, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


def _name(function: Any) -> str:
    owner = _network_behind(function)
    name = type(owner).__name__ if owner is not None else getattr(function, "__name__", type(function).__name__)
    return re.sub(r"\W+", "_", name.strip("<>"))


class CallablePipeline(ImagePipeline):
    """Functions that make images of one size, on one device, in float32.

    Args:
        functions: They.
        device: Where they get their images, unless networks are called: then where these are, in their dtype.
        side: Of the images, in pixels.
    """

    def __init__(self, functions: Callables, device: torch.device, side: int) -> None:
        super().__init__()
        self.register_to_config()
        weights = (weight for network in functions.networks for weight in network.parameters())
        weight = next((one for one in weights if one.is_floating_point()), torch.zeros(0, device=device))
        self._functions, self._where, self._dtype, self._side = functions, weight.device, weight.dtype, side
        self._channels: int | Literal["auto"] = "auto"
        self.notes: list[str] = []
        """What was noticed of the functions, a line each."""

    def settle(self, channels: int) -> None:
        """Take images of so many channels from now on; the functions are tried on one.

        Raises:
            ModelError: they can't be called with it, or don't give it back with its shape.
        """
        self._channels = channels
        functions, side = self._functions, self.sample_size
        if functions.encode is not None and functions.decode is not None:
            network = PairNetwork(functions)
            self.codec = Autoencoder(network, traits_at(network.to(self._where), channels, side))
        if functions.reconstruct is not None:
            with _tried(f"{functions.name} fails on images of {channels} x {side} x {side}"):
                self._called(torch.zeros(1, channels, side, side, device=self._where))

    @property
    def components(self) -> dict[str, Any]:
        """None is moved."""
        return {}

    @property
    def device(self) -> torch.device:
        """Where the functions get their images."""
        return self._where

    @property
    def family(self) -> str:
        """`autoencoder` of a pair alone, else `callable`."""
        return "autoencoder" if self._functions.encode is not None and not self.can_sample else "callable"

    @property
    def channels(self) -> Any:
        """1 or 3; `auto` until it is settled: as the images are."""
        return self._channels

    @property
    def trained_size(self) -> int | None:
        """The one that was stated."""
        return self._side

    @property
    def can_reconstruct(self) -> bool:
        """See `ImagePipeline`."""
        return self._functions.encode is not None or self._functions.reconstruct is not None

    @property
    def can_sample(self) -> bool:
        """See `ImagePipeline`."""
        return self._functions.sample is not None

    @property
    def parameter_count(self) -> int:
        """Of the networks that are called."""
        return sum(weight.numel() for network in self._functions.networks for weight in network.parameters())

    @torch.no_grad()
    def posterior(self, images: Any) -> tuple[Tensor, Tensor] | None:
        """See `ImagePipeline`."""
        if not hasattr(self, "codec"):
            return None
        mean, log_variance = self.codec.encode(images.to(self._where))
        return None if log_variance is None else (mean, log_variance)

    @torch.no_grad()
    def reconstruct(self, images: Any, output_type: str = "pil", **options: Any) -> ImagePipelineOutput:
        """See `ImagePipeline`; of PIL images of its size, or a tensor (N, C, R, R) in [-1, 1].

        Raises:
            ValueError: there is no function that reconstructs, an option, or images of another shape.
        """
        if options or not self.can_reconstruct:
            raise ValueError(f"{next(iter(options), 'reconstruct')}: {self._functions.name} doesn't do that")
        if not isinstance(images, Tensor):
            images = to_float(from_pil(list(images), self._shape[0]))
        self._check_shape(images)
        made = self._called(images.to(self._where))
        return self._output(to_float(made), output_type)

    def _check_shape(self, images: Tensor) -> None:
        if tuple(images.shape[1:]) != self._shape:
            shape = tuple(images.shape[1:])
            raise ValueError(f"images: shape {shape} doesn't fit the model's {self._shape}; resize them")

    @property
    def _shape(self) -> tuple[int, int, int]:
        assert self._channels != "auto", "settled before images are made"
        return self._channels, self.sample_size, self.sample_size

    @torch.no_grad()
    def _called(self, images: Tensor) -> Tensor:
        """Reconstructions of images in [-1, 1], as uint8; what a function draws is drawn alike for every batch."""
        name = "reconstructions"
        with drawing(NOISE_SEED, images.device):
            if hasattr(self, "codec"):
                output = self.codec.reconstruct(images)
            else:
                assert self._functions.reconstruct is not None, "can_reconstruct says so"
                output = self._functions.reconstruct(images.to(self._dtype))
            made = to_pixels(output, self._shape, values="signed", name=name)
        if len(made) != len(images):
            raise DataError(f"{name}: {len(made)} of {len(images)} images; return one for each")
        if float(images.mean()) < 0:
            self._check_range(made, f"{name}: no value is negative, though those of the images are")
        return made

    def _check_range(self, made: Tensor, what: str) -> None:
        """Say once that images look like those of another range."""
        line = f"{what}; return [-1, 1], not [0, 1]"
        if float(made.min()) >= _MIDDLE and line not in self.notes:
            self.notes.append(line)
            logger.warning("%s", line)

    @torch.no_grad()
    def __call__(
        self, batch_size: int = 1, generator: Generators = None, output_type: str = "pil", **options: Any
    ) -> ImagePipelineOutput:
        """Call `sample`, with torch's own generators at the seed of the first image's.

        Raises:
            DataError: another number of images comes back, or another shape.
        """
        assert self._functions.sample is not None, "can_sample says so"
        first = generator[0] if isinstance(generator, list) else generator
        with drawing(None if first is None else first.initial_seed(), self._where):
            made = to_pixels(self._functions.sample(batch_size), self._shape, values="signed", name="samples")
        if len(made) != batch_size:
            raise DataError(f"samples: {len(made)} images where {batch_size} were asked for; return as many")
        self._check_range(made, "samples: no value is negative")
        return self._output(to_float(made), output_type)


@contextlib.contextmanager
def _tried(what: str) -> Iterator[None]:
    """Within, what a caller's function raises is one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # Of code that isn't hfgen's.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(f"model: {what}: {type(error).__name__}: {reason}") from error


class PairNetwork(nn.Module):
    """A pair of functions as a network that encodes and decodes; latents without places have one place."""

    def __init__(self, functions: Callables) -> None:
        super().__init__()
        self._encode, self._decode, self.is_known = functions.encode, functions.decode, functions.is_known
        self.networks = nn.ModuleList(functions.networks)
        if next(self.parameters(), None) is None:
            self.place = nn.Parameter(torch.zeros(0), requires_grad=False)
        self._flat: tuple[int, ...] | None = None

    def encode(self, images: Tensor) -> Any:
        """What the function says of images (N, C, R, R), as networks of diffusers return it."""
        assert self._encode is not None, "of a pair"
        with drawing(NOISE_SEED, images.device):
            output = self._encode(images)
        if isinstance(output, torch.distributions.Distribution):
            output = output.mean, 2 * output.stddev.log()
        if isinstance(output, tuple):
            return tuple(self._grid(part) if isinstance(part, Tensor) else part for part in output)
        return self._grid(output) if isinstance(output, Tensor) else output

    def _grid(self, latents: Tensor) -> Tensor:
        if latents.ndim not in (2, 3) or not latents.is_floating_point():
            return latents
        self._flat = tuple(latents.shape[1:])
        return latents.flatten(1)[:, :, None, None]

    def decode(self, latents: Tensor) -> Any:
        """Images of latents as `encode` gives them."""
        assert self._decode is not None, "of a pair"
        return self._decode(latents if self._flat is None else latents.reshape(len(latents), *self._flat))


def check_size(functions: Callables, resolution: int | None) -> int:
    """The side of the images that functions are given.

    Raises:
        SettingsError: it wasn't stated.
    """
    if resolution is None:
        raise SettingsError(f"resolution: {functions.name} doesn't say which images it takes; give it, in pixels")
    return resolution
