"""Flow matching: the velocity that carries noise into images along straight lines.

A network v(point, t) that is fitted to these velocities by least squares is the field of a flow from noise to images
(Lipman et al., 2210.02747; rectified flow: Liu et al., 2209.03003).
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Path(NamedTuple):
    """Of N pairs of image and noise, each at a time of its own.

    `points` (N, C, R, R): where they are. `velocities` alike: by how much they move in a unit of time.
    """

    points: Tensor
    velocities: Tensor


def straight_path(images: Tensor, noise: Tensor, times: Tensor) -> Path:
    """Points on the straight line from an image, at time 0, to its noise, at time 1, and their velocities.

    `times` (N,) are in [0, 1]. Points are (1 - t) image + t noise, their velocity in t is noise - image. This is the
    optimal transport path of 2210.02747 (section 4.1, without its smallest deviation) with time reversed, as
    `FlowMatchEulerDiscreteScheduler` counts it: integrated from noise at 1 down to 0, the field gives images
    distributed as the data.
    """
    # One time an image, whatever its shape.
    times = times.to(images.dtype).reshape(-1, *[1] * (images.ndim - 1))
    return Path((1 - times) * images + times * noise, noise - images)
