"""Builds and loads `device.cpp`: a pytest plugin (`-p tests.fake_cuda.device`), so that it is there before torch."""

import ctypes
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

SOURCE = Path(__file__).with_name("device.cpp")


def torch_folder() -> Path:
    """Where torch is installed, found without importing it."""
    spec = find_spec("torch")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def why_impossible() -> str | None:
    """Why fake CUDA tensors cannot be had here; None: they can."""
    if sys.platform != "linux":
        return "the fake CUDA device is built for Linux only"
    if shutil.which("g++") is None:
        return "there is no g++ to build the fake CUDA device"
    if any((torch_folder() / "lib").glob("libtorch_cuda*")):
        return "this torch has a CUDA of its own; tests/gpu is for it"
    return None


def build(folder: Path) -> Path:
    """Compile the device into `folder`; return its library."""
    torch, library = torch_folder(), folder / "fake_cuda.so"
    command = ["g++", "-std=c++20", "-O0", "-shared", "-fPIC", "-DAT_PER_OPERATOR_HEADERS", f"-I{torch / 'include'}"]
    command += [str(SOURCE), "-o", str(library), f"-L{torch / 'lib'}", "-lc10", "-ltorch_cpu"]
    subprocess.run(command, check=True)
    return library


def load(library: str) -> None:
    """Load the device. Must come before the first import of torch."""
    assert "torch" not in sys.modules
    for name in ("libc10.so", "libtorch_cpu.so"):
        ctypes.CDLL(str(torch_folder() / "lib" / name), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(library)


if "RESONANCE_FAKE_CUDA" in os.environ:  # as a plugin
    load(os.environ["RESONANCE_FAKE_CUDA"])
