"""What tests of panels with a live session share: pixels to compare, and waiting for the session's thread."""

import threading

import numpy as np


def pixels(image):
    """A picture as an array (H, W, 3)."""
    return np.asarray(image.convert("RGB"))


def until(condition, seconds=30):
    """Callbacks come from the session's thread, a moment after `wait` returns."""
    for _ in range(seconds * 50):
        if condition():
            return
        threading.Event().wait(0.02)
    raise AssertionError("never true")
