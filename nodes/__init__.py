"""The ComfyUI side: thin nodes over mova/, and the adapter to the host."""

import logging
from pathlib import Path


def load() -> list[type]:
    """Register the model family with the host, and return the node classes; none if another copy has done so.

    The copies' classes are of the same names, but not the same: mixed, a model would be "MOVA, not MOVA".
    """
    from . import (
        audio,
        audio_teacher,
        conditioning,
        conditioning_files,
        enhance,
        fit_video,
        get_models,
        guidance,
        joint_sampler,
        kept_runs,
        latents,
        loaders,
        lora,
        noise,
        options,
        sampling,
        size,
        step_cache,
        text,
        train_lora,
        training_clip,
        video,
    )
    from .checked import checked
    from .host.family import register

    other = register()
    if other is not None:
        logging.error(
            f"[MOVA] The MOVA nodes are installed twice, in {other} and in {Path(__file__).parents[1]}; those of the "
            "first are used: delete one of the two folders, and restart ComfyUI."
        )
        return []
    nodes = (
        get_models.MOVAGetModels,
        loaders.MOVAModelLoader,
        lora.MOVALoraLoader,
        options.MOVAModelOptions,
        step_cache.MOVAStepCache,
        audio_teacher.MOVAAudioTeacher,
        audio.MOVAAudioVAELoader,
        enhance.MOVAEnhancePrompt,
        text.MOVATextEncode,
        conditioning_files.MOVASaveConditioning,
        conditioning_files.MOVALoadConditioning,
        size.MOVASize,
        conditioning.MOVAConditioning,
        guidance.MOVAGuidanceSchedule,
        sampling.MOVAScheduler,
        sampling.MOVAGuider,
        noise.MOVAVideoNoise,
        joint_sampler.MOVAJointSampler,
        kept_runs.MOVALoadRun,
        latents.MOVASeparateLatent,
        latents.MOVACombineLatent,
        audio.MOVAAudioDecode,
        audio.MOVAAudioEncode,
        fit_video.MOVAFitVideo,
        video.MOVACombineVideo,
        training_clip.MOVATrainingClip,
        train_lora.MOVATrainLoRA,
    )
    return [checked(node) for node in nodes]
