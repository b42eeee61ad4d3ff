"""The Gradio page: its controls, and which endpoint each of them calls."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import gradio as gr

from hfgen.reporting.pages import table_assets
from hfgen.space import game, markup, views
from hfgen.space.endpoints import (
    CHOICES,
    KNOBS,
    LINKED,
    MOST_NOISE,
    MOST_SEED,
    MOST_STEPS,
    NO_BOUND,
    VIEWS,
    Endpoints,
    Gpu,
    draws_in_steps,
    most_classes,
)
from hfgen.space.loaded_models import LoadedModels
from hfgen.space.plane import PLANES
from hfgen.space.uploads import MOST_BYTES, SUFFIXES
from hfgen.space.views import Choices

# Who draws or plays doesn't wait for a photograph that goes through a large autoencoder.
_RECONSTRUCT, _DRAW = ({"concurrency_limit": 1, "concurrency_id": name} for name in ("reconstruct", "draw"))
_MOST_WAITING = 200
_OWN = ("interface.css", "interface.js")
_SWEEP_SECONDS, _KEEP_SECONDS = 300, 1800


def build(endpoints: Endpoints) -> gr.Blocks:
    """The page, not yet launched."""
    title = "Why are VAEs blurred and GANs crisp?"
    sweep = (_SWEEP_SECONDS, _KEEP_SECONDS)
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=sweep) as page:
        gr.HTML(_header(endpoints.loaded, title))
        controls: dict[str, Any] = {}
        with gr.Tabs() as controls["tabs"]:
            with gr.Tab(VIEWS["reconstruct"], id="reconstruct"):
                show_reconstructions = _reconstruct_tab(endpoints, controls)
            with gr.Tab(VIEWS["generate"], id="generate"):
                show_samples = _generate_tab(endpoints, controls)
            with gr.Tab(VIEWS["why"], id="why") as tab:
                gr.on([tab.select, page.load], endpoints.why, None, gr.HTML(), api_name="why")
            with gr.Tab(VIEWS["compare"], id="compare") as tab:
                show_plane = _compare_tab(endpoints, controls, [tab.select, page.load])
            if endpoints.loaded.generators:
                with gr.Tab(VIEWS["game"], id="game"):
                    _game_tab(endpoints)
        opened = page.load(endpoints.open_view, None, [controls[name] for name in LINKED], api_name="open_view")
        show_plane(opened.then)
        # What none of the models does is an error only of who asks for it, not of who opens the page.
        if endpoints.loaded.encoders:
            show_reconstructions(opened.then)
        if endpoints.loaded.generators:
            show_samples(opened.then)
    page.queue(max_size=_MOST_WAITING)
    return page


def _header(loaded: LoadedModels, title: str) -> str:
    words = (
        "One image through every model, side by side and pixel by pixel. Turn a knob, and watch the blur come and go."
    )
    return views.gallery(loaded) + markup.view(f"<h1>{title}</h1>", markup.paragraphs(words))


def _reconstruct_tab(endpoints: Endpoints, controls: dict[str, Any]) -> Callable[..., Any]:
    """Returns what shows the reconstructions after an event."""
    loaded = endpoints.loaded
    with gr.Row(elem_id="hf-choose"):
        numbers = [(f"example {index}", index) for index in range(views.last_example(loaded) + 1)]
        controls["example"] = gr.Radio(
            numbers, value=0, label="Choose an image", elem_id="hf-examples", show_label=False, min_width=100
        )
        image = gr.UploadButton("Your own", file_types=["image", *SUFFIXES], elem_id="hf-own", scale=0, min_width=96)
    with gr.Row():
        wide = {"min_width": 260}
        controls["keep"] = gr.Slider(0, 100, 100, step=1, label="Keep of the latent, %", **wide)
        controls["noise"] = gr.Slider(0, MOST_NOISE, 0, step=0.05, label="Noise on the latent", **wide)
        controls["average"] = gr.Checkbox(False, label="Average many draws of the noise", **wide)
    shown, values = gr.HTML(), gr.JSON(visible=False)
    with gr.Accordion("More knobs", open=False), gr.Row():
        controls["posterior"] = gr.Checkbox(False, label="Posterior noise (VAE)", **wide)
        controls["quantise"] = gr.Checkbox(True, label="Quantiser (VQ-VAE)", **wide)
        controls["noise_seed"] = gr.Number(0, precision=0, minimum=0, maximum=MOST_SEED, label="Seed of the noise")
    inputs = [image, *(controls[name] for name in KNOBS)]

    def show(after: Callable[..., Any], **options: Any) -> Any:
        options = {"show_progress": _progress(loaded), **_RECONSTRUCT, **options}
        return after(endpoints.reconstruct, inputs, [shown, values], **options)

    changes = [controls[name].input for name in KNOBS if name != "example"]
    show(functools.partial(gr.on, [*changes, image.upload]), api_name="reconstruct", trigger_mode="always_last")
    # Another example takes the place of an upload.
    chosen = controls["example"].input(lambda: None, None, image, api_visibility="private", queue=False)
    show(chosen.then, api_visibility="private")
    return functools.partial(show, api_visibility="private")


def _progress(loaded: LoadedModels) -> str:
    """Small models answer at once, and would only flicker."""
    return "hidden" if loaded.at_once else "full"


def _generate_tab(endpoints: Endpoints, controls: dict[str, Any]) -> Callable[..., Any]:
    """Returns what shows the samples after an event."""
    labels = most_classes(endpoints.loaded)
    with gr.Row():
        wide = {"min_width": 220}  # On a phone one under the other, each with its label.
        controls["seed"] = gr.Number(0, precision=0, minimum=0, maximum=MOST_SEED, label="Seed", min_width=110, scale=0)
        controls["count"] = gr.Slider(1, views.MOST_SAMPLES, Choices.count, step=1, label="Images a model", **wide)
        controls["truncation"] = gr.Slider(0.1, NO_BOUND, NO_BOUND, step=0.1, label="Truncation (GAN), 4: none", **wide)
        controls["temperature"] = gr.Slider(0, 2, 1, step=0.05, label="Temperature (VQ-VAE)", **wide)
        controls["label"] = gr.Slider(
            -1, max(labels - 1, 0), -1, step=1, label="Class; -1: drawn", visible=labels > 0, **wide
        )
        controls["fitted"] = gr.Checkbox(True, label="Fitted prior (VAE); else N(0, I)", **wide)
        controls["steps"] = gr.Slider(
            0, MOST_STEPS, 0, step=1, label="Steps (flow); 0: its own", visible=draws_in_steps(endpoints.loaded), **wide
        )
    none = "" if endpoints.loaded.generators else "None of these models draws from noise alone: look at Reconstruct."
    shown, values = gr.HTML(markup.view(markup.paragraphs(none))), gr.JSON(visible=False)
    inputs = [controls[name] for name in CHOICES]

    def show(after: Callable[..., Any], **options: Any) -> Any:
        return after(endpoints.generate, inputs, [shown, values], **_DRAW, **options)

    changes = [control.input for control in inputs]
    show(functools.partial(gr.on, changes), api_name="generate", trigger_mode="always_last")
    with gr.Row():
        controls["second"] = gr.Number(1, precision=0, minimum=0, maximum=MOST_SEED, label="Second seed")
        between = gr.Button("Interpolate to the second seed")
        nearest = gr.Button("Nearest training images")
    more, more_values = gr.HTML(), gr.JSON(visible=False)
    seeds = [controls["seed"], controls["second"]]
    between.click(endpoints.interpolate, seeds, [more, more_values], api_name="interpolate", **_DRAW)
    nearest.click(endpoints.nearest, inputs, [more, more_values], api_name="nearest", **_DRAW)
    return functools.partial(show, api_visibility="private")


def _compare_tab(endpoints: Endpoints, controls: dict[str, Any], triggers: list[Any]) -> Callable[..., Any]:
    """Returns what shows the chart after an event."""
    with gr.Row(elem_id="hf-plane"):
        with gr.Column(scale=3, min_width=320):
            planes = [(label, name) for name, label in PLANES.items()]
            controls["axes"] = gr.Radio(planes, value=planes[0][1], label="Axes", show_label=False, elem_id="hf-axes")
            chart = gr.Plot(label="Rate, distortion and perception", show_label=False, elem_id="hf-chart")
            words = gr.HTML()
        with gr.Column(scale=2, min_width=300):
            cards = gr.HTML()
    table, values = gr.HTML(), gr.JSON(visible=False)
    gr.on(triggers, endpoints.compare, None, [cards, table, values], api_name="compare")

    def show(after: Callable[..., Any], **options: Any) -> Any:
        return after(endpoints.plane, controls["axes"], [chart, words], **options)

    show(controls["axes"].input, api_name="plane")
    return functools.partial(show, api_visibility="private")


def _game_tab(endpoints: Endpoints) -> None:
    names = [game.ANY, *(model.name for model in endpoints.loaded.generators)]
    with gr.Row():
        model = gr.Dropdown(names, value=game.ANY, label="Samples of", min_width=200)
        begin = gr.Button("Begin: ten rounds", variant="primary", min_width=200)
    shown, state = gr.HTML(), gr.State(None)
    with gr.Row(visible=False, elem_id="hf-guesses") as guesses:
        left, right = (gr.Button(f"The {side} one", elem_id=f"hf-{side}", min_width=120) for side in ("left", "right"))
    score = gr.Textbox(label="Score of this session", interactive=False, visible=False)
    made = [shown, score, state]
    asked = begin.click(endpoints.blind_pair, [model, state], made, api_name="blind_pair", **_DRAW)
    asked.then(lambda: gr.Row(visible=True), None, guesses, api_visibility="private", queue=False)
    guess = gr.Textbox(visible=False)
    for side, button in (("left", left), ("right", right)):
        named = {"api_name": "blind_guess"} if side == "left" else {"api_visibility": "private"}
        chosen = button.click(lambda side=side: side, None, guess, api_visibility="private", queue=False)
        done = chosen.then(endpoints.blind_guess, [guess, state], made, **named, **_DRAW)
        done.then(_still_asks, state, guesses, api_visibility="private", queue=False)


def _still_asks(state: dict[str, Any]) -> Any:
    return gr.Row(visible=state["asked"] is not None)


def _head() -> str:
    """The page's own style and script, within it: Gradio's `css` would lose what depends on the width."""
    style, script = (files("hfgen.space").joinpath(f"{name}").read_text(encoding="utf-8") for name in _OWN)
    table_style, table_script = table_assets()
    # Nested, so that its rules are of that part of the page alone.
    style = f"{style}.hf-view .hf-table {{ {table_style} }}"
    return f"<style>{style}</style><script>{script}{table_script}</script>"


def _theme() -> gr.themes.Default:
    """Gradio's own, whose greys and violet are too pale on white for small letters."""
    font = [gr.themes.utils.fonts.LocalFont("Source Sans Pro", weights=(400, 700)), "sans-serif"]
    theme = gr.themes.Default(font=font, primary_hue="violet")
    buttons = dict.fromkeys(("button_primary_background_fill", "button_primary_background_fill_dark"), "*primary_600")
    return theme.set(body_text_color_subdued="*neutral_600", color_accent="*primary_600", **buttons)


def launch(loaded: LoadedModels, gpu: Gpu = lambda function: function, **options: Any) -> None:
    """Serve the page until it is stopped; `options` go to Gradio's `launch`.

    Args:
        loaded: The models.
        gpu: Wraps what needs a GPU for a moment, such as `spaces.GPU`.
        options: Such as `server_name` and `server_port`.
    """
    endpoints = Endpoints(loaded, gpu)
    endpoints.warm_up()
    page = build(endpoints)
    page.launch(
        theme=_theme(),
        head=_head(),
        max_file_size=MOST_BYTES,
        run_history=False,
        footer_links=["api"],
        show_error=False,
        ssr_mode=False,
        # No look at its own page first, which ends the start where that takes a busy machine more than 3 seconds.
        _frontend=False,
        prevent_thread_lock=True,
        **options,
    )
    endpoints.warm_up_the_rest()
    page.block_thread()
