"""The sweeps room: the pictures of many recipes that differ along axes, with the steps they share made once."""

from ctrl.sweeps.made import Sweep, sweep

__all__ = ["Sweep", "sweep"]
