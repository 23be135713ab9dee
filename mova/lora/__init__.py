"""LoRA files: read in every spelling, and fitted to the model."""
