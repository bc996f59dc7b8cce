"""What is fetched from the hub, from which commit, and what is said before: against a hub that is not there."""

import inspect
import re
import shutil
from types import SimpleNamespace

import huggingface_hub
import pytest
import tiny_formats as tiny
import torch
from huggingface_hub import constants, errors

import ctrl
from ctrl.model.loading import families, hub
from ctrl.model.loading.extras import Extras, extras_in, extras_of, readers_in
from ctrl.model.loading.families import SD1, ControlNetSource, Family, IPAdapterFiles
from ctrl.model.loading.hub import Downloader, Hub

offline = pytest.fixture(autouse=True)(tiny.offline)
REAL = (huggingface_hub.model_info, huggingface_hub.snapshot_download)
FIRST, SECOND = "a" * 40, "b" * 40


class FakeHub:
    """The three functions of huggingface_hub that ctrl calls, over folders; the last only looks into the cache."""

    def __init__(self, monkeypatch, cache):
        self.cache, self.repos, self.heads, self.calls = cache, {}, {}, []
        self.broken = None
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(huggingface_hub, "model_info", self.model_info)
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.snapshot_download)

    def publish(self, repo, folder, commit=FIRST):
        self.repos[repo, commit] = folder
        self.heads[repo] = commit

    def model_info(self, repo, *, revision=None, files_metadata=False):
        self.calls.append(("info", repo, revision))
        if self.broken:
            raise self.broken
        commit = self.heads.get(repo) if revision in (None, "main") else revision
        if repo not in self.heads:
            raise _refusal(errors.RepositoryNotFoundError)
        if (repo, commit) not in self.repos:
            raise _refusal(errors.RevisionNotFoundError)
        folder = self.repos[repo, commit]
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        siblings = [SimpleNamespace(rfilename=str(one.relative_to(folder)), size=one.stat().st_size) for one in files]
        return SimpleNamespace(sha=commit, siblings=siblings)

    def snapshot_download(self, repo, *, revision, allow_patterns):
        self.calls.append(("fetch", repo, revision))
        home = self.cache / f"models--{repo.replace('/', '--')}"
        (home / "refs").mkdir(parents=True, exist_ok=True)
        (home / "refs" / "main").write_text(revision)
        for name in allow_patterns:
            target = home / "snapshots" / revision / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.repos[repo, revision] / name, target)
        return str(home / "snapshots" / revision)

    def fetched(self, repo, commit=FIRST):
        folder = self.cache / f"models--{repo.replace('/', '--')}" / "snapshots" / commit
        return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _refusal(kind):
    response = SimpleNamespace(headers={}, status_code=404, request=None, url="")
    return kind("404", response=response)


@pytest.fixture
def theirs(monkeypatch, tmp_path):
    return FakeHub(monkeypatch, tmp_path / "cache")


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A repository as they are: with the weights once more in half precision, as pickles, and with a checker."""
    folder = tiny.save_folder(tiny.sd1(), tmp_path_factory.mktemp("published") / "one")
    for part in ("unet", "vae", "text_encoder"):
        stem = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        for other in (f"{stem}.fp16.safetensors", f"{stem}.non_ema.safetensors", f"{stem}.bin"):
            shutil.copy(folder / part / f"{stem}.safetensors", folder / part / other)
    for extra in ("safety_checker/model.safetensors", "v1-5-pruned.safetensors", "README.md", "unet/run.py"):
        (folder / extra).parent.mkdir(exist_ok=True)
        (folder / extra).write_text("x")
    net = tiny.controlnet(tiny.sd1().unet)
    net.save_pretrained(folder / "controlnet_pose")
    return folder


@pytest.fixture
def said():
    return []


WANTED = {
    "model_index.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "tokenizer/tokenizer_config.json",
    "scheduler/scheduler_config.json",
}


def test_the_hubs_own_functions_take_what_they_are_given():
    info, fetch = (inspect.signature(function) for function in REAL)
    info.bind("owner/one", revision=None, files_metadata=True)
    fetch.bind("owner/one", revision=FIRST, allow_patterns=["a"])


def test_no_weight_is_fetched_of_a_model_whose_small_files_are_refused(theirs, published, said, tmp_path):
    odd = shutil.copytree(published, tmp_path / "odd")
    (odd / "scheduler" / "scheduler_config.json").write_text('{"beta_end": 7.0}')
    theirs.publish("owner/one", odd)
    with pytest.raises(ValueError, match=r"beta_end in scheduler_config\.json must be between"):
        ctrl.load("owner/one", device="cpu", tell=said.append)
    assert theirs.fetched("owner/one") == {name for name in WANTED if not name.endswith(".safetensors")}


def test_what_a_model_needs_is_fetched_once_and_said_before(theirs, published, said):
    theirs.publish("owner/one", published)

    def tell(sentence):
        said.append(sentence)
        assert not theirs.cache.exists()

    model = ctrl.load("owner/one", device="cpu", tell=tell)
    assert theirs.fetched("owner/one") == WANTED
    size = sum((published / name).stat().st_size for name in WANTED) / 1e6
    assert said == [f"source owner/one: fetching {size:.1f} MB (11 files) at aaaaaaaaaa from the hub."]
    assert model.parts.name == "owner/one"
    said.clear()
    ctrl.load("owner/one", device="cpu", tell=said.append)
    assert said == []


def test_every_part_is_of_one_commit_though_the_branch_moves_on(theirs, published, said, tmp_path):
    theirs.publish("owner/one", published)
    model = ctrl.load("owner/one", device="cpu", tell=said.append)
    moved = shutil.copytree(published, tmp_path / "moved")
    shutil.rmtree(moved / "controlnet_pose")
    theirs.publish("owner/one", moved, SECOND)
    assert "pose" in model.controls and len(said) == 1  # there, and not fetched yet
    assert "controlnet_pose/config.json" not in theirs.fetched("owner/one")
    assert model.extras.controlnet("pose", model.unet).config.cross_attention_dim == tiny.SIDE
    assert said[1].startswith("controlnets['pose'] owner/one/controlnet_pose: fetching ")
    assert {call[2] for call in theirs.calls if call[0] == "fetch"} == {FIRST}
    with pytest.raises(FileNotFoundError, match="source owner/one has no revision 'v9' on the hub"):
        ctrl.load("owner/one", revision="v9")


def test_with_local_files_only_nothing_is_asked_of_the_hub(theirs, published, said):
    theirs.publish("owner/one", published)
    with pytest.raises(FileNotFoundError) as caught:
        ctrl.load("owner/one", device="cpu", local_files_only=True, tell=said.append)
    assert str(caught.value) == (
        "source owner/one is not in the local cache (no model_index.json); load it once without local_files_only, or "
        "give a folder."
    )
    ctrl.load("owner/one", device="cpu", tell=said.append)
    theirs.calls.clear()
    model = ctrl.load("owner/one", device="cpu", local_files_only=True, tell=said.append)
    with pytest.raises(ValueError, match="no ControlNet for 'pose'"):  # it is not in the cache
        model.controlnet("pose")
    shelf = extras_of(Extras(), _family(), Downloader(local_files_only=True, tell=said.append))
    with pytest.raises(FileNotFoundError, match=r"controlnets\['depth'\] owner/net is not in the local cache"):
        shelf.controlnet("depth", model.unet)
    with pytest.raises(FileNotFoundError, match=r"ip_adapter owner/ip/one.safetensors is not in the local cache"):
        shelf.adapter_file()
    with pytest.raises(FileNotFoundError, match=r"lora\['lcm'\] owner/lora/one.safetensors is not in the local cache"):
        shelf.lora("lcm")
    weights = theirs.cache / "models--owner--one" / "snapshots" / FIRST / "vae" / "diffusion_pytorch_model.safetensors"
    weights.unlink()
    with pytest.raises(FileNotFoundError, match="is not whole in the local cache: vae lacks weights as safetensors"):
        ctrl.load("owner/one", device="cpu", local_files_only=True)
    assert theirs.calls == [] and len(said) == 1


def _family():
    return Family(
        "a tiny one",
        None,
        width=tiny.SIDE,
        text_encoders=SD1.text_encoders,
        controlnets={"depth": ControlNetSource(Hub("owner/net"))},
        adapters={"base": IPAdapterFiles(Hub("owner/ip", "one.safetensors"))},
        loras={"lcm": Hub("owner/lora", "one.safetensors")},
    )


def test_what_is_published_for_a_family_is_fetched_when_it_is_needed(theirs, said, tmp_path):
    written = tiny.sd1()
    net = tiny.controlnet(written.unet)
    tiny.save(tiny.original_controlnet(net), tmp_path / "nets" / "line art.safetensors")
    theirs.publish("owner/nets", tmp_path / "nets")
    net_of_hub = ControlNetSource(Hub("owner/nets", "line art.safetensors"))
    family = Family("tiny", None, tiny.SIDE, SD1.text_encoders, controlnets={"line art": net_of_hub})
    shelf = extras_of(Extras(), family, Downloader(tell=said.append))
    assert shelf.controls == ("line art",) and not theirs.calls
    got = shelf.controlnet("line art", written.unet)
    assert all(torch.equal(*pair) for pair in zip(got.state_dict().values(), net.state_dict().values(), strict=True))
    assert len(said) == 1 and "['line art'] owner/nets/line art.safetensors: fetching" in said[0]


def test_the_users_own_come_first_then_the_folders_then_the_familys(published, tmp_path):
    given = tiny.save({"x": torch.ones(1)}, tmp_path / "mine.safetensors")
    (tmp_path / "net").mkdir()
    folder = shutil.copytree(published, tmp_path / "model")
    for name in ("ip_adapter/ip_adapter.safetensors", "ip_adapter/plus_face.safetensors", "lora/ink.safetensors"):
        tiny.save({"x": torch.ones(1)}, folder / name)
    (folder / "image_encoder").mkdir()
    (folder / "image_encoder" / "config.json").write_text("{}")
    (folder / "controlnet_line_art").mkdir()
    (folder / "controlnet_line_art" / "config.json").write_text("{}")
    found = Downloader().folder("source", folder, "model_index.json", tuple)
    bare = extras_of(extras_in(found), _family(), Downloader())
    assert bare.controls == ("depth", "line art", "pose")
    assert bare.styles == ("base", "plus face") and bare.loras == ("lcm", "ink")
    assert bare.adapters["base"].file == folder / "ip_adapter" / "ip_adapter.safetensors"
    assert bare.adapters["base"].encoder == folder / "image_encoder"
    mine = {"controlnets": {"pose": tmp_path / "net"}, "ip_adapter": {"own": given}, "lora": given}
    full = extras_of(extras_in(found), _family(), Downloader(), readers_in(found), **mine)
    assert full.controlnets["pose"].place == tmp_path / "net"
    assert full.styles == ("own", "base", "plus face") and full.lora_sources["lcm"] == given
    with pytest.raises(ValueError, match="the kind 'canny', which ctrl calls 'edges'"):
        extras_of(extras_in(found), _family(), Downloader(), controlnets={"canny": given})
    for kind in ("controlnets", "ip_adapter", "lora"):
        wrong = {"pose": "./none"} if kind == "controlnets" else tmp_path / "none.safetensors"
        with pytest.raises(FileNotFoundError, match=rf"{kind}.* must be "):
            extras_of(extras_in(found), _family(), Downloader(), readers_in(found), **{kind: wrong})
    with pytest.raises(ValueError, match=r"no ControlNet for 'tile'; it has .*pose: load\(..., controlnets=...\)"):
        full.controlnet("tile", None)
    with pytest.raises(ValueError, match="no IP-Adapter 'none'; it has own, base, plus face"):
        full.adapter_file("none")


def test_half_weights_are_taken_only_where_there_is_nothing_else(theirs, published, tmp_path, said):
    halves = shutil.copytree(published, tmp_path / "halves")
    for weights in halves.glob("*/*.safetensors"):
        if ".fp16." not in weights.name and "controlnet" not in str(weights):
            weights.unlink()
    theirs.publish("owner/halves", halves)
    ctrl.load("owner/halves", device="cpu", tell=said.append)
    names = {name for name in theirs.fetched("owner/halves") if name.endswith(".safetensors")}
    assert names == {
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/diffusion_pytorch_model.fp16.safetensors",
        "text_encoder/model.fp16.safetensors",
    }
    (halves / "unet" / "diffusion_pytorch_model.fp16.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"cannot be loaded: unet lacks weights as safetensors \(pickled"):
        ctrl.load("owner/halves", device="cpu")


def test_without_a_connection_the_cache_serves_and_says_so(theirs, published, said):
    theirs.publish("owner/one", published)
    theirs.broken = ConnectionError("no route")
    with pytest.raises(FileNotFoundError, match=r"could not be fetched from the hub \(ConnectionError\) and is not in"):
        ctrl.load("owner/one", device="cpu")
    theirs.broken = None
    ctrl.load("owner/one", device="cpu", tell=said.append)
    theirs.broken = ConnectionError("no route")
    ctrl.load("owner/one", device="cpu", tell=said.append)
    assert said[1:] == [f"source owner/one: the hub cannot be reached (ConnectionError); {FIRST} is in the cache."]
    theirs.broken = None
    with pytest.raises(FileNotFoundError, match="source owner/two is not on the hub, or it needs you to accept"):
        ctrl.load("owner/two")


@pytest.mark.parametrize(
    "path", ["none", "./owner/name", "~/owner/name", "/owner/name", "owner/name/x", "owner/x.safetensors", "a b/c",
             "https://huggingface.co/owner/name", "owner\\name", "../owner/name", "tests/none", "-owner/name"]
)  # fmt: skip
def test_a_path_is_never_taken_for_a_hub_id(theirs, path):
    with pytest.raises(FileNotFoundError, match="source must be a folder or a hub id like 'owner/name'"):
        ctrl.load(path)
    assert theirs.calls == []


def test_a_single_file_comes_with_a_tokenizer_or_says_what_to_give(theirs, said, tmp_path):
    file = tiny.save_single(tiny.sd1(), tmp_path / "repo" / "one.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no tokenizer: install ctrl-diffusion.clip., or give tokenizer=, a"):
        ctrl.load(file, device="cpu", local_files_only=True)
    assert theirs.calls == []
    tiny.tokenizer(tmp_path / "clip")
    (tmp_path / "clip" / "model.safetensors").write_text("1.7 GB of what is not needed")
    theirs.publish("openai/clip-vit-large-patch14", tmp_path / "clip")
    theirs.publish("owner/files", tmp_path / "repo")
    model = ctrl.load(Hub("owner/files", "one.safetensors"), device="cpu", tell=said.append)
    assert model.parts.name == "one"
    assert [sentence.split(" ")[0] for sentence in said] == ["source", "tokenizer"]
    assert "model.safetensors" not in theirs.fetched("openai/clip-vit-large-patch14")
    ctrl.load(file, device="cpu", local_files_only=True)
    folder = tiny.save_folder(tiny.sd1(), tmp_path / "folder")
    ctrl.load(file, device="cpu", local_files_only=True, tokenizer=folder)


def test_the_table_of_what_is_published_is_well_formed():
    for family in (families.SD1, families.SD2, families.SDXL):
        places = [net.place for net in family.controlnets.values()]
        adapters = family.adapters.values()
        places += [place for one in adapters for place in (one.file, one.encoder)] + [*family.loras.values()]
        assert all(isinstance(place, Hub) and hub.OWNER_AND_NAME.fullmatch(place.repo) for place in places)
        assert all(re.fullmatch(r"[a-z]+( [a-z]+)*", kind) for kind in (*family.controlnets, *family.adapters))
        assert all(one.file.path.endswith(".safetensors") for one in adapters)
        assert {"pose", "depth", "edges"} <= family.controlnets.keys()
        unions = {net.mode for net in family.controlnets.values() if "union" in net.place.repo}
        assert unions <= set(range(6)) and (None not in unions)
    with pytest.raises(ValueError, match="repo must be a hub id"):
        Hub("no id")
    with pytest.raises(ValueError, match="path must be inside the repository"):
        Hub("owner/name", "../else.safetensors")
