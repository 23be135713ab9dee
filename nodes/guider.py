"""MOVA's guidance as a guider of the host: text, the bridge, and the audio's text apart."""

from typing import Any

import comfy.samplers
import comfy.utils
import node_helpers
from torch import Tensor

from ..mova.guidance import Guidance, guided
from .checks import check_given_noise, check_run

# Which of the host's conditionings an evaluation (with text, with bridge) is made with.
CONDITIONINGS = {(False, False): "unbridged", (False, True): "negative", (True, True): "positive"}


class MovaGuider(comfy.samplers.CFGGuider):
    """Ordinary guidance is left to the host, so that what is plugged into it keeps working."""

    def __init__(self, model: Any, positive: list, negative: list, guidance: Guidance) -> None:
        super().__init__(model)
        self.guidance = guidance
        self.ordinary = guidance.bridge == 1 and guidance.audio == guidance.text
        self.latent_shapes: list = []
        self.given = [*positive, *negative]
        conds = {"positive": positive, "negative": negative}
        if guidance.bridge != 1:
            entries = {"mova_bridge": 0.0, "prompt_type": "negative"}
            conds["unbridged"] = node_helpers.conditioning_set_values(negative, entries)
        self.inner_set_conds(conds)
        self.set_cfg(guidance.text)

    def sample(
        self, noise: Any, latent_image: Any, sampler: Any, sigmas: Tensor, denoise_mask: Any = None, **others: Any
    ) -> Any:
        """As the host's, if what it is given fits together: the host would load the weights first."""
        latent = {"samples": latent_image, "noise_mask": denoise_mask}
        check_run(latent, self.given, self.model_patcher.model.mova_config)
        check_given_noise(noise, latent_image)
        return super().sample(noise, latent_image, sampler, sigmas, denoise_mask=denoise_mask, **others)

    def inner_sample(self, *args: Any, latent_shapes: list | None = None, **kwargs: Any) -> Tensor:
        """As the host's, noting how video and audio are packed."""
        self.latent_shapes = latent_shapes or []
        return super().inner_sample(*args, latent_shapes=latent_shapes, **kwargs)

    def predict_noise(
        self, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, seed: int | None = None
    ) -> Tensor:
        """The denoised latent [B, 1, N]: guidance mixes it as it mixes velocities, since the weights add up to 1."""
        options = model_options or {}
        if self.ordinary:
            return super().predict_noise(x, timestep, options, seed)
        kinds = self.guidance.needed()
        conds = [self.conds[CONDITIONINGS[kind]] for kind in kinds]
        outputs = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, options)
        parts = {
            kind: tuple(comfy.utils.unpack_latents(output, self.latent_shapes))
            for kind, output in zip(kinds, outputs, strict=True)
        }
        return comfy.utils.pack_latents(guided(lambda text, bridge: parts[text, bridge], self.guidance))[0].to(x)
