"""What the first `ctrl.load()` of a process imports, and what it does not."""

import gc
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from ctrl.model.loading.libraries import without_gc

ROOT = Path(__file__).parent.parent
# Slow to import, or of no use before something is asked for that a bare model does not do.
NOT_BY_LOAD = (
    ("diffusers.pipelines", "the loop is ours, and pipelines bring transformers' other models"),
    ("diffusers.models.controlnets", "with the first control"),
    ("transformers.models.clip.image_processing_pil_clip", "with the first style"),
    ("transformers.pipelines", "never"),
    ("transformers.trainer", "never"),
    ("torch._inductor.compile_fx", "nothing is compiled"),
    ("ctrl.sampling", "with the first sample"),
    ("ctrl.detect", "with the first picture that is read"),
    ("ctrl.atelier", "with its eyes, for detectors and measures"),
    ("ctrl.train", "never"),
)
FRESH = """
import gc, json, sys
import ctrl
from ctrl.model.loading.libraries import classes
collections = []
gc.callbacks.append(lambda phase, _: phase == "start" and collections.append(phase))
classes()
during = len(collections)
ctrl.load()
print(json.dumps({"during": during, "modules": sorted(sys.modules), "collects": gc.isenabled()}))
"""


@pytest.fixture(scope="module")
def fresh():
    """What a process says of itself that has loaded the model of the package, and nothing else."""
    done = subprocess.run([sys.executable, "-c", FRESH], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(("module", "comes"), NOT_BY_LOAD, ids=[module for module, _ in NOT_BY_LOAD])
def test_a_load_leaves_to_others_what_it_does_not_need(fresh, module, comes):
    assert find_spec(module), f"{module} is called otherwise now; this row tests nothing"
    assert module not in fresh["modules"], f"load() imports {module}, which should come: {comes}"


@pytest.mark.slow
def test_the_collector_rests_while_the_libraries_are_imported_and_then_works_again(fresh):
    assert fresh["during"] <= 1  # the one that is due as soon as it works again; some hundreds if it did not rest
    assert fresh["collects"]


def test_the_collector_is_left_as_it_was_found():
    assert gc.isenabled()
    with pytest.raises(ImportError), without_gc():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled()
    gc.disable()
    try:
        with without_gc():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
