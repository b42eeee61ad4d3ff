"""Flow matching: the velocity that carries noise into images along straight lines."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Path(NamedTuple):
    """Where each pair of image and noise is at its time, (N, C, R, R), and the velocity (N, C, R, R) that it has."""

    points: Tensor
    velocities: Tensor


def straight_path(images: Tensor, noise: Tensor, times: Tensor) -> Path:
    """The straight line from an image, at time 0, to its noise, at time 1, at times (N,) in [0, 1].

    Points are (1 - t) image + t noise, their velocity in t is noise - image (rectified flow: Liu et al., 2209.03003;
    Lipman et al., 2210.02747, section 4.1, with time reversed, as `FlowMatchEulerDiscreteScheduler` counts it). The
    least squares fit of the velocity given the point is the flow's field: integrated from noise at 1 down to 0, it
    gives images distributed as the data.
    """
    times = times.to(images.dtype).reshape(-1, *[1] * (images.ndim - 1))
    return Path((1 - times) * images + times * noise, noise - images)
