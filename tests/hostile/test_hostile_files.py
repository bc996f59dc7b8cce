"""Hostile files, read under an audit hook: each gives a value or a sentence, and nothing is run, fetched or written."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import model_folders
import picture_files
import pytest
import recipe_files
import tensor_files
from corpus import MARK, PLANTED

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
MEGABYTES = 300  # that reading a file may take at once
REFUSALS = {"ValueError", "TypeError", "FileNotFoundError"}


@pytest.fixture(scope="module")
def corpus(folder, tmp_path_factory):
    """The files, written; and the good model they were spoilt from."""
    place = tmp_path_factory.mktemp("hostile")
    good = shutil.copytree(folder, place / "good" / "model")
    listed = [*tensor_files.corpus(good), *model_folders.corpus(good), *picture_files.corpus(), *recipe_files.corpus()]
    for one in listed:
        path = one.place(place)
        assert not path.exists() and not path.is_symlink(), f"two files are called {path.name}"
        path.parent.mkdir(exist_ok=True)
        if one.road in ("model", "processor"):
            shutil.copytree(good, path, copy_function=os.link)
        one.make(path)
    (place / f"{PLANTED}.py").write_text(f"'{MARK}'\n")
    (place / "list.json").write_text(json.dumps([(one.road, str(one.place(place))) for one in listed]))
    yield place, good, listed
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def readings(corpus):
    """What came of each, in their order, and of the offences."""
    place, good, listed = corpus
    paths = os.pathsep.join(map(str, (place, HERE, ROOT)))
    ran = subprocess.run(
        [sys.executable, str(HERE / "reading.py"), str(place), str(good)],
        cwd=place,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    assert ran.returncode == 0, f"it broke off at {lines[-1:]}: {ran.stderr[-2000:]}"
    found = [begun | told for begun, told in zip(lines[::2], lines[1::2], strict=True)]
    return found[: len(listed)], found[len(listed) :]


def test_every_file_gives_a_value_or_is_refused_in_a_sentence(corpus, readings):
    wrong = []
    for one, told in zip(corpus[2], readings[0], strict=True):
        message = told["message"]
        if told["error"] is None:
            fine = one.says is None
        else:
            fine = bool(REFUSALS & {*told["error"]}) and sentence(message) and re.search(one.says or "", message)
        if not fine:
            wrong.append(f"{one.road} {one.name}: {told['error']} {message[:400]!r}, not {one.says!r}")
    assert not wrong, "\n".join(wrong)


def sentence(message):
    """One sentence, of a length that is read, which gives away nothing of what a file held."""
    return "\n" not in message and 20 < len(message) < 700 and message.endswith(".") and "root:" not in message


def test_no_file_made_the_interpreter_do_anything_but_read(readings):
    assert not [told for told in readings[0] if told["events"]]


def test_no_file_took_much_memory_or_time(readings):
    assert not [told for told in readings[0] if told["grew"] > MEGABYTES]
    assert not [told for told in readings[0] if {"MemoryError", "TimeoutError"} & {*(told["error"] or ())}]


def test_nothing_was_written_beside_the_files(corpus, readings):
    place = corpus[0]
    assert not list(place.rglob("__pycache__"))
    assert not [path for path in place.rglob("*") if path.is_file() and path.name in (MARK, "written", "escaped.txt")]


def test_the_hook_sees_every_offence(readings):
    assert len(readings[1]) == 16
    for told in readings[1]:
        assert told["events"] and told["events"][0].startswith(told["path"]), told
