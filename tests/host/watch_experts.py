"""Nodes by which a test watches what the host does with both experts; a pack of the tests says what they note."""


class Watch:
    """Passes both experts on, as they are; the device gets memory for so many of them."""

    CATEGORY = "tests"
    FUNCTION = "run"
    RETURN_TYPES = ("MODEL", "MODEL")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"high": ("MODEL",), "low": ("MODEL",), "experts": ("FLOAT", {})}}

    @classmethod
    def IS_CHANGED(cls, **_):
        return float("nan")


class Report:
    """What has happened in this run."""

    CATEGORY = "tests"
    FUNCTION = "run"
    RETURN_TYPES = ()
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent": ("LATENT",)}}
