"""The clip: frames and sound as the host's VIDEO."""

from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import InputImpl, Types, io

from ..mova.clip.fit import fit
from ..mova.clip.media import frame_rate
from ..mova.sampling.conditioning import check_fps
from .host import kept_runs, notice
from .host.checks import check_audio, check_images, size_fault
from .inputs import fps_input


class Clip(InputImpl.VideoFromComponents):
    """Once it is saved, what its samplers have kept is of no use any more."""

    def __init__(self, components: Any, origins: set[str]) -> None:
        super().__init__(components)
        self.origins = origins

    def save_to(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """As the host's."""
        super().save_to(path, *args, **kwargs)
        temporary = Path(folder_paths.get_temp_directory())
        if isinstance(path, str | Path) and temporary not in Path(path).parents:  # else it is but a preview
            kept_runs.clip_is_saved(self.origins)


class MOVACombineVideo(io.ComfyNode):
    """Frames and sound of the same length."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVACombineVideo",
            display_name="MOVA Combine Video",
            category="MOVA",
            description="Frames and sound as a video, made to fit what MP4 can hold. The sound is cut or padded to the "
            "exact length of the frames.",
            search_aliases=["create video with audio", "video with sound", "add sound", "mux"],
            inputs=[
                io.Image.Input("images", tooltip="Frames, from VAE Decode."),
                fps_input("Frames a second, as in MOVA Conditioning: 24."),
                io.Audio.Input("audio", optional=True, tooltip="Without it the video is silent."),
            ],
            outputs=[io.Video.Output()],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, fps=None) -> bool | str:
        """Before anything runs; what comes from another node is checked in execute."""
        return size_fault(fps=fps) or True

    @classmethod
    def execute(cls, images, fps: float, audio=None) -> io.NodeOutput:
        check_fps(fps)
        check_images(images, "images")
        rate = frame_rate(fps)
        waveform, sample_rate = None, 0
        if audio is not None:
            check_audio(audio)
            waveform, sample_rate = audio["waveform"], audio["sample_rate"]
        fitted = fit(images, waveform, sample_rate, rate)
        if fitted.notices:
            notice.show("\n".join(fitted.notices))
        if audio is not None:
            audio = {"waveform": fitted.waveform, "sample_rate": fitted.sample_rate}
        components = Types.VideoComponents(images=fitted.frames, audio=audio, frame_rate=rate)
        origins = set()
        if cls.hidden is not None:  # None when another program calls the node
            origins = kept_runs.origins_of(str(cls.hidden.unique_id), cls.hidden.prompt or {})
        return io.NodeOutput(Clip(components, origins))
