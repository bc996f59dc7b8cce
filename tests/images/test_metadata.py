"""What pictures of other programs say about how they were made."""

import io
import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from variety import share

from ctrl.images.metadata import Generation, LoraUse, read_generation, to_parameters
from ctrl.images.metadata.generation import plain_sampler, plain_schedule


def png(compressed=(), **texts):
    info = PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword, text if isinstance(text, str) else json.dumps(text), zip=keyword in compressed)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def with_comment(kind, text, encoding="utf-16-be"):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + text.encode(encoding)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, kind, exif=exif.tobytes())
    return buffer.getvalue()


A1111 = """a (red:1.2) ball, <lora:toy:0.8> on grass,
at noon <lora:other thing:-1>
Negative prompt: blurry, Steps of stone,
bad hands
Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 639466906728691, Size: 512x768, \
Model hash: abc, Model: dreamy_8, Clip skip: 2, Lora hashes: "toy: 1, other: 2", \
ControlNet 0: "Module: canny, Weight: 1", Version: v1.10.1"""


def test_a1111_is_read():
    expected = Generation(
        program="A1111",
        prompt="a (red:1.2) ball,  on grass,\nat noon",
        negative="blurry, Steps of stone,\nbad hands",
        steps=20,
        sampler="dpm++ 2m",
        schedule="karras",
        guidance=7.5,
        seed=639466906728691,
        size=(512, 768),
        model="dreamy_8",
        clip_skip=2,
        loras=(("toy", 0.8, None), ("other thing", -1.0, None)),
        notes=("ControlNet 0: Module: canny, Weight: 1 has no counterpart here and was left out",),
    )
    assert read_generation(png(parameters=A1111)) == expected
    assert read_generation(png(compressed=("parameters",), parameters=A1111)) == expected
    for kind in ("JPEG", "WEBP", "PNG"):
        assert read_generation(with_comment(kind, A1111)) == expected
        assert read_generation(with_comment(kind, A1111, "utf-16-le")) == expected


CIVITAI = (
    "Negative space, fog, a vintage car Negative prompt: Steps: 23, Sampler: Undefined, CFG scale: 3.5, "
    "Seed: 1760020955, Size: 832x1216, Clip skip: 2, Created Date: 2025-11-28T09:18:43.5269343Z, "
    'Civitai resources: [{"type":"checkpoint","modelVersionId":1,"modelName":"Z, Image: x"}], Civitai metadata: {}'
)


def test_civitai_writes_all_in_a_line():
    found = read_generation(with_comment("JPEG", CIVITAI))
    assert (found.prompt, found.negative) == ("Negative space, fog, a vintage car", "")
    assert (found.steps, found.guidance, found.seed, found.size) == (23, 3.5, 1760020955, (832, 1216))
    assert found.notes == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a ball", {"prompt": "a ball"}),
        ("a ball\nSteps: 4", {"prompt": "a ball", "steps": 4}),
        ("Steps: 4, Seed: 1", {"prompt": "", "steps": 4, "seed": 1}),
        ("", {"prompt": ""}),
        ("a ball\nNegative prompt: b", {"prompt": "a ball", "negative": "b"}),
        ("a\nSteps: 30, Sampler: Euler a, Schedule type: Automatic", {"sampler": "euler a", "schedule": None}),
        ("a\nSteps: 30, Sampler: DPM++ 2M SDE Karras", {"sampler": "dpm++ 2m sde", "schedule": "karras"}),
        ("a\nSteps: 30, Sampler: Restart", {"sampler": "restart"}),
        ("a\nSteps: 30, Denoising strength: 0.5, Mask blur: 4", {"strength": 0.5}),
        ("a\nSteps: 30, Denoising strength: 0.5, Hires upscale: 2", {"strength": None}),
        ("a\nSteps: many, CFG scale: nan, Seed: -1, Size: 5", {"steps": None, "guidance": None, "seed": None}),
        ("Steps: 5\nof stone\nSteps: 6, Seed: 7", {"prompt": "Steps: 5\nof stone", "steps": 6}),
        (
            "Schritte über 丘\nSteps: 6, Model: ein Modell, mit Komma, Seed: 7",
            {"model": "ein Modell, mit Komma", "seed": 7},
        ),
    ],
)
def test_every_form_of_a1111_text(text, expected):
    found = read_generation(png(parameters=text))
    assert {name: getattr(found, name) for name in expected} == expected


def test_what_a1111_did_besides_is_noted():
    text = "a\nSteps: 30, Denoising strength: 0.5, Mask blur: 4, Face restoration: CodeFormer, ENSD: 31337"
    assert read_generation(png(parameters=text)).notes == (
        "the image it was made from is not in the file; give it as image=...",
        "Mask blur: 4 has no counterpart here and was left out",
        "Face restoration: CodeFormer has no counterpart here and was left out",
    )


words = st.text(st.characters(codec="utf-8", exclude_characters="<>\r", exclude_categories=("Cc", "Cs")), max_size=30)
plain = words.map(str.strip).filter(lambda text: "Negative prompt:" not in text and "Steps:" not in text)
weights = st.floats(-10, 10).map(lambda value: float(f"{value:g}"))
uses = st.builds(LoraUse, st.sampled_from(["toy", "a b"]), weights, st.none() | weights).filter(
    lambda use: use.text != use.weight
)
numbers = st.floats(0, 100).map(lambda value: float(f"{value:g}"))
SAMPLERS = ["euler", "euler a", "heun", "ddim", "ddpm", "pndm", "dpm++ 2m", "dpm++ 2m sde", "dpm++ sde", "unipc", "lcm"]


@given(
    plain,
    plain,
    st.integers(1, 1000),
    st.sampled_from(SAMPLERS),
    st.sampled_from([None, "karras", "exponential", "trailing"]),
    numbers,
    st.integers(0, 2**63 - 1),
    st.lists(uses, max_size=2).map(tuple),
    st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), min_size=1).map(str.strip).filter(bool),
)
@settings(max_examples=share(150), deadline=None)
def test_parameters_are_read_as_they_were_written(
    prompt, negative, steps, sampler, schedule, guidance, seed, loras, model
):
    made = Generation(
        "A1111", prompt, negative, steps, sampler, schedule, guidance, seed, (512, 768), None, model, 2, loras
    )
    assert read_generation(png(parameters=to_parameters(made))) == made


GRAPH = {
    "3": {"class_type": "KSampler", "inputs": {
        "seed": 5, "steps": 20, "cfg": 8.0, "sampler_name": "dpmpp_2m_sde_gpu", "scheduler": "karras", "denoise": 1.0,
        "model": ["11", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sub/dreamy.safetensors"}},
    "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 768, "batch_size": 1}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red ball", "clip": ["11", 1]}},
    "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["11", 1]}},
    "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}, "is_changed": [float("nan")]},
    "10": {"class_type": "LoraLoader", "inputs": {
        "lora_name": "toy.safetensors", "strength_model": 0.8, "model": ["4", 0], "clip": ["4", 1]}},
    "11": {"class_type": "LoraLoader", "inputs": {
        "lora_name": "x\\other.safetensors", "strength_model": 0.5, "model": ["10", 0], "clip": ["10", 1]}},
}  # fmt: skip
COMFY = Generation(
    "ComfyUI", "a red ball", "blurry", 20, "dpm++ 2m sde", "karras", 8.0, 5, (512, 768), None, "dreamy", None,
    (("toy", 0.8, None), ("other", 0.5, None)),
)  # fmt: skip


def changed(**nodes):
    graph = json.loads(json.dumps(GRAPH))
    for id, (kind, inputs) in nodes.items():
        node = graph.setdefault(id.strip("n"), {"class_type": kind, "inputs": {}})
        node["class_type"] = kind
        node["inputs"].update(inputs)
    return graph


def test_comfyui_is_read_from_its_sampler_up():
    assert read_generation(png(prompt=GRAPH, workflow={"nodes": []})) == COMFY
    exif = Image.Exif()
    exif[0x0110] = "prompt:" + json.dumps(GRAPH)  # the camera's model
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "WEBP", exif=exif)
    assert read_generation(buffer.getvalue()) == COMFY


def test_comfyuis_values_may_come_from_nodes_of_their_own():
    graph = changed(
        n3=("KSampler", {"seed": ["20", 0]}),
        n20=("PrimitiveInt", {"value": 5}),
        n6=("CLIPTextEncode", {"text": ["21", 0]}),
        n21=("Text Multiline", {"text": "a red ball"}),
        n5=("EmptySD3LatentImage", {"width": ["22", 0]}),
        n22=("PrimitiveNode", {"value": 512}),
    )
    assert read_generation(png(prompt=graph)) == COMFY


def test_comfyuis_custom_sampling_is_read():
    graph = changed(
        n3=("SamplerCustomAdvanced", {}),
        n30=("RandomNoise", {"noise_seed": 5}),
        n31=("CFGGuider", {"cfg": 8.0, "model": ["11", 0], "positive": ["6", 0], "negative": ["7", 0]}),
        n32=("KSamplerSelect", {"sampler_name": "dpmpp_2m_sde"}),
        n33=("BasicScheduler", {"scheduler": "karras", "steps": 20, "denoise": 1.0, "model": ["11", 0]}),
    )
    links = {
        "noise": ["30", 0],
        "guider": ["31", 0],
        "sampler": ["32", 0],
        "sigmas": ["33", 0],
        "latent_image": ["5", 0],
    }
    graph["3"]["inputs"] = links
    assert read_generation(png(prompt=graph)) == COMFY


def test_comfyuis_controls_and_further_passes_are_noted():
    graph = changed(
        n3=("KSamplerAdvanced", {"noise_seed": 5, "positive": ["40", 0], "negative": ["40", 1]}),
        n40=("ControlNetApplyAdvanced", {
            "positive": ["6", 0], "negative": ["7", 0], "control_net": ["41", 0], "image": ["42", 0], "strength": 0.7}),
        n50=("LatentUpscale", {"samples": ["3", 0], "width": 1024, "height": 1536}),
        n51=("KSampler", {
            "seed": 6, "steps": 9, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.5,
            "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["50", 0]}),
    )  # fmt: skip
    del graph["3"]["inputs"]["seed"]
    graph["8"]["inputs"]["samples"] = ["51", 0]
    found = read_generation(png(prompt={"51": graph.pop("51"), **graph}))
    assert found.notes == (
        "a ControlNet at strength 0.7 has no counterpart here and was left out",
        "a further pass by KSampler has no counterpart here and was left out",
        "the node LatentUpscale was not read",
    )
    assert (found.prompt, found.negative, found.steps, found.seed, found.size) == (
        "a red ball",
        "blurry",
        20,
        5,
        (512, 768),
    )


def test_comfyui_may_start_from_an_image_and_combine_prompts():
    graph = changed(
        n3=("KSampler", {"latent_image": ["60", 0], "denoise": 0.6, "positive": ["62", 0], "negative": ["64", 0]}),
        n60=("VAEEncode", {"pixels": ["61", 0], "vae": ["4", 2]}),
        n61=("LoadImage", {"image": "a.png"}),
        n62=("ConditioningCombine", {"conditioning_1": ["6", 0], "conditioning_2": ["63", 0]}),
        n63=("CLIPTextEncodeSDXL", {"text_g": "on grass", "text_l": "on grass", "clip": ["11", 1]}),
        n64=("ConditioningZeroOut", {"conditioning": ["6", 0]}),
    )
    found = read_generation(png(prompt=graph))
    assert (found.prompt, found.negative, found.strength, found.size) == ("a red ball, on grass", "", 0.6, None)
    assert found.notes == (
        "the way in which 2 prompts were combined has no counterpart here and was left out",
        "the image it was made from is not in the file; give it as image=...",
    )


def test_comfyuis_graph_may_go_in_circles():
    graph = changed(
        n6=("Conditioning", {"text": ["6", 0], "conditioning": ["6", 0]}), n10=("LoraLoader", {"model": ["11", 0]})
    )
    graph["5"]["inputs"] = {"samples": ["3", 0]}
    assert read_generation(png(prompt=graph)).steps == 20


def test_comfyuis_drawing_alone_is_read_too():
    def node(id, kind, values, **links):
        return {
            "id": id,
            "type": kind,
            "widgets_values": values,
            "inputs": [{"name": n, "link": at} for n, at in links.items()],
        }

    workflow = {
        "nodes": [
            node(3, "KSampler", [5, "randomize", 20, 8, "dpmpp_2m_sde", "karras", 1],
                 model=1, positive=2, negative=3, latent_image=4),
            node(11, "LoraLoader", ["other.safetensors", 0.5, 0.5], model=5),
            node(10, "LoraLoader", ["toy.safetensors", 0.8, 0.8], model=6),
            node(4, "CheckpointLoaderSimple", ["dreamy.safetensors"]),
            node(6, "CLIPTextEncode", ["a red ball"]),
            node(7, "CLIPTextEncode", ["blurry"]),
            node(5, "EmptyLatentImage", [512, 768, 1]),
            {"id": 99, "type": "KSampler", "mode": 4, "widgets_values": [1, "fixed", 1, 1, "euler", "normal", 1]},
        ],
        "links": [
            [1, 11, 0, 3, 0, "MODEL"], [2, 6, 0, 3, 1, "C"], [3, 7, 0, 3, 2, "C"], [4, 5, 0, 3, 3, "LATENT"],
            [5, 10, 0, 11, 0, "MODEL"], {"id": 6, "origin_id": 4, "origin_slot": 0, "target_id": 10, "target_slot": 0},
        ],
    }  # fmt: skip
    assert read_generation(png(workflow=workflow)) == COMFY


INVOKE = {
    "generation_mode": "txt2img", "positive_prompt": "a red ball", "negative_prompt": "blurry", "width": 512,
    "height": 768, "seed": 5, "cfg_scale": 8.0, "steps": 20, "scheduler": "dpmpp_2m_sde_k", "clip_skip": 0,
    "strength": 0.75, "model": {"key": "k", "hash": "blake3:0", "name": "dreamy", "base": "sd-1"}, "controlnets": [],
    "loras": [{"model": {"name": "toy"}, "weight": 0.8}, {"lora": {"model_name": "other"}, "weight": 0.5}],
}  # fmt: skip


def test_invokeai_is_read():
    found = read_generation(png(invokeai_metadata=INVOKE, invokeai_graph={}))
    assert found == Generation(**{**vars(COMFY), "program": "InvokeAI"})
    again = read_generation(
        png(invokeai_metadata=INVOKE | {"generation_mode": "sdxl_img2img", "controlnets": [{"a": 1}]})
    )
    assert again.strength == 0.75
    assert again.notes == (
        "controlnets: [{'a': 1}] has no counterpart here and was left out",
        "the image it was made from is not in the file; give it as image=...",
    )


def test_older_invokeai_is_read():
    image = {
        "prompt": [{"prompt": "a red ball [blurry]", "weight": 1.0}], "steps": 20, "cfg_scale": 8.0, "seed": 5,
        "width": 512, "height": 768, "sampler": "k_euler_a", "type": "txt2img",
    }  # fmt: skip
    expected = Generation("InvokeAI", "a red ball", "blurry", 20, "euler a", None, 8.0, 5, (512, 768), None, "dreamy")
    second = {"model": "stable diffusion", "model_weights": "dreamy", "image": image}
    assert read_generation(png(**{"sd-metadata": second})) == expected
    line = '"a red ball [blurry]" -s 20 -S 5 -W 512 -H 768 -C 8.0 -A k_euler_a'
    assert read_generation(png(Dream=line)) == Generation(**{**vars(expected), "model": None})


def test_json_of_other_programs_is_read():
    swarm = {"sui_image_params": {
        "prompt": "a red ball", "negativeprompt": "blurry", "model": "dreamy", "seed": 5, "steps": 20, "cfgscale": 8.0,
        "width": 512, "height": 768, "sampler": "euler_ancestral"}}  # fmt: skip
    fooocus = {
        "prompt": "a red ball", "negative_prompt": "blurry", "base_model": "dreamy", "seed": "5", "steps": 20,
        "guidance_scale": 8.0, "resolution": "(512, 768)", "sampler": "euler_ancestral"}  # fmt: skip
    for written in (swarm, fooocus):
        found = read_generation(png(parameters=written))
        assert (found.prompt, found.negative, found.steps, found.sampler) == ("a red ball", "blurry", 20, "euler a")
        assert (found.guidance, found.seed, found.size, found.model) == (8.0, 5, (512, 768), "dreamy")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DPM++ 2M Karras", ("dpm++ 2m", "karras")), ("dpmpp_2m", ("dpm++ 2m", None)), ("Euler a", ("euler a", None)),
        ("euler_ancestral", ("euler a", None)), ("k_euler_a", ("euler a", None)),
        ("dpmpp_2m_sde_gpu", ("dpm++ 2m sde", None)),
        ("dpmpp_2m_k", ("dpm++ 2m", "karras")), ("DPM++ SDE Exponential", ("dpm++ sde", "exponential")),
        ("PLMS", ("pndm", None)), ("UniPC", ("unipc", None)), ("uni_pc", ("unipc", None)), ("DDIM", ("ddim", None)),
        ("k_heun", ("heun", None)), ("DPM fast", ("dpm fast", None)), ("res_multistep", ("res_multistep", None)),
    ],
)  # fmt: skip
def test_samplers_in_our_words(name, expected):
    assert plain_sampler(name) == expected


def test_schedules_in_our_words():
    names = ("Karras", "SGM Uniform", "sgm_uniform", "simple", "normal", "Automatic", "beta")
    expected = ["karras", "trailing", "trailing", "trailing", None, None, "beta"]
    assert [plain_schedule(name) for name in names] == expected


def test_a_picture_that_says_nothing_says_nothing():
    assert read_generation(png()) is None
    assert read_generation(png(Software="paint", Comment="a holiday")) is None
    for kind in ("JPEG", "WEBP"):
        buffer = io.BytesIO()
        Image.new("RGB", (8, 8)).save(buffer, kind)
        assert read_generation(buffer.getvalue()) is None


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        ({"prompt": "{"}, "what ComfyUI wrote into the picture is not JSON"),
        ({"prompt": "[1]"}, "no JSON object"),
        ({"prompt": "[" * 100_000}, "not JSON"),
        ({"prompt": "{}"}, "no sampler whose settings could be read"),
        ({"workflow": '{"nodes": 5, "links": [3, [], {}]}'}, "no sampler"),
        ({"invokeai_metadata": "nonsense"}, "what InvokeAI wrote into the picture is not JSON"),
    ],
)
def test_what_is_broken_is_refused_in_a_sentence(texts, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_generation(png(**texts))


def test_what_is_no_picture_is_refused_in_a_sentence():
    for data in (b"", b"GIF89a", png(parameters="a")[:-20], b"\xff\xd8\xff" + bytes(9)):
        with pytest.raises(ValueError, match=r"cannot be read|middle of a chunk"):
            read_generation(data)


@pytest.mark.slow
def test_compressed_texts_are_read_to_a_limit():
    bomb = zlib.compress(b"x" * (64 << 20), 9)
    body = b"parameters\0\0" + bomb
    chunk = len(body).to_bytes(4, "big") + b"zTXt" + body + zlib.crc32(b"zTXt" + body).to_bytes(4, "big")
    data = png()
    assert len(read_generation(data[:33] + chunk + data[33:]).prompt) == 16 << 20


leaves = st.none() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([["3", 0], ["6", 1]])
keys = [
    "3",
    "6",
    "class_type",
    "inputs",
    "seed",
    "latent_image",
    "positive",
    "text",
    "model",
    "nodes",
    "image",
    "loras",
]


@given(
    st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(keys), inner, max_size=4),
        max_leaves=20,
    )
)
@settings(max_examples=share(200), deadline=None)
def test_no_json_breaks_the_reading(found):
    for keyword in ("prompt", "workflow", "invokeai_metadata", "parameters", "sd-metadata", "Dream", "Comment"):
        try:
            read_generation(png(**{keyword: json.dumps(found)}))
        except ValueError as error:
            assert str(error).endswith(".")
