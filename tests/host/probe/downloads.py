"""What a server's keeper, its disk and its network do to downloads."""

import os
import shutil

import huggingface_hub

from .parts import Fresh

DISK_USAGE = shutil.disk_usage
ENDPOINT = huggingface_hub.constants.ENDPOINT


class Downloads(Fresh):
    """From now on downloads are as `what` says, until the next one of these."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"what": (["well", "forbidden", "allowed", "offline", "no room", "no network"],)}}

    RETURN_TYPES = ()
    OUTPUT_NODE = True

    def run(self, what):
        os.environ["MOVA_NO_DOWNLOADS"] = {"forbidden": "1", "allowed": "0"}.get(what, "")
        huggingface_hub.constants.HF_HUB_OFFLINE = what == "offline"
        huggingface_hub.constants.ENDPOINT = "http://127.0.0.1:9" if what == "no network" else ENDPOINT
        shutil.disk_usage = DISK_USAGE
        if what == "no room":
            shutil.disk_usage = lambda folder: DISK_USAGE(folder)._replace(free=10**6)
        return {}
