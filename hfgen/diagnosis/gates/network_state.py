"""The state in which the network runs: dropout, training mode, batch-norm statistics."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from hfgen import metrics
from hfgen.diagnosis.gates.context import Context, removed, squared_error
from hfgen.diagnosis.gates.findings import Finding, check

_DROPS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


def state(context: Context) -> Iterator[Finding]:
    """Whether the same image gives the same twice, and whether batch-norm's statistics are those of these images."""
    if context.network is None:
        return
    few = context.inputs[: len(context.few)]
    yield _repeatable(context, few)
    if any(isinstance(part, _BatchNorm) for part in context.codec.network.modules()):
        yield _statistics(context, few)


def _repeatable(context: Context, few: torch.Tensor) -> Finding:
    first, second = (context.passed(few) for _ in range(2))
    errors = squared_error(first, few).clamp_min(1e-12)
    noise = metrics.bootstrap_ratio(squared_error(first, second) / 2, errors, seed=context.seed, paired=True)
    parts = [
        name
        for name, part in context.codec.network.named_modules()
        if part.training and isinstance(part, (*_DROPS, _BatchNorm))
    ]
    where = f" ({parts[0]} is in training mode)" if parts else ""
    return check(
        "not_repeatable",
        noise,
        "share of the squared error that changes from one pass to the next",
        warning=0.001,
        fault=0.02,
        text=f"The same image gives another reconstruction each time{where}.",
        remedy="call model.eval() before it is used or exported",
        share=noise.value,
        of="squared error",
    )


def _statistics(context: Context, few: torch.Tensor) -> Finding:
    student = copy.deepcopy(context.codec)
    training = [
        name for name, part in context.codec.network.named_modules() if part.training and isinstance(part, _BatchNorm)
    ]
    for part in student.modules():
        if isinstance(part, _BatchNorm):
            # Either way, held against the other way.
            part.train(not training)
            part.momentum = 0.0
    then = squared_error(context.passed(few, student, batch=len(few)), few)
    share = removed(squared_error(context.passed(few), few), then, context.seed)
    text = "batch-norm is in training mode" if training else "batch-norm's running statistics aren't these images'"
    return check(
        "batch_statistics",
        share,
        "share of the squared error that other batch-norm statistics remove",
        warning=0.15,
        fault=0.3,
        text=f"The network runs in the wrong state: {text}.",
        remedy="call model.eval()"
        if training
        else "estimate the statistics anew: set momentum=None, call "
        "reset_running_stats() on each batch-norm layer, pass training images in train mode, then save it",
        share=share.value,
        of="squared error",
    )
