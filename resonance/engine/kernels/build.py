"""Builds the C++ kernels with the machine's compiler on first use, and loads them.

A machine without a compiler is no error: the engine computes with torch instead, and its statistics say why.
"""

import hashlib
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from cffi import FFI

from resonance import paths
from resonance.private_files import private_folder

SOURCE_FOLDER = Path(__file__).parent / "csrc"
FLAGS = ("-O3", "-std=c++17", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
TARGETS: dict[str, tuple[str, ...]] = {  # instruction sets; all but "native" let tests check code for other processors
    "native": ("-march=native",),
    "avx2": ("-march=x86-64-v3",),
    "any": (),
}
BUILD_SECONDS = 120


class KernelsUnavailable(Exception):
    """Why the kernels cannot be used on this machine or for this model, in a few words."""


@cache
def interface() -> FFI:
    """The structs and functions that csrc/abi.h declares to both Python and C++."""
    ffi = FFI()
    header = (SOURCE_FOLDER / "abi.h").read_text(encoding="utf-8")
    ffi.cdef("\n".join(line for line in header.splitlines() if not line.startswith("#")))
    return ffi


@cache
def library(target: str = "native") -> Any:
    """Load the kernels, built before or now, from RESONANCE_HOME. Raises KernelsUnavailable."""
    compiler = shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")
    if compiler is None:
        raise KernelsUnavailable("no C++ compiler found")
    if platform.system() != "Linux":
        raise KernelsUnavailable(f"kernels are built on Linux only, not on {platform.system()}")
    flags = (*FLAGS, *TARGETS[target])
    stamp = hashlib.sha256(repr((compiler, flags, _processor())).encode())
    for source in sorted(SOURCE_FOLDER.iterdir()):
        stamp.update(source.read_bytes())
    path = paths.home() / "kernels" / f"gpt2-{stamp.hexdigest()[:16]}.so"
    try:
        if not path.exists():
            _build(compiler, flags, path)
        return interface().dlopen(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        output: bytes = getattr(error, "stderr", None) or str(error).encode()
        reason = output.decode(errors="replace").replace(f"{SOURCE_FOLDER}/", "").replace(f"{path.parent}/", "")
        raise KernelsUnavailable(f"the C++ kernels could not be built ({' '.join(reason.split())[:200]})") from error


def _build(compiler: str, flags: Sequence[str], path: Path) -> None:
    # Builds under a temporary name, because several processes may build at once. Links the OpenMP library that torch
    # has loaded, because the thread pools of two libraries would compete for the cores.
    private_folder(path.parent)
    openmp = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")) or ["-fopenmp"]
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        object_file, library = Path(folder) / "gpt2.o", Path(folder) / "gpt2.so"
        for command in (
            [compiler, *flags, "-fopenmp", "-c", SOURCE_FOLDER / "gpt2.cpp", "-o", object_file],
            [compiler, "-shared", object_file, openmp[0], "-o", library],
        ):
            subprocess.run([str(word) for word in command], check=True, capture_output=True, timeout=BUILD_SECONDS)
        library.replace(path)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
