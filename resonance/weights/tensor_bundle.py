"""TensorFlow's checkpoint files (a "tensor bundle"), read and written without TensorFlow.

It knows named tensors in shards, not which model they make. `PREFIX.index` is a table from each tensor's name to its
dtype, shape and offset; `PREFIX.data-00000-of-00001`, ... are the raw numbers. Source: TensorFlow's
core/util/tensor_bundle and core/protobuf/tensor_bundle.proto.
"""

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import google_crc32c
import torch
from torch import Tensor

from resonance.weights.protobuf import WireError, bytes_field, fixed32_field, int_field, read_fields, signed
from resonance.weights.sstable import masked, read_table, write_table
from resonance.weights.state_dict import WeightsError, check, listed

DTYPES = {  # numbered as in TensorFlow's core/framework/types.proto
    1: torch.float32,
    2: torch.float64,
    14: torch.bfloat16,
    19: torch.float16,
}
HEADER_KEY = b""


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor's location: bytes `offset` to `offset + size` of a shard."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    sliced: bool


class Bundle:
    """The tensors under one path prefix. Raises WeightsError where the index or a shard is missing or damaged."""

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self._index = prefix.with_name(prefix.name + ".index")
        if not self._index.is_file():
            raise WeightsError(f"{self._index} is missing; it is the index of a TensorFlow checkpoint.")
        try:
            table = read_table(self._index.read_bytes())
            self._shards = _read_header(table.pop(HEADER_KEY, b""))
            self._entries = {key.decode(errors="replace"): _read_entry(value) for key, value in table.items()}
        except WireError as error:
            raise WeightsError(f"{self._index} cannot be read as a TensorFlow checkpoint's index: {error}.") from None
        self._maps: dict[int, mmap.mmap] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Map one tensor from its shard (changes stay in memory) and verify its checksum.

        Raises WeightsError, naming the tensor, when it is missing, cut short, damaged or of another shape.
        """
        entry, dtype, data, file = self._find(name, shape)
        raw = torch.frombuffer(data, dtype=torch.uint8, count=entry.size, offset=entry.offset)
        if _checksum(raw) != entry.crc:
            raise WeightsError(f"{name} in {file} is damaged: its checksum is wrong; fetch that file again.")
        return raw.view(dtype).view(shape)

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise WeightsError unless a tensor of this shape is there whole, without reading its numbers."""
        self._find(name, shape)

    def _find(self, name: str, shape: tuple[int, ...]) -> tuple[Entry, torch.dtype, mmap.mmap, Path]:
        """Return a tensor's entry and dtype, and the mapped shard that holds it with its path."""
        entry = self._entries.get(name)
        if entry is None:
            raise WeightsError(f"{name} is missing from {self._index}, which holds {listed(self._entries)}.")
        if entry.sliced:
            raise WeightsError(f"{name} in {self._index} is stored in slices; save it as one whole tensor.")
        if entry.shape != shape:
            raise WeightsError(f"{name} in {self._index} has the shape {entry.shape}, not {shape}.")
        dtype = DTYPES.get(entry.dtype)
        if dtype is None:
            raise WeightsError(f"{name} in {self._index} has TensorFlow's type {entry.dtype}, not floats.")
        numbers = math.prod(shape)
        if entry.size != numbers * dtype.itemsize:
            raise WeightsError(
                f"{name} in {self._index} has {entry.size} bytes, not the {numbers * dtype.itemsize} of its shape."
            )
        if entry.offset < 0:
            raise WeightsError(f"{name} in {self._index} begins at byte {entry.offset}; the index is damaged.")
        data, file = self._map(entry.shard, name)
        if entry.offset + entry.size > len(data):
            raise WeightsError(
                f"{name} is cut off: it ends at byte {entry.offset + entry.size} of {file}, "
                f"which has {len(data)}; fetch that file again."
            )
        return entry, dtype, data, file

    def _map(self, shard: int, name: str) -> tuple[mmap.mmap, Path]:
        file = shard_path(self.prefix, shard, self._shards)
        if shard not in self._maps:
            if not file.is_file():
                raise WeightsError(f"{file} is missing; {name} is in it.")
            if not file.stat().st_size:
                raise WeightsError(f"{file} is empty; {name} should be in it.")
            with file.open("rb") as opened:
                self._maps[shard] = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
        return self._maps[shard], file


def write_bundle(prefix: Path, tensors: Mapping[str, Tensor], shards: int = 1) -> None:
    """Write the tensors in the order of their names, over `shards` files of about the same size.

    Raises WeightsError for tensors that hold no floats.
    """
    for name, tensor in tensors.items():
        check(name, tensor, tuple(tensor.shape), "the weights to be written")
    total = sum(tensor.nbytes for tensor in tensors.values())
    types = {dtype: number for number, dtype in DTYPES.items()}
    header = int_field(1, shards) + bytes_field(3, int_field(1, 1))  # little-endian; written by producer 1
    table = {HEADER_KEY: header}
    files = [shard_path(prefix, shard, shards).open("wb") for shard in range(shards)]
    try:
        written = 0
        for name in sorted(tensors):
            tensor = tensors[name]
            shard = min(written * shards // max(total, 1), shards - 1)
            raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            dimensions = b"".join(bytes_field(2, int_field(1, size)) for size in tensor.shape)
            table[name.encode()] = (
                int_field(1, types[tensor.dtype])
                + bytes_field(2, dimensions)
                + int_field(3, shard)
                + int_field(4, files[shard].tell())
                + int_field(5, tensor.nbytes)
                + fixed32_field(6, _checksum(raw))
            )
            raw.numpy().tofile(files[shard])
            written += tensor.nbytes
    finally:
        for file in files:
            file.close()
    prefix.with_name(prefix.name + ".index").write_bytes(write_table(table))


def shard_path(prefix: Path, shard: int, shards: int) -> Path:
    """Return the path of one shard, counted from 0."""
    return prefix.with_name(f"{prefix.name}.data-{shard:05d}-of-{shards:05d}")


def _checksum(raw: Tensor) -> int:
    """Compute the masked CRC-32C of a tensor of bytes."""
    return masked(google_crc32c.value(cast(bytes, raw.numpy())))  # it takes any buffer


def _read_header(header: bytes) -> int:
    shards = 0
    for field, value in read_fields(header):
        if field == 1 and isinstance(value, int):
            shards = value
        if field == 2 and value:
            raise WireError("its numbers are big-endian, which is not supported")
    if not shards:
        raise WireError("its header does not say how many data files there are")
    return shards


def _read_entry(message: bytes) -> Entry:
    numbers = dict.fromkeys((1, 3, 4, 5, 6), 0)
    shape: tuple[int, ...] = ()
    sliced = False
    for field, value in read_fields(message):
        if field == 2 and isinstance(value, bytes):
            shape = tuple(_dimension(part) for number, part in read_fields(value) if number == 2)
        elif field == 7:
            sliced = True
        elif field in numbers and isinstance(value, int):
            numbers[field] = value
    return Entry(numbers[1], shape, numbers[3], signed(numbers[4]), signed(numbers[5]), numbers[6], sliced)


def _dimension(message: int | bytes) -> int:
    if isinstance(message, int):
        raise WireError("a tensor's shape is not a list of sizes")
    return next((signed(value) for field, value in read_fields(message) if field == 1 and isinstance(value, int)), 0)
