"""Files of a checkpoint as they are damaged by hand."""

import json

from safetensors.torch import load_file, save_file

WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def edit(file, **values):
    write(file, {**json.loads(file.read_text()), **values})


def replace(path, content):
    """Another file in place of a linked one."""
    path.unlink()
    return write(path, content)


def rewrite(file, change):
    state = {name: tensor.clone() for name, tensor in load_file(file).items()}
    file.unlink()
    change(state)
    save_file(state, file)
