"""Places on this disk and on the model hub. Files are fetched only when needed, from one commit, with a message first.

A path is never taken for a hub id. With `local_files_only` nothing is asked of the hub, not even whether it has
something newer: the local cache is complete, or an error says what is missing.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ctrl.model.loading.files import PICKLES

OWNER_AND_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
PAGE = re.compile(r"https?://(?:huggingface\.co|hf\.co)/([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})")
FILES = (".safetensors", ".json", ".gguf", ".onnx", *PICKLES)
Choice = Callable[[Sequence[str]], Sequence[str]]
Check = Callable[[Path], object]


@dataclass(frozen=True)
class Hub:
    """A repository of the hub, or a folder or a .safetensors file in it, at a revision: a branch, a tag or a commit."""

    repo: str
    path: str = ""
    revision: str | None = None

    def __post_init__(self) -> None:
        if not OWNER_AND_NAME.fullmatch(self.repo):
            raise ValueError(f"repo must be a hub id like 'owner/name', got {self.repo!r}.")
        if self.path.startswith("/") or "\\" in self.path or ".." in self.path.split("/"):
            raise ValueError(f"path must be inside the repository, like 'models/one.safetensors', got {self.path!r}.")

    def __str__(self) -> str:
        return f"{self.repo}/{self.path}" if self.path else self.repo

    def inside(self, name: str) -> Hub:
        """The folder or file of this name in this one."""
        return replace(self, path=f"{self.path}/{name}" if self.path else name)


Source = Path | Hub


def source_of(name: str, given: str | Path | Hub, revision: str | None = None) -> Source:
    """Where `given` is: a folder or file that exists, or a hub id like 'owner/name'; `name` is the argument's.

    What looks like a path is never looked up on the hub; one that does not exist raises a FileNotFoundError.
    """
    if not isinstance(revision, str | None):
        raise TypeError(f"revision must be a branch, a tag or a commit of the hub, got {revision!r:.60}.")
    if isinstance(given, Hub):
        return given if revision is None else replace(given, revision=revision)
    if not isinstance(given, str | Path):
        raise TypeError(f"{name} must be a path, a hub id like 'owner/name' or a Hub, got {given!r:.80}.")
    path = _existing(given)
    if path is not None:
        if revision is not None:
            raise ValueError(f"revision is for the hub, and {name} is {str(path)!r} on this disk; leave it out.")
        return path
    is_path = Path(given).parent.is_dir() or Path(given).suffix.lower() in FILES
    if isinstance(given, Path) or is_path or not OWNER_AND_NAME.fullmatch(given):
        page = PAGE.match(str(given))
        hint = f"; for the hub's model give {page[1]!r}" if page else ""
        raise FileNotFoundError(
            f"{name} must be a folder or a hub id like 'owner/name' or a .safetensors file; "
            f"{str(given)!r:.200} is no folder and no file{hint}."
        )
    return Hub(given, revision=revision)


def is_safetensors(name: str) -> bool:
    """Whether a file of this name is of that format."""
    return name.lower().endswith(".safetensors")


def _no_file(place: Path) -> str:
    """What a file by another ending is, as the end of a sentence."""
    pickled = place.suffix.lower() in PICKLES
    return "a pickle, which can run code when it is opened: convert it" if pickled else "none"


def _existing(name: str | Path) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if name != "" and path.exists() else None
    except (OSError, RuntimeError, ValueError):  # a name too long, the home of an unknown user, a NUL
        return None


@dataclass(frozen=True)
class Snapshot:
    """A place on this disk: its folder, the names in it, and the place it came from, at that commit."""

    place: Source
    folder: Path
    names: tuple[str, ...]

    def inside(self, name: str) -> Source:
        """The place of this name in it."""
        return self.place.inside(name) if isinstance(self.place, Hub) else self.place / name


def say(sentence: str) -> None:
    """To standard error, where progress bars go too."""
    sys.stderr.write(sentence + "\n")


@dataclass(frozen=True)
class Downloader:
    """Downloads files; `tell` is called with a message before each download."""

    local_files_only: bool = False
    tell: Callable[[str], None] = say

    def __post_init__(self) -> None:
        if not callable(self.tell):
            raise TypeError(f"tell must be a function of a sentence, got {self.tell!r:.60}.")

    def folder(
        self, name: str, place: Source, marks: Sequence[str], choose: Choice, check: Check = lambda _: None
    ) -> Snapshot:
        """A folder, with those of its files that `choose` picks from their names; it has one of `marks`.

        Where weights must be fetched, the smaller files come first and `check` is called with the folder.

        `choose` raises a FileNotFoundError of half a sentence where something lacks. What cannot be had raises a
        FileNotFoundError that says why and what to do; `name` is the argument's.
        """
        if isinstance(place, Hub):
            return self._brought(f"{name} {place}", place, marks, choose, check)
        if not place.is_dir():
            raise FileNotFoundError(f"{name} must be a folder, and {str(place)!r} is none.")
        return Snapshot(place, place, names_in(place))

    def file(self, name: str, place: Source) -> Path:
        """A .safetensors file."""
        if isinstance(place, Path):
            if not place.is_file() or not is_safetensors(place.name):
                raise FileNotFoundError(f"{name} must be a .safetensors file, and {str(place)!r} is {_no_file(place)}.")
            return place
        folder, _, file = place.path.rpartition("/")
        if not is_safetensors(file):
            raise FileNotFoundError(f"{name} must be a .safetensors file, and {place} is {_no_file(Path(file))}.")

        def only(names: Sequence[str]) -> tuple[str, ...]:
            if file not in names:
                raise FileNotFoundError(f"there is no {file}")
            return (file,)

        return self._brought(f"{name} {place}", replace(place, path=folder), (file,), only).folder / file

    def _brought(
        self, what: str, hub: Hub, marks: Sequence[str], choose: Choice, check: Check = lambda _: None
    ) -> Snapshot:
        if self.local_files_only:
            return self._cached(what, hub, marks, choose)
        return self._fetched(what, hub, marks, choose, check)

    def _fetched(self, what: str, hub: Hub, marks: Sequence[str], choose: Choice, check: Check) -> Snapshot:
        import huggingface_hub
        from huggingface_hub import errors

        try:
            info = huggingface_hub.model_info(hub.repo, revision=hub.revision, files_metadata=True)
        except errors.RepositoryNotFoundError as error:
            raise FileNotFoundError(
                f"{what} is not on the hub, or it needs you to accept its licence there and to log in "
                f"(`hf auth login`): {type(error).__name__}."
            ) from error
        except errors.RevisionNotFoundError as error:
            raise FileNotFoundError(f"{what} has no revision {hub.revision!r} on the hub.") from error
        except Exception as error:  # what a lost connection raises is named by the hub's client of the day
            return self._offline(what, hub, marks, choose, error)
        start = f"{hub.path}/" if hub.path else ""
        sizes = {sibling.rfilename.removeprefix(start): sibling.size or 0 for sibling in info.siblings or ()
                 if sibling.rfilename.startswith(start)}  # fmt: skip
        try:
            wanted = choose(tuple(sizes))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{what} cannot be loaded: {error}.") from error
        commit = str(info.sha)
        absent = [file for file in wanted if not _in_cache(hub.repo, start + file, commit)]
        if absent:
            size, many = _size(sum(sizes[file] for file in absent)), f"{len(absent)} file{'s' * (len(absent) > 1)}"
            self.tell(f"{what}: fetching {size} ({many}) at {commit[:10]} from the hub.")
        small = [file for file in wanted if not file.endswith(".safetensors")]
        if small and any(file.endswith(".safetensors") for file in absent):
            check(_download(what, hub.repo, commit, [start + file for file in small]) / hub.path)
        root = _download(what, hub.repo, commit, [start + file for file in wanted])
        return Snapshot(replace(hub, revision=commit), root / hub.path, tuple(sizes))

    def _offline(self, what: str, hub: Hub, marks: Sequence[str], choose: Choice, error: Exception) -> Snapshot:
        try:
            snapshot = self._cached(what, hub, marks, choose)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{what} could not be fetched from the hub ({type(error).__name__}) and is not in the local "
                "cache; check the connection, or give a folder."
            ) from error
        commit = snapshot.place.revision if isinstance(snapshot.place, Hub) else ""
        self.tell(f"{what}: the hub cannot be reached ({type(error).__name__}); {commit} is in the cache.")
        return snapshot

    def _cached(self, what: str, hub: Hub, marks: Sequence[str], choose: Choice) -> Snapshot:
        import huggingface_hub

        marked = [f"{hub.path}/{mark}" if hub.path else mark for mark in marks]
        cached = {key: huggingface_hub.try_to_load_from_cache(hub.repo, key, revision=hub.revision) for key in marked}
        name, at = next((pair for pair in cached.items() if isinstance(pair[1], str)), (marked[0], None))
        revision = f" at {hub.revision!r}" if hub.revision else ""
        remedy = "load it once without local_files_only, or give a folder"
        if not isinstance(at, str):
            raise FileNotFoundError(f"{what}{revision} is not in the local cache (no {name}); {remedy}.")
        root = Path(at).parents[name.count("/")]
        snapshot = Snapshot(replace(hub, revision=root.name), root / hub.path, names_in(root / hub.path))
        try:
            choose(snapshot.names)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{what}{revision} is not whole in the local cache: {error}; {remedy}.") from error
        return snapshot


def names_in(folder: Path) -> tuple[str, ...]:
    """The files in a folder and in its folders, by their names relative to it."""
    inside = (path for pattern in ("*", "*/*") for path in folder.glob(pattern))
    return tuple(sorted(path.relative_to(folder).as_posix() for path in inside if path.is_file()))


def _download(what: str, repo: str, commit: str, files: Sequence[str]) -> Path:
    """These files of a commit, in the cache: the commit's folder."""
    import huggingface_hub

    exactly = [_literal(file) for file in files]
    try:
        return Path(huggingface_hub.snapshot_download(repo, revision=commit, allow_patterns=exactly))
    except Exception as error:
        raise FileNotFoundError(
            f"fetching {what} broke off ({type(error).__name__}: {error}); load it again, what has come is kept."
        ) from error


def _in_cache(repo: str, file: str, commit: str) -> bool:
    import huggingface_hub

    path: Any = huggingface_hub.try_to_load_from_cache(repo, file, revision=commit)
    return isinstance(path, str)


def _literal(name: str) -> str:
    """A name as a pattern that matches nothing else."""
    return re.sub(r"([*?\[])", r"[\1]", name)


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count} bytes"
