"""A finished run whose clip could not be made, from the output folder."""

from comfy_api.latest import io

from ..mova import MovaError
from ..mova.clip.rescue import read_run
from .host import kept_runs, notice
from .host.nested import AudioVideoLatent


def names() -> list[str]:
    """The newest first."""
    return [path.name for path in reversed(kept_runs.saved())]


def name_fault(name: str) -> str | None:
    """What is wrong with a name: only files of the list are read, so that none leads out of the folder."""
    known = name in names()
    return None if known else f"There is no kept run {name!r} in output/{kept_runs.FOLDER}; refresh and choose another."


class MOVALoadRun(io.ComfyNode):
    """The latent that MOVA Joint Sampler has kept."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVALoadRun",
            display_name="MOVA Load Run",
            category="MOVA",
            description="The audio-video latent of a finished run whose clip was not saved: its decoding failed, say.",
            search_aliases=["rescue", "recover latent", "resume", "load latent"],
            inputs=[
                io.Combo.Input("run", options=names(), tooltip=f"From output/{kept_runs.FOLDER}, the newest first.")
            ],
            outputs=[io.Latent.Output(display_name="latent")],
        )

    @classmethod
    def validate_inputs(cls, run: str | None = None) -> bool | str:
        """Before anything runs; a name from another node (None) is checked in execute."""
        return True if run is None else name_fault(run) or True

    @classmethod
    def fingerprint_inputs(cls, run: str | None = None) -> float:
        """When the file was written; of a name from another node it is not known, so it is always read."""
        known = run is not None and name_fault(run) is None
        return (kept_runs.place() / str(run)).stat().st_mtime if known else float("nan")

    @classmethod
    def execute(cls, run: str) -> io.NodeOutput:
        if fault := name_fault(run):
            raise MovaError(fault)
        path = kept_runs.place() / run
        found = read_run(path)
        if not found.finished or not {"video", "audio"} <= set(found.latents):
            done = f"{found.step} of {found.steps} steps are done"
            raise MovaError(f"{path} is not finished ({done}); queue its workflow again with resume on.")
        notice.show(f"A finished run of {found.steps} steps.")
        return io.NodeOutput({"samples": AudioVideoLatent([found.latents["video"], found.latents["audio"]])})
