"""An evaluator's numbers as metrics of torchmetrics: batches come one by one, and processes are joined."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hfgen.errors import SettingsError
from hfgen.evaluation.evaluator import Evaluator, LookedAtPairs, LookedAtSamples
from hfgen.extras import install_command
from hfgen.reporting.estimate_tables import Estimates

try:
    from torchmetrics import Metric
except ImportError as error:
    raise SettingsError(
        f"torchmetrics: {str(error).splitlines()[0]}; {install_command('metric')}, or call hfgen.Evaluator itself"
    ) from None


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
        found = {}
        for name in kind._fields:
            values = getattr(self, name)
            found[name] = (values if isinstance(values, Tensor) else torch.cat(values)).cpu() if len(values) else None
        if any(values is None for values in found.values()):
            raise SettingsError("update: no image was given yet; call update before compute")
        return kind(**found)

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
        options: Of `torchmetrics.Metric`.
    """

    def __init__(self, evaluator: Evaluator, **options: Any) -> None:
        super().__init__(evaluator, LookedAtSamples._fields, **options)

    def update(self, images: Any) -> None:
        """Add images, in a form that `Evaluator.samples` takes; errors likewise."""
        self._keep(self.evaluator.look_at_samples(images))

    def estimates(self) -> Estimates:
        """See `Evaluator.samples`; at least 12 images."""
        return self.evaluator.samples_of(self._joined(LookedAtSamples))


class ReconstructionsMetric(_OfImages):
    """`psnr`, `gain_high`, `kid_reconstruction` and what else `Evaluator.reconstructions` gives, of pairs.

    The originals may be others than the evaluator's, of its size and channels: each pair counts by itself.

    Args:
        evaluator: It knows the window of spectra, and its judge the features.
        options: Of `torchmetrics.Metric`.
    """

    def __init__(self, evaluator: Evaluator, **options: Any) -> None:
        super().__init__(evaluator, LookedAtPairs._fields, **options)

    def update(self, reconstructions: Any, originals: Any) -> None:
        """Add pairs, in their order: each a form that `Evaluator.samples` takes, floats in [-1, 1]."""
        self._keep(self.evaluator.look_at_pairs(reconstructions, originals))

    def estimates(self) -> Estimates:
        """See `Evaluator.reconstructions`; at least 2 pairs."""
        return self.evaluator.reconstructions_of(self._joined(LookedAtPairs))
