"""The Space's start. Everything else is in hfgen, which travels along as a wheel."""

import json
import os
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

# The repository's own files aren't there yet when a Space installs requirements.txt, so the wheel is unpacked here.
for wheel in HERE.glob("hfgen-*.whl"):
    unpacked = tempfile.mkdtemp()
    zipfile.ZipFile(wheel).extractall(unpacked)
    sys.path.insert(0, unpacked)

# Before torch, which it patches on ZeroGPU hardware.
try:
    from spaces import GPU
except ImportError:

    def GPU(function):
        """There is no ZeroGPU here."""
        return function


def chosen() -> dict[str, Any]:
    """What to open: by this Space's variables, or by models.json and the results beside it; without both, no models."""
    from hfgen.errors import UserError
    from hfgen.space import RESULTS

    variables = {name: os.environ.get(f"HFGEN_{name.upper()}", "").strip() for name in ("models", "data", "resolution")}
    if variables["models"]:
        resolution = variables["resolution"] or None
        if resolution is not None and not resolution.isdecimal():
            raise UserError(f"HFGEN_RESOLUTION: {resolution!r} isn't a whole number; give pixels, such as 256")
        return {
            "models": variables["models"].replace(",", " ").split(),
            "data": variables["data"] or None,
            "resolution": resolution and int(resolution),
        }
    alone = next((name for name, value in variables.items() if value), None)
    if alone is not None:
        raise UserError(f"HFGEN_{alone.upper()}: it is set, and HFGEN_MODELS isn't; name the models there")
    settings = HERE / "models.json"
    if not settings.is_file():
        return {"models": []}
    # What `hfgen publish --results` put there: of these models, and of no others.
    results = [HERE] if any((HERE / name).is_file() for name in RESULTS) else []
    return {**json.loads(settings.read_text(encoding="utf-8")), "results": results}


def main() -> None:
    """Serve the models that the variables or models.json name, or those of `hfgen quickstart`."""
    from hfgen.errors import UserError
    from hfgen.imports import without_collector

    try:
        with without_collector(freeze=True):
            from hfgen.space.loaded_models import open_models, quickstart_models

            what = chosen()
            if what["models"]:
                loaded = open_models(**what)
            else:
                loaded = open_models(quickstart_models())
            # Here, because a mistake needs no Gradio, which takes seconds to import.
            from hfgen.space.interface import launch

        launch(loaded, GPU)
    except UserError as error:
        sys.exit(f"hfgen: error: {error}")


if __name__ == "__main__":
    main()
