"""The same files, written while the release arrives from the model hub."""
