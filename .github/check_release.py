"""python .github/check_release.py TAG: exit with a sentence for each thing that keeps a release from publication."""

import os
import re
import sys
from pathlib import Path
from typing import Any


def faults(config: dict[str, Any], tag: str, token: str) -> list[str]:
    """What is missing or wrong; empty if the release can be published."""
    project, comfy = config["project"], config["tool"]["comfy"]
    found = []
    if not comfy.get("PublisherId"):
        found.append("PublisherId in [tool.comfy] of pyproject.toml is empty; make a publisher in the registry.")
    if not project.get("urls", {}).get("Repository"):
        found.append("pyproject.toml has no Repository in [project.urls]; write the repository's public address there.")
    if not token:
        found.append("The secret REGISTRY_ACCESS_TOKEN is not set; make an API key for the publisher in the registry.")
    if not re.fullmatch(r"\d+\.\d+\.\d+", project["version"]):
        found.append(f"The version {project['version']!r} in pyproject.toml is not of the form 1.2.3.")
    if tag != f"v{project['version']}":
        found.append(f"The tag is {tag}, but pyproject.toml has the version {project['version']}; they must agree.")
    return found


if __name__ == "__main__":
    import tomllib  # Python 3.11; a test imports this file with 3.10, too

    text = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    found = faults(tomllib.loads(text), sys.argv[1], os.environ.get("REGISTRY_ACCESS_TOKEN", ""))
    sys.exit("\n".join(["Not published.", *found]) if found else 0)
