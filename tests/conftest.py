"""One thread, since these models are too small for two and the machine may be busy; what the quick loop leaves out."""

import gc
import os
from collections import defaultdict

import pytest
import torch
import variety

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start


def pytest_configure(config):
    """The quick loop, `-m "not slow"`, draws fewer examples."""
    if "not slow" in config.option.markexpr:
        variety.SHARE = 1 / 10


def pytest_collection_finish():
    """Take libraries and tests out of the garbage collector's sight, who would walk them at every full collection."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)  # before -m is asked
def pytest_collection_modifyitems(items):
    """Slow are a browser's tests, and of a test's many parameters all but two, or all but those its `quick` names."""
    tests = defaultdict(list)
    for item in items:
        tests[item.parent.nodeid, getattr(item, "originalname", item.name)].append(item)
    for same in tests.values():
        for number, item in enumerate(same):
            kept = item.get_closest_marker("quick")
            quick = number in (0, len(same) - 1) if kept is None else _named(item, kept.kwargs)
            if not quick or "chromium" in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.slow)


def _named(item, names):
    params = item.callspec.params if hasattr(item, "callspec") else {}
    return all(params.get(name, some[0]) in some for name, some in names.items())


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
