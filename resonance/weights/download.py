"""Downloads a released GPT-2 to RESONANCE_HOME/weights/<name>, or finds it in the Hugging Face Hub's cache.

`huggingface_hub` finds its cache, endpoint and token (HF_HOME, HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE). The bytes come
through `transfer`, because `hf_hub_download` deletes an interrupted file and does not verify hashes. They stay in
RESONANCE_HOME, because the library has no public function that adds a file to the Hub's cache.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from filelock import FileLock, Timeout
from huggingface_hub import constants, get_token

from resonance import weights
from resonance.atomic_files import write_text_atomically
from resonance.paths import home
from resonance.private_files import private_folder
from resonance.weights import huggingface, openai
from resonance.weights.state_dict import WeightsError
from resonance.weights.transfer import ProgressListener, RetryPolicy, Transfer, hash_file

MANIFEST = "download.json"


@dataclass(frozen=True, slots=True)
class Source:
    """A server with all released models in one layout; the last file makes a folder complete."""

    base_url: str
    folders: Mapping[str, str]  # by model: below base_url
    files: tuple[str, ...]
    layout: weights.Layout


@dataclass(frozen=True, slots=True)
class DownloadedModel:
    """A model that is on disk and has been read once."""

    folder: Path
    parameters: int


SOURCES = {
    "huggingface": Source(
        constants.ENDPOINT,
        {name: f"openai-community/{name}/resolve/main" for name in weights.NAMES},
        (huggingface.CONFIG, huggingface.WEIGHTS),
        huggingface,
    ),
    "openai": Source(
        "https://openaipublic.blob.core.windows.net",
        dict(zip(weights.NAMES, (f"gpt-2/models/{size}" for size in ("124M", "355M", "774M", "1558M")), strict=True)),
        ("hparams.json", "checkpoint", "model.ckpt.data-00000-of-00001", "model.ckpt.index"),
        openai,
    ),
}


def download(
    name: str, source: str, policy: RetryPolicy, listener: ProgressListener, base_url: str | None = None
) -> DownloadedModel:
    """Put a model's files where `weights.resolve(name)` finds them, and read them once.

    Files that are on disk with the hash that they arrived with are not fetched again, nor is a model in the Hub's
    cache with source huggingface. Raises WeightsError for an unknown name or source, while another process downloads
    the same model, when the transfer fails, and when the files are no GPT-2.
    """
    if name not in weights.NAMES:
        raise WeightsError(f"There is no released GPT-2 named {name!r}; there are {', '.join(weights.NAMES)}.")
    if source not in SOURCES:
        raise WeightsError(f"There is no source {source!r}; there are {', '.join(SOURCES)}.")
    folder, layout = home() / "weights" / name, SOURCES[source].layout
    is_here = (folder / huggingface.WEIGHTS).is_file()
    if source == "huggingface" and not is_here and (snapshot := _verified_snapshot(name)):
        folder = snapshot
    else:
        try:
            private_folder(folder.parent)
            with FileLock(folder.with_name(f".{name}.lock"), timeout=0):
                private_folder(folder)
                try:
                    _fetch_all(name, SOURCES[source], folder, policy, listener, base_url)
                finally:
                    with suppress(OSError):  # it holds files
                        folder.rmdir()  # an empty folder would look like a download that was interrupted
        except Timeout:
            raise WeightsError(f"{name} is being downloaded by another process; wait for that one.") from None
        except OSError as error:
            raise WeightsError(f"{folder} cannot be written: {error.strerror or error}.") from None
    _, state = layout.read(folder)
    return DownloadedModel(folder, sum(tensor.numel() for tensor in state.values()))


def _verified_snapshot(name: str) -> Path | None:
    """Return the model in the Hub's cache; None where it is missing, unreadable, or not what its hash names."""
    if (folder := weights.find_snapshot(name)) is None:
        return None
    blob = (folder / huggingface.WEIGHTS).resolve()  # named by its SHA-256 where the system has links
    try:
        return folder if len(blob.name) != 64 or hash_file(blob, {"sha256"})["sha256"] == blob.name else None
    except OSError:
        return None


def _fetch_all(
    name: str, source: Source, folder: Path, policy: RetryPolicy, listener: ProgressListener, base_url: str | None
) -> None:
    is_hub = source.layout is huggingface and base_url is None
    url = f"{(base_url or source.base_url).rstrip('/')}/{source.folders[name]}"
    token = get_token() if is_hub else None  # no other server gets it
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    manifest = _read_manifest(folder)
    timeout = httpx.Timeout(policy.stall_timeout)
    with httpx.Client(timeout=timeout, follow_redirects=True, headers=headers) as client:
        for file in source.files:
            path = folder / file
            if _is_whole(path, manifest.get(file)):
                size = path.stat().st_size
                listener.progress(file, size, size)
                continue
            if is_hub and constants.is_offline_mode():
                raise WeightsError(
                    f"{name} is not in the Hugging Face Hub's cache ({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE "
                    "forbids its download."
                )
            transferred = Transfer(client, f"{url}/{file}", path, policy, listener).run()
            manifest[file] = {"url": f"{url}/{file}", **asdict(transferred)}
            write_text_atomically(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")


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
