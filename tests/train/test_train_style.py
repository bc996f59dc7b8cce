"""The style stage: silent captions, references that share the style alone, the published format."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors import safe_open

from ctrl.atelier.scene import STYLES, sample
from ctrl.train import style
from ctrl.train.denoiser import loss, noised

pytestmark = pytest.mark.slow

WIDTH = 16


@pytest.fixture
def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=2,
        cross_attention_dim=WIDTH,
    ).eval()


def test_unstyled_captions_name_no_style() -> None:
    scene = sample(5)
    for name in STYLES:
        for seed in range(12):
            text = style.unstyled(replace(scene, style=name), seed)
            assert not any(word in text for word in (*STYLES, "comic", "ink", "neon"))
            assert text.startswith(("a ", "someone"))


def test_references_share_the_style_and_little_else() -> None:
    references = style.References(512)
    generator, rows = torch.Generator().manual_seed(0), list(range(600, 640))
    alike = references.alike(rows, generator).tolist()
    other = references.other(rows, generator).tolist()
    assert [sample(row).style for row in alike] == [sample(row).style for row in rows]
    assert all(sample(a).style != sample(b).style for a, b in zip(other, rows, strict=True))
    assert sum(sample(a).ground != sample(b).ground for a, b in zip(alike, rows, strict=True)) > 30


def test_what_is_saved_is_what_diffusers_computes(unet: UNet2DConditionModel, tmp_path: Path) -> None:
    fresh = UNet2DConditionModel.from_config(unet.config)
    fresh.load_state_dict(unet.state_dict())
    style.save(style.build(unet, WIDTH), tmp_path)
    parts: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]] = ({}, {})
    with safe_open(tmp_path / "ip_adapter" / "ip_adapter.safetensors", "pt") as file:
        for key in file.keys():  # noqa: SIM118
            parts[key.startswith("ip_adapter.")][key.split(".", 1)[1]] = file.get_tensor(key)
    assert sorted(parts[0]) == ["norm.bias", "norm.weight", "proj.bias", "proj.weight"]
    assert {int(key.split(".")[0]) for key in parts[1]} == set(range(1, len(parts[1]), 2))
    fresh._load_ip_adapter_weights([{"image_proj": parts[0], "ip_adapter": parts[1]}])
    given = (torch.randn(2, 4, 8, 8), torch.tensor([3, 700]), torch.randn(2, 5, WIDTH))
    embeds = torch.randn(2, WIDTH)
    with torch.no_grad():
        ours, theirs = (style.styled(net, embeds)(*given) for net in (unet, fresh.eval()))
    assert torch.equal(ours, theirs)


def test_only_the_adapter_learns_and_the_loss_falls(unet: UNet2DConditionModel) -> None:
    adapter = style.build(unet, WIDTH)
    frozen = unet.conv_in.weight.clone()
    assert sum(p.requires_grad for p in unet.parameters()) == len(list(adapter.parameters()))
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=1e-2)
    embeds, clean = torch.randn(8, WIDTH), torch.randn(8, 4, 8, 8)
    values = []
    for _ in range(20):
        given = noised(clean, torch.Generator().manual_seed(0))
        value = loss(style.styled(unet, embeds), given, torch.zeros(8, 5, WIDTH))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert np.mean(values[-3:]) < values[0]
    assert torch.equal(frozen, unet.conv_in.weight)
