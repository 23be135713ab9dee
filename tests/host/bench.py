"""A workflow that starts with the golden inputs, run on the server, and what came out of it."""

from io import BytesIO

import numpy as np
import torch
from golden import error
from graphs import GIVEN, Graph, numbers, ref
from PIL import Image
from safetensors.torch import save_file

VIDEO, AUDIO = (1, 16, 3, 8, 12), (1, 128, 11)


class Bench(Graph):
    """A graph that starts with the golden inputs, and the server to run it on."""

    def __init__(self, server) -> None:
        super().__init__()
        self.server = server
        self.given = self.add("ProbeGiven", **GIVEN)
        self.plain_model = self.model("mova_high")

    def run(self):
        result = self.server.run(self.nodes)
        if result.error is not None:
            raise Refused(result)
        return result

    def results(self, *outputs):
        """Run, and return the latents of these outputs: {"video", "audio"}, or {"samples"}; masks beside them."""
        saved = [self.save(output, f"compatibility{i}.safetensors") for i, output in enumerate(outputs)]
        result = self.run()
        found = [self.server.tensors(result, node) for node in saved]
        assert all(part.isfinite().all() for latent in found for part in latent.values()), "not finite"
        return found

    def sample(self, model, **settings):
        return ref(self.ksampler(model, self.given, **settings))

    def latent(self, **parts):
        """An audio-video latent of normal numbers; or of the given tensors."""
        name = f"compatibility_{'_'.join(parts) or 'latent'}.safetensors"
        drawn = parts or {"video": numbers("cv", *VIDEO), "audio": numbers("ca", *AUDIO)}
        save_file(drawn, self.server.base / "input" / name)
        return ref(self.add("ProbeGivenLatent", file=name))

    def joined(self, **parts):
        """The same as made by a node of the pack."""
        return self.together(*self.both_parts(self.latent(**parts)))

    def video(self, latent):
        return ref(self.add("MOVASeparateLatent", latent=latent))

    def audio(self, latent):
        return ref(self.add("MOVASeparateLatent", latent=latent), 1)

    def both_parts(self, latent):
        apart = self.add("MOVASeparateLatent", latent=latent)
        return ref(apart), ref(apart, 1)

    def together(self, video, audio):
        return ref(self.add("MOVACombineLatent", video=video, audio=audio))

    def wan_vae(self):
        return ref(self.add("ProbeWanVAE"))

    def audio_vae(self):
        return ref(self.add("MOVAAudioVAELoader", vae_name="MOVA-golden/audio_vae"))

    def pictures(self, *outputs):
        """Run, and return these IMAGEs [B, H, W, 3] in 0..255."""
        nodes = [self.add("PreviewImage", images=output) for output in outputs]
        result = self.run()
        found = []
        for node in nodes:
            files = [BytesIO(self.server.view(entry)) for entry in result.outputs[node]["images"]]
            found.append(torch.stack([pil_to_tensor(Image.open(file)) for file in files]))
        return found

    def sounds(self, *outputs):
        """Run, and return these AUDIOs' waveforms."""
        nodes = [self.add("ProbeSaveAudio", audio=o, name=f"compatibility{i}.st") for i, o in enumerate(outputs)]
        result = self.run()
        return [self.server.tensors(result, node)["waveform"] for node in nodes]


def pil_to_tensor(image):
    return torch.from_numpy(np.array(image.convert("RGB"))).float()


class Refused(Exception):
    """The run ended with an error."""

    def __init__(self, result) -> None:
        super().__init__(result.error)
        self.result = result


def differ(one, other):
    return max(error(one[name], other[name]) for name in ("video", "audio"))
