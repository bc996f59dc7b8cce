"""T2I-Adapters in every published form, against diffusers' own."""

import pytest
import tiny_adapters
import tiny_formats as tiny
import torch
from diffusers import T2IAdapter

import ctrl
from ctrl.model.loading.t2i_adapters import is_t2i_adapter, t2i_adapter

UNETS = {"full_adapter": tiny_adapters.sd1, "light_adapter": tiny_adapters.sd1, "full_adapter_xl": tiny_adapters.sdxl}
offline = pytest.fixture(autouse=True)(tiny.offline)


def adapter(form, unet, colours=3):
    torch.manual_seed(4)
    channels = list(unet.config.block_out_channels)
    channels += [channels[-1]] * (4 - len(channels))
    if form == "light_adapter":  # its last level is as wide as the one before
        channels.pop()
    factor = 16 if form == "full_adapter_xl" else 8
    return T2IAdapter(colours, channels, 2, factor, form).eval()


def original(net):
    """The tensors by the names of the published files."""
    held = {}
    light = net.config.adapter_type == "light_adapter"
    for level, block in enumerate(net.adapter.body):
        if block.in_conv is not None:
            at = level if light else 2 * level
            held |= tiny.prefixed(f"body.{at}.in_conv.", block.in_conv.state_dict())
        for number, resnet in enumerate(block.resnets):
            start = f"body.{level}.body.{number}." if light else f"body.{2 * level + number}."
            held |= tiny.prefixed(start, resnet.state_dict())
        if light:
            held |= tiny.prefixed(f"body.{level}.out_conv.", block.out_conv.state_dict())
    return held if light else held | tiny.prefixed("conv_in.", net.adapter.conv_in.state_dict())


@pytest.mark.parametrize("colours", [3, 1])
@pytest.mark.parametrize("layout", ["folder", "module", "diffusers' names", "original names", "a file in a folder"])
@pytest.mark.parametrize("form", UNETS)
def test_every_form_gives_what_diffusers_gives(tmp_path, form, layout, colours):
    unet = UNETS[form]()
    net = adapter(form, unet, colours)
    given = tmp_path / "adapter.safetensors"
    if layout == "folder":
        net.save_pretrained(given := tmp_path / "adapter")
    elif layout == "module":
        given = net
    else:
        if layout == "a file in a folder":
            given = tmp_path / "folder" / "any.safetensors"
        tiny.save(net.state_dict() if layout == "diffusers' names" else original(net), given)
        assert is_t2i_adapter(given.parent if layout == "a file in a folder" else given)
        given = given.parent if layout == "a file in a folder" else given
    hint = torch.rand(2, 1, 64, 64).expand(2, 3, 64, 64)
    got = t2i_adapter("pose", given, unet).residuals(hint)
    with torch.no_grad():
        expected = net(hint[:, :colours])
    assert len(got) == len(expected) == 4
    assert all(torch.equal(*pair) for pair in zip(got, expected, strict=True))


def test_one_of_another_model_is_refused_and_one_in_the_place_of_a_controlnet_is_named(tmp_path):
    net = adapter("full_adapter", tiny_adapters.sd1())
    folder = tiny.save_folder(tiny.sd1(), tmp_path / "sd1")
    net.save_pretrained(tmp_path / "adapter")
    model = ctrl.load(folder, device="cpu", controlnets={"pose": tmp_path / "adapter"})
    with pytest.raises(ValueError, match="the pose control is a T2I-Adapter"):
        model.controlnet("pose")
    with pytest.raises(ValueError, match="the pose T2I-Adapter was made for another model: it adds to blocks of"):
        model.extras.t2i_adapter("pose", model.unet)
    assert model.extras.t2i_adapter("none", model.unet) is None
    with pytest.raises(ValueError, match=r"is in torch.float16 on cpu and the U-Net in torch.float32"):
        t2i_adapter("pose", net.half(), tiny_adapters.sd1())
