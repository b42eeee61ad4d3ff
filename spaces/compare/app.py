"""The Space's start. Everything else is in hfgen, which travels along as a wheel."""

import json
import sys
import tempfile
import zipfile
from pathlib import Path

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


def _results() -> list[Path]:
    """What `hfgen publish --results` put beside this file."""
    from hfgen.space import RESULTS

    return [HERE] if any((HERE / name).is_file() for name in RESULTS) else []


def main() -> None:
    """Serve the models that models.json names, or those of `hfgen quickstart`."""
    from hfgen.errors import UserError
    from hfgen.space.loaded_models import open_models, quickstart_models

    settings = HERE / "models.json"
    try:
        if settings.is_file():
            chosen = json.loads(settings.read_text(encoding="utf-8"))
            loaded = open_models(chosen["models"], chosen["data"], results=_results())
        else:
            loaded = open_models(quickstart_models())
        # Here, because a mistake needs no Gradio, which takes seconds to import.
        from hfgen.space.interface import launch

        launch(loaded, GPU)
    except UserError as error:
        sys.exit(f"hfgen: error: {error}")


if __name__ == "__main__":
    main()
