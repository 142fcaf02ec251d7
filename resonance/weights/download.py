"""A released GPT-2's files, brought to RESONANCE_HOME/weights/<name>.

It knows where the files are and which make a model; `transfer` brings each of them.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from filelock import FileLock, Timeout

from resonance import weights
from resonance.atomic_files import write_text_atomically
from resonance.paths import home
from resonance.private_files import private_folder
from resonance.weights import huggingface, openai
from resonance.weights.remote_file import hash_file
from resonance.weights.state_dict import WeightsError
from resonance.weights.transfer import Policy, Watcher, fetch

MANIFEST = "download.json"


@dataclass(frozen=True, slots=True)
class Source:
    """A place that holds all released models in one layout; the last file is the one that makes a folder whole."""

    base_url: str
    folders: Mapping[str, str]  # by model: below base_url
    files: tuple[str, ...]
    layout: weights.Layout


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A model that is on disk and has been read once."""

    folder: Path
    parameters: int


SOURCES = {
    "huggingface": Source(
        "https://huggingface.co",
        {name: f"openai-community/{name}/resolve/main" for name in weights.NAMES},
        ("config.json", "model.safetensors"),
        huggingface,
    ),
    "openai": Source(
        "https://openaipublic.blob.core.windows.net",
        dict(zip(weights.NAMES, (f"gpt-2/models/{size}" for size in ("124M", "355M", "774M", "1558M")), strict=True)),
        ("hparams.json", "checkpoint", "model.ckpt.data-00000-of-00001", "model.ckpt.index"),
        openai,
    ),
}


def download(name: str, source: str, policy: Policy, watch: Watcher, base_url: str | None = None) -> Downloaded:
    """Bring a model's files to its folder, where `weights.resolve(name)` finds them, and read it once.

    Files that are there already, with the hash that they arrived with, are not fetched again. Raises WeightsError
    for an unknown name or source, while another process downloads the same model, when `fetch` gives up, and when
    the files make no model.
    """
    if name not in weights.NAMES:
        raise WeightsError(f"There is no released GPT-2 named {name!r}; there are {', '.join(weights.NAMES)}.")
    if source not in SOURCES:
        raise WeightsError(f"There is no source {source!r}; there are {', '.join(SOURCES)}.")
    place, folder = SOURCES[source], home() / "weights" / name
    url = f"{(base_url or place.base_url).rstrip('/')}/{place.folders[name]}"
    try:
        private_folder(folder)
        with FileLock(folder.with_name(f".{name}.lock"), timeout=0):
            _fetch_all(url, place.files, folder, policy, watch)
    except Timeout:
        raise WeightsError(f"{name} is being downloaded by another process; wait for that one.") from None
    except OSError as error:
        raise WeightsError(f"{folder} cannot be written: {error.strerror or error}.") from None
    _, state = place.layout.read(folder)
    return Downloaded(folder, sum(tensor.numel() for tensor in state.values()))


def _fetch_all(url: str, files: tuple[str, ...], folder: Path, policy: Policy, watch: Watcher) -> None:
    arrived = _read_manifest(folder)
    timeout = httpx.Timeout(policy.stall_timeout)
    with httpx.Client(timeout=timeout, follow_redirects=True) as client:
        for file in files:
            path = folder / file
            if _is_whole(path, arrived.get(file)):
                size = path.stat().st_size
                watch.progress(file, size, size)
                continue
            fetched = fetch(client, f"{url}/{file}", path, policy, watch)
            arrived[file] = {"url": f"{url}/{file}", **asdict(fetched)}
            write_text_atomically(folder / MANIFEST, json.dumps(arrived, indent=2) + "\n")


def _is_whole(path: Path, record: Mapping[str, Any] | None) -> bool:
    if record is None or not path.is_file() or path.stat().st_size != record.get("size"):
        return False
    return hash_file(path, {"sha256"})["sha256"] == record.get("sha256")


def _read_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {file: record for file, record in content.items() if isinstance(record, dict)}
