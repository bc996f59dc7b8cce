"""What a newcomer adds is known from where it is written, not from lists elsewhere; see CONTRIBUTING.md."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
# In a process of its own: a class stays among the subclasses of another for good.
NORMAL = '''
import dataclasses, json, sys
import numpy as np
from ctrl.recipe import Control, Recipe
from ctrl.recipe.checks import suggest_arguments

@suggest_arguments
@dataclasses.dataclass(frozen=True)
class Normal(Control):
    """The normals of a scene: red right, green up, blue towards the eye."""

    kind: str = dataclasses.field(default="bent normal", init=False, repr=False)

from ctrl.options import parser, recipe_of
picture = np.full((16, 16, 3), 128, np.uint8)
recipe = Recipe("a ball", seed=1, controls=[Normal(picture, 0.5)])
options = parser()
from PIL import Image
Image.fromarray(picture).save(sys.argv[1])
asked = ["a ball", "--seed", "1", "--bent-normal", sys.argv[1], "--weight-bent-normal", "0.5"]
read = recipe_of(options.parse_args(asked))
try:
    Normal(picture, controlnet_conditioning_scale=1)
except TypeError as error:
    hint = str(error)
print(json.dumps({
    "json": Recipe.from_json(recipe.to_json()) == recipe,
    "type": type(Recipe.from_json(recipe.to_json()).controls[0]).__name__,
    "same as by kind": Recipe("a ball", seed=1, controls=[Control("bent normal", picture, 0.5)]) == recipe,
    "command line": read == recipe and type(read.controls[0]).__name__ == "Normal",
    "help": "red right, green up, blue towards the eye" in " ".join(options.format_help().split()),
    "hint": hint,
    "doc": "`mode`" in Normal.__doc__,
}))
'''


def test_a_kind_of_control_is_known_everywhere_from_its_class(tmp_path):
    call = [sys.executable, "-c", NORMAL, str(tmp_path / "map.png")]
    found = json.loads(subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert "here that is weight" in found.pop("hint")
    assert found.pop("type") == "Normal"
    assert all(found.values()), found
