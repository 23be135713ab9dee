"""The ComfyUI side: thin nodes over mova/, and the adapter to the host."""


def load() -> list[type]:
    """Register the model family with the host, and return the node classes."""
    from . import audio, conditioning, conditioning_files, latents, loaders, lora, sampling, text, video
    from .host.family import register

    register()
    return [
        loaders.MOVAModelLoader,
        lora.MOVALoraLoader,
        audio.MOVAAudioVAELoader,
        text.MOVATextEncode,
        conditioning_files.MOVASaveConditioning,
        conditioning_files.MOVALoadConditioning,
        conditioning.MOVAConditioning,
        sampling.MOVAScheduler,
        sampling.MOVAGuider,
        sampling.MOVAJointSampler,
        latents.MOVASeparateLatent,
        latents.MOVACombineLatent,
        audio.MOVAAudioDecode,
        audio.MOVAAudioEncode,
        video.MOVACombineVideo,
    ]
