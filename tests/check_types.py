"""mypy over mova/, and over the nodes as ComfyUI sees them: inside a package of the folder's name.

Few folders' names are ones that mypy takes for a package's, so that it would follow no import from the nodes to mova/.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "pack").symlink_to(ROOT, target_is_directory=True)
        settings = [f"--config-file={ROOT / 'pyproject.toml'}", f"--cache-dir={ROOT / '.mypy_cache' / 'pack'}"]
        what = ["-p", "pack.mova", "-p", "pack.nodes"]
        sys.exit(subprocess.call([sys.executable, "-m", "mypy", *settings, *what], cwd=folder))
