"""The mathematics of a run: noise levels, guidance, steps, and what the model is conditioned on."""
