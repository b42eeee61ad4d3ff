"""`hfgen space`: models in the browser, on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from hfgen.cli.options import Verbs, add_compute, add_verb, by_name, compute_options
from hfgen.errors import SettingsError, UserError
from hfgen.extras import install_command
from hfgen.imports import without_collector


def register(verbs: Verbs) -> None:
    """Add the verb's parser."""
    verb = add_verb(
        verbs, "space", run, "show models in the browser: reconstruct, generate, why they are blurred, compare"
    )
    verb.set_defaults(takes="models")
    help = "runs' folders, checkpoints' or org/name[@revision], and their names; by default those of `hfgen quickstart`"
    verb.add_argument("models", metavar="[NAME=]MODEL", nargs="*", help=help)
    verb.add_argument("--data", help="where examples are from (what the models were measured on, or glyphs)")
    help = "folders of `hfgen compare` and `hfgen study`, to show as well (beside those next to the models)"
    verb.add_argument("--results", metavar="DIR", nargs="+", type=Path, default=(), help=help)
    verb.add_argument("--resolution", type=int, help="for models of any size (256, or what they were trained at)")
    verb.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s: this machine only)")
    verb.add_argument("--port", type=int, help="port to listen on (7860, or the next free one)")
    add_compute(verb)


def run(arguments: argparse.Namespace) -> None:
    """Serve the Space until Ctrl-C."""
    from importlib.util import find_spec

    if find_spec("gradio") is None:
        raise UserError(f"gradio: it isn't installed, and the Space needs it; {install_command('space')}")
    _check_address(arguments.host, arguments.port)
    with without_collector(freeze=True):
        from hfgen.space.loaded_models import open_models, quickstart_models

    models = arguments.models or quickstart_models()
    with without_collector(freeze=True):
        from hfgen.space.interface import launch

    options = {"results": arguments.results, "resolution": arguments.resolution, **compute_options(arguments)}
    loaded = open_models(by_name(models), arguments.data, **options)
    launch(loaded, server_name=arguments.host, server_port=arguments.port)


def _check_address(host: str, port: int | None) -> None:
    """Refuse an address that can't be listened on, before models are loaded.

    Raises:
        SettingsError: the host isn't this machine's, or the port is taken or none.
    """
    import socket

    if port is not None and not 0 < port < 65_536:
        raise SettingsError(f"port: {port} isn't between 1 and 65535; choose another --port")
    try:
        socket.create_server((host, port or 0), reuse_port=False).close()
    except OSError as error:
        where = f"host: {host}" if port is None else f"port: {port} of {host}"
        raise SettingsError(f"{where} can't be listened on ({error.strerror}); choose another") from None
