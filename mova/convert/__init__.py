"""The single files that ComfyUI loads, written from a release."""
