"""Where a checkpoint came from: hashes and commits that let somebody make it again."""

import hashlib
import subprocess
from pathlib import Path

from resonance.paths import IS_CHECKOUT, PROJECT_ROOT

WEIGHT_PATTERNS = ("*.safetensors", "*.pth", "*.pt", "*.ckpt.*")


def git_commit() -> str | None:
    """The checkout's commit, with `-dirty` when it has changes; None without git or outside a checkout."""
    if not IS_CHECKOUT:  # an installation may lie in another project's repository
        return None
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()


def sha256_of_weights(path: Path) -> str:
    """SHA-256 over the weight files of a folder in the order of their names, or of the one file."""
    files = [path] if path.is_file() else sorted({file for pattern in WEIGHT_PATTERNS for file in path.glob(pattern)})
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()


def sha256_of_text(text: str) -> str:
    """SHA-256 of a text's UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()
