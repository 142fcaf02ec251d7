"""The C++ kernels: built once with the machine's own compiler, then loaded.

What cannot be built is no error: the engine computes with torch instead and says why in its statistics.
"""

import ctypes
import hashlib
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch

from resonance import paths
from resonance.private_files import private_folder

SOURCES = ("vector.h", "linear.h", "tiles.h", "attention.h", "attention_tiles.h", "team.h", "gpt2.cpp")
FLAGS = ("-O3", "-std=c++17", "-fPIC", "-fno-math-errno", "-fno-trapping-math")
TARGETS: dict[str, tuple[str, ...]] = {  # whose instructions may be used
    "native": ("-march=native",),
    "avx2": ("-march=x86-64-v3",),
    "any": (),
}
BUILD_SECONDS = 120


class KernelsMissing(Exception):
    """Why there are no kernels on this machine, in a few words."""


@cache
def library(target: str = "native") -> ctypes.CDLL:
    """The kernels, built on first use and kept in RESONANCE_HOME. Raises KernelsMissing when they cannot be had.

    Other targets than this machine itself are for showing here that the code for lesser processors computes the same.
    """
    compiler = shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")
    if compiler is None:
        raise KernelsMissing("no C++ compiler found")
    if platform.system() != "Linux":
        raise KernelsMissing(f"kernels are built on Linux only, not on {platform.system()}")
    folder, flags = Path(__file__).parent / "csrc", (*FLAGS, *TARGETS[target])
    stamp = hashlib.sha256(repr((compiler, flags, _processor())).encode())
    for name in SOURCES:
        stamp.update((folder / name).read_bytes())
    path = paths.home() / "kernels" / f"gpt2-{stamp.hexdigest()[:16]}.so"
    try:
        if not path.exists():
            _build(compiler, flags, folder, path)
        loaded = ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "stderr", b"") or str(error).encode()
        raise KernelsMissing(f"the C++ kernels could not be built ({output.decode(errors='replace')[:200]})") from error
    _declare(loaded)
    return loaded


def _build(compiler: str, flags: Sequence[str], folder: Path, path: Path) -> None:
    # Into a temporary name first: several processes may build at once. Linked with the OpenMP library that torch
    # has loaded already, since the threads of two would take the cores from each other.
    private_folder(path.parent)
    openmp = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")) or ["-fopenmp"]
    with tempfile.TemporaryDirectory(dir=path.parent) as work:
        object_file, made = Path(work) / "gpt2.o", Path(work) / "gpt2.so"
        for command in (
            [compiler, *flags, "-fopenmp", "-c", folder / "gpt2.cpp", "-o", object_file],
            [compiler, "-shared", object_file, openmp[0], "-o", made],
        ):
            subprocess.run([str(word) for word in command], check=True, capture_output=True, timeout=BUILD_SECONDS)
        made.replace(path)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


def _declare(loaded: ctypes.CDLL) -> None:
    pointer, integer, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    loaded.resonance_model.argtypes = [pointer, ctypes.c_float, long, pointer]
    loaded.resonance_model.restype = pointer
    loaded.resonance_free.argtypes = [pointer]
    loaded.resonance_free.restype = None
    loaded.resonance_hidden.argtypes = [
        pointer, pointer, integer, pointer, integer, pointer, pointer, pointer, integer, pointer, integer,
    ]  # fmt: skip
    loaded.resonance_hidden.restype = None
    loaded.resonance_logits.argtypes = [pointer, pointer, integer, pointer, integer]
    loaded.resonance_logits.restype = None
    loaded.resonance_read.argtypes = [pointer, long, integer]
    loaded.resonance_read.restype = ctypes.c_uint32
