"""What other programs did to a picture and ctrl does not: each thing is read, or a note says that it was not."""

import pytest
from test_metadata import A1111, GRAPH, INVOKE, changed, png

from ctrl.images import lora_tags
from ctrl.images.metadata import Generation, read_generation, to_parameters

ONE_LINE = "a cat, sitting Negative prompt: ugly Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x768"
END = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1"


@pytest.mark.parametrize(
    ("text", "prompt", "negative"),
    [
        (A1111.replace("\n", "\r\n"), "a (red:1.2) ball,  on grass,\nat noon", "blurry, Steps of stone,\nbad hands"),
        (ONE_LINE, "a cat, sitting", "ugly"),
        (f"a sign: Negative prompt: no\nNegative prompt: bad\n{END}", "a sign: Negative prompt: no", "bad"),
        (f"a\nNegative prompt: b\nSeed: 7, {END}", "a", "b"),
        (f"a\n\nb\n\nNegative prompt: c\n\n{END}\n\n", "a\n\nb", "c"),
        (f"Negative prompt: b\n{END}", "", "b"),
    ],
)
def test_odd_line_breaks_of_a1111_are_read(text, prompt, negative):
    found = read_generation(png(parameters=text))
    assert (found.prompt, found.negative, found.steps) == (prompt, negative, 20)


@pytest.mark.parametrize(
    ("tag", "lora", "note"),
    [
        ("<lora:toy>", ("toy", 1.0, None), None),
        ("<lyco:toy:0.5>", ("toy", 0.5, None), None),
        ("<LoRA:toy:0.5:0.8>", ("toy", 0.8, 0.5), None),
        ("<lora:toy:0.5:unet=0.8>", ("toy", 0.8, 0.5), None),
        ("<lora:toy:te=0.5:unet=0.8>", ("toy", 0.8, 0.5), None),
        ("<lora:toy:unet=0.8>", ("toy", 0.8, 1.0), None),
        ("<lora:toy:0.5:lbw=OUTALL>", ("toy", 0.5, None), "lbw=OUTALL of the LoRA 'toy'"),
    ],
)
def test_a_lora_has_the_weights_that_its_tag_gives_it(tag, lora, note):
    found = read_generation(png(parameters=f"a ball {tag}\n{END}"))
    assert (found.prompt, found.loras) == ("a ball", (lora,))
    assert found.notes == (() if note is None else (f"{note} has no counterpart here and was left out",))
    again = read_generation(png(parameters=to_parameters(found)))
    assert again.loras == found.loras


@pytest.mark.parametrize("text", ["<lora:toy:abc>", "<lora:toy:99>", "<lora::1>", "<lora>", "<hypernet:a:1>"])
def test_what_is_no_lora_stays_in_the_prompt(text):
    assert lora_tags(text) == []
    assert read_generation(png(parameters=f"a {text}\n{END}")).prompt == f"a {text}"


def test_a_note_is_one_line_and_names_adetailer_hires_fix_a_vae_and_civitais_loras():
    resources = '[{"type":"checkpoint","modelName":"M"},{"type":"lora","weight":0.7,"modelName":"Toy"}]'
    text = (
        f'a\n{END}, ADetailer prompt: "a face,\\nsmiling: yes", Hires upscale: 2, VAE: vae-ft-mse.safetensors, '
        f"Civitai resources: {resources}"
    )
    assert read_generation(png(parameters=text)).notes == (
        "ADetailer prompt: a face, smiling: yes has no counterpart here and was left out",
        "Hires upscale: 2 has no counterpart here and was left out",
        "it was made with the VAE 'vae-ft-mse'; load it with ctrl.load(..., vae=...)",
        "the LoRA Toy at 0.7 has no counterpart here and was left out",
    )


def with_inputs(graph, **nodes):
    for id, inputs in nodes.items():
        graph[id.strip("n")]["inputs"].update(inputs)
    return graph


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


@pytest.mark.parametrize(
    ("further", "links", "expected"),
    [
        ({}, {"n10": {"strength_clip": 0.3}}, {"loras": (("toy", 0.8, 0.3), ("other", 0.5, None))}),
        ({"70": node("CLIPSetLastLayer", stop_at_clip_layer=-2, clip=["11", 1])}, {"n6": {"clip": ["70", 0]}},
         {"clip_skip": 2}),
        ({"80": node("StringConcatenate", string_a="a red", string_b="ball", delimiter=" ")},
         {"n6": {"text": ["80", 0]}}, {"prompt": "a red ball"}),
        ({"80": node("Wildcards", wildcard_text="a {red|blue} ball", populated_text="a red ball")},
         {"n6": {"text": ["80", 0]}}, {"prompt": "a red ball"}),
        ({"80": node("Reroute", **{"": ["6", 0]})}, {"n3": {"positive": ["80", 0]}}, {"prompt": "a red ball"}),
        ({"71": node("Lora Stack", model=["4", 0], lora_01="toy.safetensors", strength_01=0.8, lora_02="None",
                     strength_02=1)}, {"n3": {"model": ["71", 0]}, "n6": {"clip": ["4", 1]}, "n7": {"clip": ["4", 1]}},
         {"loras": (("toy", 0.8, None),)}),
        ({}, {"n5": {"width": ["5", 9], "dimensions": " 1024 x 768  (landscape)"}}, {"size": (1024, 768)}),
    ],
)  # fmt: skip
def test_what_comfyui_hands_on_through_nodes_is_read_without_a_note(further, links, expected):
    found = read_generation(png(prompt=with_inputs(changed() | further, **links)))
    assert {name: getattr(found, name) for name in expected} == expected
    assert found.notes == ()


@pytest.mark.parametrize(
    ("further", "links", "note"),
    [
        ({"71": node("IPAdapterAdvanced", model=["11", 0], ipadapter=["72", 0], weight=0.8)},
         {"n3": {"model": ["71", 0]}}, "the node IPAdapterAdvanced was not read"),
        ({"71": node("FaceDetailer", image=["8", 0], seed=1, steps=9, vae=["4", 2])}, {"n9": {"images": ["71", 0]}},
         "the node FaceDetailer was not read"),
        ({"71": node("ImageUpscaleWithModel", image=["8", 0])}, {"n9": {"images": ["71", 0]}},
         "the node ImageUpscaleWithModel was not read"),
        ({"71": node("ConditioningSetArea", conditioning=["6", 0], width=64)}, {"n3": {"positive": ["71", 0]}},
         "the node ConditioningSetArea was not read"),
        ({"71": node("LanguageModel", question="what?")}, {"n6": {"text": ["71", 0]}},
         "a prompt that the node LanguageModel made has no counterpart here and was left out"),
        ({"71": node("VAELoader", vae_name="mse.safetensors")}, {"n8": {"vae": ["71", 0]}},
         "it was made with the VAE 'mse'; load it with ctrl.load(..., vae=...)"),
        ({"5": node("Sizes", preset="portrait")}, {},
         "its size is not known; give it as width=... and height=..."),
        ({"6": node("CLIPTextEncodeSDXL", text_g="a red ball", text_l="a photo")}, {},
         "the first text encoder's own prompt 'a photo' has no counterpart here and was left out"),
        ({}, {"n3": {"end_at_step": 15}}, "its end at step 15 of 20 has no counterpart here and was left out"),
        ({"60": node("VAEEncodeForInpaint", pixels=["61", 0], mask=["61", 1])}, {"n3": {"latent_image": ["60", 0]}},
         "its mask has no counterpart here and was left out"),
    ],
)  # fmt: skip
def test_what_comfyui_did_besides_is_noted(further, links, note):
    assert note in read_generation(png(prompt=with_inputs(changed() | further, **links))).notes


def test_what_comfyui_only_previewed_is_no_part_of_the_picture():
    other = node("KSampler", **GRAPH["3"]["inputs"] | {"seed": 9, "steps": 7})
    graph = {"1": other, "2": node("VAEDecode", samples=["1", 0]), "12": node("PreviewImage", images=["2", 0])}
    found = read_generation(png(prompt=graph | changed()))
    assert (found.seed, found.steps, found.notes) == (5, 20, ())


@pytest.mark.parametrize(
    ("sampler", "sigmas", "expected"),
    [
        ("SamplerDPMPP_2M_SDE", node("KarrasScheduler", steps=20, rho=7), ("dpm++ 2m sde", "karras")),
        ("SamplerEulerAncestral", node("ExponentialScheduler", steps=20), ("euler a", "exponential")),
        ("SamplerLCM", node("AlignYourStepsScheduler", steps=20, denoise=1), ("lcm", "alignyourstepsscheduler")),
    ],
)
def test_samplers_that_are_nodes_of_their_own_are_read(sampler, sigmas, expected):
    graph = changed() | {
        "30": node("RandomNoise", noise_seed=5),
        "31": node("CFGGuider", cfg=8.0, model=["11", 0], positive=["6", 0], negative=["7", 0]),
        "32": node(sampler, eta=1),
        "33": sigmas,
    }
    sources = {"noise": "30", "guider": "31", "sampler": "32", "sigmas": "33", "latent_image": "5"}
    graph["3"] = node("SamplerCustomAdvanced", **{name: [id, 0] for name, id in sources.items()})
    found = read_generation(png(prompt=graph))
    assert (found.sampler, found.schedule, found.steps, found.notes) == (*expected, 20, ())


def drawn(id, kind, values, mode=0, **links):
    inputs = [{"name": name, "link": link} for name, link in links.items()]
    return {"id": id, "type": kind, "widgets_values": values, "inputs": inputs, "mode": mode}


NODES = [
    drawn(3, "KSampler", [5, "fixed", 20, 8, "euler", "karras", 1], model=1, positive=2, latent_image=4),
    drawn(20, "Reroute", None, **{"": 7}),
    drawn(30, "LoraLoader", ["toy.safetensors", 0.8, 1], mode=4, model=8),
    drawn(4, "CheckpointLoaderSimple", ["dreamy.safetensors"]),
    drawn(6, "CLIPTextEncode", ["a red ball"]),
    drawn(5, "EmptyLatentImage", [512, 768, 1]),
]
LINKS = [
    [1, 30, 0, 3, 0, "M"],
    [2, 20, 0, 3, 1, "C"],
    [4, 5, 0, 3, 3, "L"],
    [7, 6, 0, 20, 0, "*"],
    [8, 4, 0, 30, 0, "M"],
]


def test_a_drawing_with_reroutes_bypassed_nodes_and_named_values_is_read():
    expected = Generation("ComfyUI", "a red ball", "", 20, "euler", "karras", 8.0, 5, (512, 768), None, "dreamy")
    assert read_generation(png(workflow={"nodes": NODES, "links": LINKS})) == expected
    values = {"seed": 5, "steps": 20, "cfg": 8, "sampler_name": "euler", "scheduler": "karras", "denoise": 1}
    named = [{**NODES[0], "widgets_values": values}, *NODES[1:]]
    assert read_generation(png(workflow={"nodes": named, "links": LINKS})) == expected
    objects = [dict(zip(("id", "origin_id", "origin_slot"), link, strict=False)) for link in LINKS]
    part = {"id": "a-b", "nodes": NODES, "links": objects}
    outer = {"nodes": [drawn(1, "a-b", [])], "links": [], "definitions": {"subgraphs": [part]}}
    assert read_generation(png(workflow=outer)) == expected


@pytest.mark.parametrize(
    ("setting", "value"),
    [("positive_style_prompt", "ink"), ("seamless_x", True), ("cfg_rescale_multiplier", 0.7), ("ref_images", [{}]),
     ("canvas_v2_metadata", {"regionalGuidance": [1]}), ("ipAdapters", [1]), ("regions", [1])],
)  # fmt: skip
def test_every_setting_of_invokeai_that_is_on_is_noted(setting, value):
    found = read_generation(png(invokeai_metadata=INVOKE | {setting: value}))
    assert found.notes == (f"{setting}: {value} has no counterpart here and was left out",)
    off = INVOKE | {setting: None, "app_version": "5", "rand_device": "cpu", "vae": None}
    assert read_generation(png(invokeai_metadata=off)).notes == ()


def test_clip_skip_counts_as_each_program_counts_it():
    assert read_generation(png(invokeai_metadata=INVOKE | {"clip_skip": 1})).clip_skip == 2
    assert read_generation(png(parameters=f"a\n{END}, Clip skip: 2")).clip_skip == 2
    swarm = {"sui_image_params": {"prompt": "a", "seed": 1, "clipstopatlayer": -2}}
    assert read_generation(png(parameters=swarm)).clip_skip == 2


def test_a_schedule_beside_a_sampler_and_loras_beside_their_weights_are_read():
    swarm = {"prompt": "a", "sampler": "dpmpp_2m", "scheduler": "karras", "loras": ["x"], "loraweights": ["0.7"],
             "variationseed": 3, "variationseedstrength": 0.2}  # fmt: skip
    found = read_generation(png(parameters={"sui_image_params": swarm}))
    assert (found.sampler, found.schedule, found.variation) == ("dpm++ 2m", "karras", (3, 0.2))
    assert (found.loras, found.notes) == ((("x", 0.7, None),), ())


def test_each_setting_in_a_text_of_its_own_is_no_graph():
    found = read_generation(png(prompt="a cat", negative_prompt="bad", seed="5", num_inference_steps="20"))
    assert (found.prompt, found.negative, found.seed, found.steps) == ("a cat", "bad", 5, 20)
    with pytest.raises(ValueError, match="not JSON"):
        read_generation(png(prompt="a cat"))


def test_invokeais_first_line_keeps_its_quotes_and_names_its_other_options():
    found = read_generation(png(Dream='"a \\"red\\" ball [x]" -s50 -S 1 -Ak_euler_a -G 0.8 --seamless'))
    assert (found.prompt, found.negative, found.steps, found.sampler) == ('a "red" ball', "x", 50, "euler a")
    assert found.notes == tuple(
        f"the option {one} has no counterpart here and was left out" for one in ("-G", "--seamless")
    )
