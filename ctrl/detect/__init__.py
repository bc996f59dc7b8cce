"""What a picture holds, as maps that steer another: its pose, its depth, its edges, its line art.

    ctrl.Pose(ctrl.detect.pose("photo.jpg", detector="openpose"))
    ctrl.Depth(ctrl.detect.depth(photo, detector="midas"), weight=0.6)
    ctrl.Edges(ctrl.detect.edges(photo, detector="canny"))

`detector="atelier"` needs nothing and makes maps as the ControlNets of the package know them; its eyes read pictures
of the atelier's world, and warn when they are shown anything else. "canny" is OpenCV's. The others are those of
controlnet_aux (`pip install ctrl-diffusion[detectors]`), loaded when first used. A detector may also be a function
of yours that takes a PIL image and returns a map as PIL image, array or tensor, or for `pose` a `Skeleton`.
"""

from ctrl.detect.detect import depth, edges, line_art, pose

__all__ = ["depth", "edges", "line_art", "pose"]


def __dir__() -> list[str]:
    return __all__
