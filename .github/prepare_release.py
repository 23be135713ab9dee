"""python .github/prepare_release.py TAG: put what only GitHub knows into pyproject.toml, then check the release.

It changes the workflow's own checkout, and ends with a sentence for each thing that keeps the release from publication.
"""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SETTINGS = "on GitHub, Settings > Secrets and variables > Actions >"


def fill(config: dict[str, Any], environment: Mapping[str, str]) -> None:
    """Set the publisher and the repository's addresses in pyproject.toml's contents, where they have none."""
    add(config["tool"]["comfy"], "PublisherId", environment.get("COMFY_PUBLISHER_ID", "").strip())
    server, name = environment.get("GITHUB_SERVER_URL"), environment.get("GITHUB_REPOSITORY")
    if server and name:
        urls = config["project"].setdefault("urls", {})
        add(urls, "Repository", f"{server}/{name}")
        add(urls, "Documentation", f"{server}/{name}#readme")
        add(urls, "Bug Tracker", f"{server}/{name}/issues")


def add(table: dict[str, Any], key: str, value: str) -> None:
    if value and not table.get(key):
        table[key] = value


def faults(config: dict[str, Any], tag: str, token: str) -> list[str]:
    """What is missing or wrong; empty if the release can be published."""
    project, publisher = config["project"], config["tool"]["comfy"].get("PublisherId", "")
    found = []
    if not publisher:
        found.append(
            "There is no publisher; set the variable COMFY_PUBLISHER_ID to the publisher's id in the registry "
            f"({SETTINGS} Variables)."
        )
    elif not re.fullmatch(r"[\w.-]+", publisher):
        found.append(
            f"The publisher {publisher!r} is no id; write what the registry shows after the @ where it is set: "
            f"PublisherId in pyproject.toml, or the variable COMFY_PUBLISHER_ID ({SETTINGS} Variables)."
        )
    if not token:
        found.append(
            "There is no key; make an API key for the publisher in the registry and set the secret "
            f"REGISTRY_ACCESS_TOKEN to it ({SETTINGS} Secrets)."
        )
    if not project.get("urls", {}).get("Repository"):
        found.append(
            "There is no Repository in [project.urls] of pyproject.toml; write the repository's public address there."
        )
    if not re.fullmatch(r"\d+\.\d+\.\d+", project["version"]):
        found.append(f"The version {project['version']!r} in pyproject.toml is not of the form 1.2.3; change it there.")
    if tag != f"v{project['version']}":
        found.append(
            f"The tag is {tag}, but pyproject.toml has the version {project['version']}; they must agree: change the "
            "version there, or make another tag."
        )
    return found


if __name__ == "__main__":
    import tomlkit  # keeps the file's comments; comfy-cli brings it along

    file = Path(__file__).resolve().parents[1] / "pyproject.toml"
    config = tomlkit.parse(file.read_text(encoding="utf-8"))
    fill(config, os.environ)
    file.write_text(tomlkit.dumps(config), encoding="utf-8")
    found = faults(config, sys.argv[1], os.environ.get("REGISTRY_ACCESS_TOKEN", ""))
    sys.exit("\n".join(["Not published.", *found]) if found else 0)
