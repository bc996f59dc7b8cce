"""The prediction type and noise schedule that a single file states, by every mark that programs write or look for.

In this order, since merges copy the later marks without reading them:

1. tensors `v_pred` and `ztsnr`, empty: ComfyUI, A1111 and Forge decide by them;
2. `modelspec.prediction_type` of the header (github.com/Stability-AI/ModelSpec), which kohya's scripts write;
3. `ss_v_parameterization` and `ss_zero_terminal_snr` of kohya's header;
4. `modelspec.architecture`, where SD 2's two models have a name each;
5. the tensor `global_step` of SD 2's published files, by which InvokeAI and diffusers recognise them.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ctrl.model.loading.families import Family

PREDICTION_NOTE = "modelspec.prediction_type"
SPELLINGS = {"v": "v", "v_prediction": "v", "vpred": "v", "v_pred": "v", "epsilon": "epsilon", "eps": "epsilon"}
ARCHITECTURES = {"stable_diffusion_v2_768_v": "v", "stable_diffusion_v2_512": "epsilon"}
TRUE = ("true", "1", "yes")


def stated_prediction(tensors: Mapping[str, Tensor], notes: Mapping[str, str], family: Family) -> str | None:
    """The prediction as the file states it, "v" or "epsilon"; None if it does not."""
    if "v_pred" in tensors or "v_pred" in notes:
        return "v"
    if (prediction := SPELLINGS.get(_plain(notes.get(PREDICTION_NOTE)))) is not None:
        return prediction
    if "ss_v_parameterization" in notes:
        return "v" if _plain(notes["ss_v_parameterization"]) in TRUE else "epsilon"
    if (named := ARCHITECTURES.get(_plain(notes.get("modelspec.architecture")))) is not None:
        return named
    step = tensors.get("global_step")
    return family.trained_steps.get(int(step)) if step is not None and step.numel() == 1 else None


def states_zero_snr(tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> bool:
    """Whether the file says that its last timestep is pure noise (arXiv 2305.08891)."""
    marked = "ztsnr" in tensors or "ztsnr" in notes
    return marked or _plain(notes.get("ss_zero_terminal_snr")) in TRUE


def _plain(spelling: str | None) -> str:
    return (spelling or "").strip().lower().replace("-", "_")
