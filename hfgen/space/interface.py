"""The Gradio page: its controls, and which endpoint each of them calls."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import gradio as gr

from hfgen.space import evidence, markup, views
from hfgen.space.endpoints import (
    CHOICES,
    KNOBS,
    LINKED,
    MOST_SEED,
    NEW_GAME,
    NO_BOUND,
    VIEWS,
    Endpoints,
    Gpu,
    most_channels,
    most_classes,
)
from hfgen.space.loaded_models import LoadedModels
from hfgen.space.uploads import MOST_BYTES
from hfgen.space.views import Choices

_ONE_AT_A_TIME = {"concurrency_limit": 1, "concurrency_id": "models"}
_MOST_WAITING = 200
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
                _compare_tab(endpoints, [tab.select, page.load])
        opened = page.load(endpoints.open_view, None, [controls[name] for name in LINKED], api_name="open_view")
        # What none of the models does is an error only of who asks for it, not of who opens the page.
        if endpoints.loaded.encoders:
            show_reconstructions(opened.then)
        if endpoints.loaded.generators:
            show_samples(opened.then)
    page.queue(max_size=_MOST_WAITING)
    return page


def _header(loaded: LoadedModels, title: str) -> str:
    names = ", ".join(loaded.models)
    words = [f"{names}: one image, one seed, and what became of the detail. Every picture is shown pixel by pixel."]
    if loaded.failed:
        words.append(f"Left out, since it can't be opened: {', '.join(loaded.failed)}.")
    return markup.view(f"<h1>{title}</h1>", markup.paragraphs(*words))


def _reconstruct_tab(endpoints: Endpoints, controls: dict[str, Any]) -> Callable[..., Any]:
    """Returns what shows the reconstructions after an event."""
    loaded = endpoints.loaded
    channels = most_channels(loaded)
    gr.HTML(views.examples(loaded))
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            controls["example"] = gr.Slider(0, views.last_example(loaded), 0, step=1, label="Example")
            image = gr.Image(
                type="filepath",
                image_mode=None,
                format="png",
                sources=["upload", "clipboard"],
                height=160,
                label="Or your own image; it is deleted after half an hour",
            )
            image.preprocess = _path_of
        with gr.Column(scale=1, min_width=280):
            controls["noise"] = gr.Checkbox(False, label="Posterior noise (VAE)")
            controls["quantise"] = gr.Checkbox(True, label="Quantiser (VQ-VAE)")
            controls["keep"] = gr.Slider(0, channels, 0, step=1, label="Keep the first channels of the latent; 0: all")
            controls["noise_seed"] = gr.Number(0, precision=0, minimum=0, maximum=MOST_SEED, label="Seed of the noise")
    shown, values = gr.HTML(), gr.JSON(visible=False)
    inputs = [image, *(controls[name] for name in KNOBS)]

    def show(after: Callable[..., Any], **options: Any) -> Any:
        return after(endpoints.reconstruct, inputs, [shown, values], **_ONE_AT_A_TIME, **options)

    changes = [controls[name].input for name in KNOBS if name != "example"]
    show(
        functools.partial(gr.on, [*changes, image.upload, image.clear]),
        api_name="reconstruct",
        trigger_mode="always_last",
    )
    # Another example takes the place of an upload.
    chosen = controls["example"].input(lambda: None, None, image, api_visibility="private", queue=False)
    show(chosen.then, api_visibility="private")
    return functools.partial(show, api_visibility="private")


def _path_of(payload: Any) -> str | None:
    """An upload's file as it is: Gradio would decode it before the limits are checked."""
    return None if payload is None else payload.path


def _generate_tab(endpoints: Endpoints, controls: dict[str, Any]) -> Callable[..., Any]:
    """Returns what shows the samples after an event."""
    labels = most_classes(endpoints.loaded)
    with gr.Row():
        wide = {"min_width": 220}  # On a phone one under the other, each with its label.
        controls["seed"] = gr.Number(0, precision=0, minimum=0, maximum=MOST_SEED, label="Seed", **wide)
        controls["count"] = gr.Slider(1, views.MOST_SAMPLES, Choices.count, step=1, label="Images a model", **wide)
        controls["truncation"] = gr.Slider(0.1, NO_BOUND, NO_BOUND, step=0.1, label="Truncation (GAN); 4: none", **wide)
        controls["temperature"] = gr.Slider(0, 2, 1, step=0.05, label="Temperature (VQ-VAE)", **wide)
        controls["label"] = gr.Slider(
            -1, max(labels - 1, 0), -1, step=1, label="Class; -1: drawn", visible=labels > 0, **wide
        )
        controls["fitted"] = gr.Checkbox(True, label="Fitted prior (VAE); else N(0, I)", **wide)
    none = "" if endpoints.loaded.generators else "None of these models draws from noise alone: look at Reconstruct."
    shown, values = gr.HTML(markup.view(markup.paragraphs(none))), gr.JSON(visible=False)
    inputs = [controls[name] for name in CHOICES]

    def show(after: Callable[..., Any], **options: Any) -> Any:
        return after(endpoints.generate, inputs, [shown, values], **_ONE_AT_A_TIME, **options)

    changes = [control.input for control in inputs]
    show(functools.partial(gr.on, changes), api_name="generate", trigger_mode="always_last")
    with gr.Row():
        controls["second"] = gr.Number(1, precision=0, minimum=0, maximum=MOST_SEED, label="Second seed")
        between = gr.Button("Interpolate to the second seed")
        nearest = gr.Button("Nearest training images")
    more, more_values = gr.HTML(), gr.JSON(visible=False)
    seeds = [controls["seed"], controls["second"]]
    between.click(endpoints.interpolate, seeds, [more, more_values], api_name="interpolate", **_ONE_AT_A_TIME)
    nearest.click(endpoints.nearest, inputs, [more, more_values], api_name="nearest", **_ONE_AT_A_TIME)
    return functools.partial(show, api_visibility="private")


def _compare_tab(endpoints: Endpoints, triggers: list[Any]) -> None:
    shown = gr.HTML()
    gr.HTML(markup.view(markup.paragraphs("Every number of the records; click a column's head to sort.")))
    table = gr.Dataframe(
        headers=list(evidence.HEAD),
        datatype=["str", "str", *["number"] * 5],
        interactive=False,
        show_search="filter",
        label="Records",
        show_label=False,
        column_widths=["225px", *["100px"] * 5, "170px"],
    )
    gr.on(triggers, endpoints.compare, None, [shown, table], api_name="compare")
    names = [model.name for model in endpoints.loaded.generators]
    if not names:
        return
    gr.HTML(markup.view(markup.heading("Which one is real?")))
    with gr.Row():
        model = gr.Dropdown(names, value=names[0], label="Samples of")
        ask = gr.Button("Show a pair")
    pair, game = gr.HTML(), gr.State(dict(NEW_GAME))
    guess = gr.Radio(["left", "right"], value="left", label="The real one is")
    answer = gr.Button("Answer")
    score = gr.Textbox(label="Score of this session", interactive=False)
    ask.click(endpoints.blind_pair, [model, game], [pair, game, score], api_name="blind_pair", **_ONE_AT_A_TIME)
    answer.click(endpoints.blind_guess, [guess, game], [game, score], api_name="blind_guess")


def launch(loaded: LoadedModels, gpu: Gpu = lambda function: function, **options: Any) -> None:
    """Serve the page until it is stopped; `options` go to Gradio's `launch`.

    Args:
        loaded: The models.
        gpu: Wraps what needs a GPU for a moment, such as `spaces.GPU`.
        options: Such as `server_name` and `server_port`.
    """
    endpoints = Endpoints(loaded, gpu)
    endpoints.warm_up()
    font = [gr.themes.utils.fonts.LocalFont("Source Sans Pro", weights=(400, 700)), "sans-serif"]
    build(endpoints).launch(
        theme=gr.themes.Default(font=font),
        css=files("hfgen.space").joinpath("interface.css").read_text(encoding="utf-8"),
        max_file_size=MOST_BYTES,
        run_history=False,
        footer_links=["api"],
        show_error=False,
        ssr_mode=False,
        **options,
    )
