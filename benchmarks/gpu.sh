#!/bin/sh
# A GPU measured in one command, in at most 8 minutes: sh benchmarks/gpu.sh [--rehearse] [--out DIR] [--carry DIR]
#
# Needs PyTorch, einops and safetensors, and no network. See docs/benchmarks.md, "On a GPU", and --help.
here=$(cd "$(dirname "$0")" && pwd)
PYTHONPATH=$here:$here/..${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH
exec "${PYTHON:-python3}" -m gpu.run "$@"
