"""The adapter to ComfyUI: MOVA as one of its own models. What computes is in mova/."""
