"""C++ kernels for the CPU: build.py compiles csrc/, bindings.py calls it, packing.py packs weights for it."""
