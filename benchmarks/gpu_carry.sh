#!/bin/sh
# Where there is a network: put together what gpu.sh needs on a machine without one: sh benchmarks/gpu_carry.sh DIR
here=$(cd "$(dirname "$0")" && pwd)
PYTHONPATH=$here:$here/..${PYTHONPATH:+:$PYTHONPATH}
export PYTHONPATH
exec "${PYTHON:-python3}" -m gpu.carry "$@"
