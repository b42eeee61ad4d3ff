"""What the page and its API call, by name, and what a link may set; the pictures are made in `views` and `evidence`."""

from __future__ import annotations

import functools
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
from gradio.components.plot import PlotData

from hfgen.errors import UserError
from hfgen.space import evidence, game, views, why
from hfgen.space.knobs import Knobs
from hfgen.space.loaded_models import LoadedModels, logger
from hfgen.space.plane import PLANES, plane
from hfgen.space.side_by_side import reconstructions
from hfgen.space.uploads import Upload
from hfgen.space.views import Choices, View

VIEWS = {
    "reconstruct": "Reconstruct",
    "generate": "Generate",
    "why": "Why blurry?",
    "compare": "Compare",
    "game": "Game",
}
_REMEMBERED = 64
NO_BOUND = 4.0
MOST_NOISE = 2.0
MOST_STEPS = 50
MOST_SEED = 2**31 - 1
KNOBS = ("example", "keep", "noise", "average", "posterior", "quantise", "noise_seed")
CHOICES = ("seed", "count", "truncation", "temperature", "label", "fitted", "steps")
_SWITCHES = {"average": 0, "posterior": 0, "quantise": 1}
LINKED = ("tabs", *KNOBS, *CHOICES, "second", "axes")
"""What a link's query parameters set, by their names; `view` is the tab."""

Made = TypeVar("Made")
Gpu = Callable[[Callable[..., Any]], Callable[..., Any]]


class Endpoints:
    """What the page and its API call. Results of examples and seeds are remembered; nothing of an upload is."""

    def __init__(self, loaded: LoadedModels, gpu: Gpu = lambda function: function) -> None:
        self.loaded = loaded

        def here(view: Callable[..., View]) -> Callable[..., View]:
            return gpu(functools.wraps(view)(lambda *arguments: view(loaded, *arguments)))

        remember = functools.lru_cache(maxsize=_REMEMBERED)
        self._reconstructed = here(functools.partial(reconstructions, watch=_tell))
        self._remembered = remember(self._reconstructed)
        self._sampled = remember(here(views.samples))
        self._interpolated = remember(here(views.interpolation))
        self._neighbours = remember(here(views.neighbours))
        self._ask = gpu(functools.partial(game.ask, loaded))
        self._why = _once(functools.partial(why.why, loaded))
        self._plane = functools.lru_cache(maxsize=len(PLANES))(functools.partial(plane, loaded))
        self._compare = _once(functools.partial(evidence.compare, loaded))

    def warm_up(self) -> None:
        """Make what everybody sees first, so that nobody waits for it and a small model's seconds are a warm one's."""
        if self.loaded.encoders:
            if self.loaded.at_once:
                self._reconstructed(0, Knobs())
            self._remembered(0, Knobs())

    def warm_up_the_rest(self) -> None:
        """Make what is looked at next, while the first picture is shown; who asks for what fails sees why."""
        steps: list[Callable[[], Any]] = [
            functools.partial(self.loaded.components, model) for model in self.loaded.encoders
        ]
        if self.loaded.generators:
            steps.append(functools.partial(self._sampled, Choices()))
        for step in (*steps, self._why, self._compare):
            try:
                step()
            except Exception as error:
                logger.warning("not made at the start: %s", error)

    def reconstruct(
        self,
        image: str | None,
        example: int,
        keep: int,
        noise: float,
        average: bool,
        posterior: bool,
        quantise: bool,
        seed: int,
    ) -> tuple[str, dict[str, Any]]:
        """Send one image through every model that has an encoder, and change its latent on the way.

        Args:
            image: An image file of at most 8 MiB and 16.8 million pixels; None takes the example.
            example: Number of a held-out image, from 0.
            keep: Per cent of the latent's principal components that stay, the strongest first; 100 keeps all.
            noise: Noise added to the latent, 0 to 2 of its standard deviations.
            average: Show the mean of several draws of the noise.
            posterior: Decode a sample of a VAE's posterior instead of its mean.
            quantise: Decode a VQ-VAE's codebook vectors; False: the encoder's own.
            seed: Of the noise.

        Returns:
            The page, and what happened in words, and per model PSNR, SSIM, high-frequency power, rate, seconds and
            both images as PNG.
        """
        turned = Knobs(
            keep=_whole("keep", keep) / 100,
            noise=float(noise),
            average=bool(average),
            posterior=bool(posterior),
            quantise=bool(quantise),
            seed=_whole("seed", seed),
        )
        if image:
            return self._friendly(lambda: self._reconstructed(Upload(Path(image)), turned))
        return self._friendly(lambda: self._remembered(_whole("example", example), turned))

    def generate(
        self, seed: int, count: int, truncation: float, temperature: float, label: int, fitted: bool, steps: int
    ) -> tuple[str, dict[str, Any]]:
        """Draw the images of one seed from every model that draws from noise alone.

        Args:
            seed: As in `pipe(batch_size=count, generator=torch.Generator().manual_seed(seed))`.
            count: Images a model, 1 to 36.
            truncation: A GAN's bound on its latent numbers in standard deviations; 4 and more is none.
            temperature: Of a VQ-VAE's prior; 0 takes the most likely code.
            label: Class of a conditional model; -1 draws it, as does a model that has no such class, and says so.
            fitted: A VAE's fitted prior; False: N(0, I).
            steps: Of a decoder that draws in several; 0: its own number.

        Returns:
            The page, and each model's images as PNG.
        """
        return self._friendly(
            lambda: self._sampled(_choices(seed, count, truncation, temperature, label, fitted, steps))
        )

    def interpolate(self, seed: int, second: int) -> tuple[str, dict[str, Any]]:
        """Go from the image of one seed to that of another in nine steps, in every model that draws.

        Args:
            seed: Where it begins.
            second: Where it ends.

        Returns:
            The page, and each model's images as PNG.
        """
        return self._friendly(lambda: self._interpolated(_whole("seed", seed), _whole("second", second)))

    def nearest(
        self, seed: int, count: int, truncation: float, temperature: float, label: int, fitted: bool, steps: int
    ) -> tuple[str, dict[str, Any]]:
        """Find the training image that is nearest to each of the first samples.

        Args:
            seed: As in `generate`.
            count: Images a model; at most 8 are looked up.
            truncation: As in `generate`.
            temperature: As in `generate`.
            label: As in `generate`.
            fitted: As in `generate`.
            steps: As in `generate`.

        Returns:
            The page, and each model's nearest images as PNG with their rms differences in levels of 255.
        """
        return self._friendly(
            lambda: self._neighbours(_choices(seed, count, truncation, temperature, label, fitted, steps))
        )

    def why(self) -> str:
        """Say from the models' records why some pictures are blurred: spectra, averaging, variety, verdicts."""
        return self._why()

    def compare(self) -> tuple[str, str, dict[str, Any]]:
        """Show the models' records: every number with its 95 % interval, a column a model.

        Returns:
            A card a model, the table with a link to it as CSV, and all numbers: by model, then by metric.
        """
        return self._compare()

    def plane(self, axes: str) -> tuple[Any, str]:
        """Show the models as points with 95 % intervals, by two of rate, distortion and perception.

        Args:
            axes: `perception` (by distortion), `rate` (and distortion) or `rate_perception`.

        Returns:
            The chart as Plotly's JSON, and what it says.
        """
        chart, words = self._plane(axes)
        return None if chart is None else PlotData(type="plotly", plot=chart), words

    def blind_pair(self, model: str, state: dict[str, Any] | None) -> tuple[str, str, dict[str, Any]]:
        """Begin a game of ten rounds: a real image and a sample side by side.

        Args:
            model: Whose samples: a model's name, or `all of them`.
            state: The session's own.

        Returns:
            The page, the score in words, and the session's state.
        """
        return self._asked(game.new_game(model))

    def blind_guess(self, guess: str, state: dict[str, Any] | None) -> tuple[str, str, dict[str, Any]]:
        """Say which of the pair is real, and get the next one; the score is kept for the session only.

        Args:
            guess: `left` or `right`.
            state: The session's own.

        Returns:
            The page, the score in words, and the session's state.
        """
        return self._asked(_or_refuse(lambda: game.answer(state or game.new_game(), guess)))

    def _asked(self, state: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
        asked = _or_refuse(lambda: self._ask(state, secrets.randbelow))
        return game.page(self.loaded, asked), game.score(asked), asked

    def open_view(self, request: gr.Request) -> tuple[Any, ...]:
        """Set the controls as a link's query parameters say; what isn't a sensible value there is left out."""
        given = dict(request.query_params) if request else {}
        view = given.get("view") if given.get("view") in VIEWS else "reconstruct"
        values = {
            "tabs": gr.Tabs(selected=view),
            "example": _within(given, "example", 0, 0, views.last_example(self.loaded)),
            "keep": _within(given, "keep", 100, 0, 100),
            "noise": _within(given, "noise", 0.0, 0.0, MOST_NOISE),
            **{name: bool(_within(given, name, default, 0, 1)) for name, default in _SWITCHES.items()},
            "noise_seed": _within(given, "noise_seed", 0, 0, MOST_SEED),
            "seed": _within(given, "seed", 0, 0, MOST_SEED),
            "count": _within(given, "count", Choices.count, 1, views.MOST_SAMPLES),
            "truncation": _within(given, "truncation", NO_BOUND, 0.1, NO_BOUND),
            "temperature": _within(given, "temperature", 1.0, 0.0, 2.0),
            "label": _within(given, "label", -1, -1, most_classes(self.loaded) - 1),
            "fitted": bool(_within(given, "fitted", 1, 0, 1)),
            "steps": _within(given, "steps", 0, 0, MOST_STEPS),
            "second": _within(given, "second", 1, 0, MOST_SEED),
            "axes": given.get("axes") if given.get("axes") in PLANES else next(iter(PLANES)),
        }
        return tuple(values[name] for name in LINKED)

    def _friendly(self, make: Callable[[], View]) -> tuple[str, dict[str, Any]]:
        made = _or_refuse(make)
        return made.page, made.values


def _once(make: Callable[[], Made]) -> Callable[[], Made]:
    """The same for all; who asks while it is being made waits for it."""
    lock = threading.Lock()
    made = functools.lru_cache(maxsize=1)(make)

    def get() -> Made:
        with lock:
            return made()

    return get


def _tell(done: int, of: int, name: str) -> None:
    """To who waits for it, if a visitor does."""
    gr.Progress()((done, of), desc=name, unit="models")


def _or_refuse(make: Callable[[], Made]) -> Made:
    """One line to the visitor instead of a traceback."""
    try:
        return make()
    except UserError as error:
        raise gr.Error(str(error), print_exception=False, title="Not possible") from None


def _whole(name: str, value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise gr.Error(f"{name}: {value!r} isn't a whole number", print_exception=False) from None


def _choices(
    seed: int, count: int, truncation: float, temperature: float, label: int, fitted: bool, steps: int
) -> Choices:
    return Choices(
        seed=_whole("seed", seed),
        count=_whole("count", count),
        truncation=float(truncation) if truncation < NO_BOUND else None,
        temperature=float(temperature),
        label=_whole("label", label) if label >= 0 else None,
        fitted=bool(fitted),
        steps=_whole("steps", steps) or None,
    )


def _within(given: dict[str, str], name: str, default: Any, least: Any, most: Any) -> Any:
    """A query parameter as a number of the default's type between the bounds; else the default."""
    try:
        value = type(default)(given[name])
    except (KeyError, ValueError):
        return default
    return value if least <= value <= most else default


def most_classes(loaded: LoadedModels) -> int:
    """Of the models that draw by class; 0 where none does."""
    return max((model.pipeline.num_classes for model in loaded.generators), default=0)


def draws_in_steps(loaded: LoadedModels) -> bool:
    """Whether one of the models does."""
    return any("steps" in model.pipeline.sampling_options for model in loaded.generators)
