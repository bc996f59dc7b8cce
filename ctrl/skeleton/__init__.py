"""Human poses as values: 18 OpenPose keypoints, hands and faces; named poses, mirroring, JSON and drawing."""

from ctrl.skeleton.draw import COLOURS, LIMBS
from ctrl.skeleton.of import pose_of
from ctrl.skeleton.poses import POSES
from ctrl.skeleton.skeleton import JOINTS, MIRRORED, People, Skeleton

__all__ = ["COLOURS", "JOINTS", "LIMBS", "MIRRORED", "POSES", "People", "Skeleton", "pose_of"]
