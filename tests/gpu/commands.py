"""Writes the project's commands where Python looks for those of installed packages: a bare checkout has none.

`python tests/gpu/commands.py FOLDER`; FOLDER then goes into PYTHONPATH.
"""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main(folder: Path) -> None:
    """Write the metadata of a package with the entry points of pyproject.toml into a folder."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = folder / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    names = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(names, encoding="utf-8")
    lines = [
        line
        for group, commands in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {place}" for name, place in commands.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
