"""The sweeps room: the pictures of many recipes that differ along axes, with the steps they share made once."""

from ctrl.sweeps.made import Sweep
from ctrl.sweeps.ray_executor import RayExecutor
from ctrl.sweeps.run import Unfinished, sweep

__all__ = ["RayExecutor", "Sweep", "Unfinished", "sweep"]
