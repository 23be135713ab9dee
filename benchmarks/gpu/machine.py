"""What was measured on, found out without touching a GPU: the parts are to have it for themselves."""

import datetime
import importlib.metadata
import platform
import subprocess
from typing import Any


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def gpu() -> dict[str, str]:
    """Name, memory and driver of the first GPU, as nvidia-smi gives them."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader", "--id=0"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=30).stdout.strip().split(", ")
    except (OSError, subprocess.SubprocessError):
        told = []
    name, memory, driver = told if len(told) == 3 else ("a GPU that nvidia-smi does not know", "", "unknown")
    return {"device": f"{name}, {memory}".removesuffix(", "), "driver": driver}


def facts(rehearse: bool) -> dict[str, Any]:
    """Date, device and versions."""
    device = {"device": f"CPU ({platform.machine()})"} if rehearse else gpu()
    versions = {"torch": version("torch"), "Triton": version("triton"), "Python": platform.python_version()}
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
        "machine": {**device, **versions},
    }
