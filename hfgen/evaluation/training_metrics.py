"""An evaluator's numbers as metrics of torchmetrics: batches come one by one, and processes are joined."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from hfgen.errors import DataError, SettingsError
from hfgen.evaluation.evaluator import Evaluator, LookedAtPairs, LookedAtSamples
from hfgen.extras import install_command
from hfgen.images import Range, is_unit
from hfgen.pipelines.foreign_images import to_tensor
from hfgen.reporting.estimate_tables import Estimates

try:
    from torchmetrics import Metric
except ImportError as error:
    raise SettingsError(
        f"torchmetrics: {str(error).splitlines()[0]}; {install_command('metric')}, or call hfgen.Evaluator itself"
    ) from None


_GUESSES = (None, "unit", "signed")
"""What `SamplesMetric` can have found out of a batch's floats; None where it was told, or got other images."""


class _OfImages(Metric):
    """Rows of numbers, one an image: kept in batches, joined over batches and processes."""

    is_differentiable = False
    full_state_update = False
    higher_is_better = None

    def __init__(self, evaluator: Evaluator, names: tuple[str, ...], **options: Any) -> None:
        super().__init__(**options)
        self.evaluator = evaluator
        for name in names:
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def _keep(self, rows: Any) -> None:
        for name, values in rows._asdict().items():
            getattr(self, name).append(values.to(self.device))

    def _joined(self, kind: Any) -> Any:
        if any(not len(getattr(self, name)) for name in kind._fields):
            raise SettingsError("update: no image was given yet; call update before compute")
        return kind(**{name: self._of_all(name) for name in kind._fields})

    def _of_all(self, name: str) -> Tensor:
        # Joined over processes, torchmetrics has one tensor in the list's place.
        values = getattr(self, name)
        return (values if isinstance(values, Tensor) else torch.cat(values)).cpu()

    def compute(self) -> dict[str, Tensor]:
        """Values by name, float64, for `log_dict` and trackers."""
        found = self.estimates()
        return {name: torch.tensor(one.value, dtype=torch.float64, device=self.device) for name, one in found.items()}

    def estimates(self) -> Estimates:
        """The same with their 95 % intervals, of what this process has seen."""
        raise NotImplementedError


class SamplesMetric(_OfImages):
    """`kid`, `coverage` and what else `Evaluator.samples` gives, of samples that come batch by batch.

    What is kept of an image are its features and powers, not its pixels.

    Args:
        evaluator: The real images, and their judge.
        values: Of floats, as `Evaluator.samples` takes it; `auto` is found out by the first batch of them, in each
            process, and stays; where processes found otherwise, `compute` refuses.
        options: Of `torchmetrics.Metric`.
    """

    def __init__(self, evaluator: Evaluator, *, values: Range = "auto", **options: Any) -> None:
        super().__init__(evaluator, LookedAtSamples._fields, **options)
        self.values, self._found = values, values
        self.add_state("guessed", default=[], dist_reduce_fx="cat")

    def update(self, images: Any) -> None:
        """Add images, in a form that `Evaluator.samples` takes.

        Raises:
            UserError: what `Evaluator.samples` refuses, or floats below 0 after a batch that had none.
        """
        given = to_tensor(images, self.evaluator.shape, "samples")
        floats = given.is_floating_point() and bool(given.numel())
        if floats and self.values == "auto" and self._found == "unit" and not is_unit(given):
            raise DataError(
                "samples: floats below 0 after images without; give SamplesMetric values='signed' or 'unit'"
            )
        self._keep(self.evaluator.look_at_samples(given, values=self._found))
        if floats and self._found == "auto":
            self._found = "unit" if is_unit(given) else "signed"
        # Of each batch, also where nothing is guessed: processes can join what each of them has alone.
        guess = _GUESSES.index(self._found if floats and self.values == "auto" else None)
        self.guessed.append(torch.tensor([guess], device=self.device))

    def estimates(self) -> Estimates:
        """See `Evaluator.samples`; at least 12 images."""
        if len(self.guessed) and len({_GUESSES[i] for i in self._of_all("guessed").long().tolist()} - {None}) > 1:
            raise DataError(
                "samples: floats were taken for [0, 1] in one process and for [-1, 1] in another; give SamplesMetric "
                "values='signed' or 'unit'"
            )
        return self.evaluator.samples_of(self._joined(LookedAtSamples))


class ReconstructionsMetric(_OfImages):
    """`psnr`, `gain_high`, `kid_reconstruction` and what else `Evaluator.reconstructions` gives, of pairs.

    The originals may be others than the evaluator's, of its size and channels: each pair counts by itself.

    Args:
        evaluator: It knows the window of spectra, and its judge the features.
        values: Of floats: `signed` [-1, 1] or `unit` [0, 1].
        options: Of `torchmetrics.Metric`.
    """

    def __init__(self, evaluator: Evaluator, *, values: Literal["signed", "unit"] = "signed", **options: Any) -> None:
        super().__init__(evaluator, LookedAtPairs._fields, **options)
        self.values = values

    def update(self, reconstructions: Any, originals: Any) -> None:
        """Add pairs, in their order: each a form that `Evaluator.samples` takes; errors likewise."""
        self._keep(self.evaluator.look_at_pairs(reconstructions, originals, values=self.values))

    def estimates(self) -> Estimates:
        """See `Evaluator.reconstructions`; at least 2 pairs."""
        return self.evaluator.reconstructions_of(self._joined(LookedAtPairs))
