"""One thread: these models are too small for two, and the machine may be busy."""

import os

import pytest
import torch

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A tiny random model on disk."""
    from tiny import build

    return build(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def model(folder):
    """The same model loaded; no test may change it."""
    import ctrl

    return ctrl.load(folder, device="cpu")
