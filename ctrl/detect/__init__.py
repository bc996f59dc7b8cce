"""Control maps from pictures: pose, depth, edges, line art.

    ctrl.Pose(ctrl.detect.pose("photo.jpg", detector="openpose"))
    ctrl.Depth(ctrl.detect.depth(photo, detector="midas"), weight=0.6)
    ctrl.Edges(ctrl.detect.edges(photo, detector="canny"))

`detector="atelier"` needs no download and makes the maps that the package's ControlNets were trained with; it is for
pictures of the atelier's world, and warns of any other. "canny" is OpenCV's. The others are those of
controlnet_aux (`pip install "ctrl-diffusion[detectors]"`, in a checkout `pip install ".[detectors]"`), loaded when
first used. A detector may also be your function that takes a PIL image and returns a map as PIL image, array or
tensor, or for `pose` a `Skeleton`.
"""

from ctrl.detect.detect import *  # noqa: F403  # the functions that detect.py lists
from ctrl.detect.detect import __all__ as __all__


def __dir__() -> list[str]:
    return __all__
