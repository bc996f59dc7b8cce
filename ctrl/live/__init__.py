"""The live room: a run that follows a changing recipe, and recomputes only what a change reaches."""

from ctrl.live.frame import Frame, State
from ctrl.live.live import Live
from ctrl.live.record import Recording
from ctrl.live.settings import Settings

__all__ = ["Frame", "Live", "Recording", "Settings", "State"]
