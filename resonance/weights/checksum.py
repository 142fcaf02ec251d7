"""The checksum of a model's tensors, which the header of our `model.safetensors` holds."""

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

_READ_AT_ONCE = 4 << 20  # bytes


def checksum(tensors: Mapping[str, Tensor]) -> str:
    """Compute the CRC-32 over the bytes of all tensors, in the order of their names."""
    crc = 0
    for name in sorted(tensors):
        crc = zlib.crc32(tensors[name].contiguous().view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"


def checksum_of_file(path: Path) -> str:
    """Compute the same of a safetensors file, read in pieces: mapped pages would count as memory in use."""
    crc = 0
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        for name in sorted(header.keys() - {"__metadata__"}):
            first, last = header[name]["data_offsets"]
            file.seek(8 + size + first)
            for position in range(first, last, _READ_AT_ONCE):
                crc = zlib.crc32(file.read(min(_READ_AT_ONCE, last - position)), crc)
    return f"{crc:08x}"


def stamped_checksum(path: Path) -> str | None:
    """Read the checksum in a safetensors file's header, if any. Raises SafetensorError for a file that is not whole."""
    with safe_open(path, "pt") as file:
        return (file.metadata() or {}).get("crc32")
