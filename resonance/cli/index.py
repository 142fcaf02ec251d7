"""`resonance index PATH`: index a folder of documents for search."""

from pathlib import Path

from rich.console import Console

from resonance.hydra_config import compose
from resonance.retrieval.index import Index
from resonance.retrieval.sanitize import visible
from resonance.retrieval.types import SearchError


def main(overrides: list[str]) -> None:
    """`resonance index PATH`: index a folder of documents, or bring its index up to date."""
    config = compose("index", overrides)
    if not config.path:
        raise SearchError("give the folder of documents: resonance index PATH")
    index = Index(Path(config.path).expanduser(), Path(config.index).expanduser())
    update = index.update()
    console = Console(highlight=False, soft_wrap=True)
    for sentence in update.warnings(index.documents):
        console.print(sentence, style="yellow", markup=False)
    console.print(
        f"{update.files} files, {update.passages} passages: {update.added} new, {update.changed} changed, "
        f"{update.removed} removed, in {update.seconds:.1f} s"
    )
    console.print(f"index: {index.folder}", markup=False)
    if config.query:
        for found in index.search(str(config.query), int(config.k)):
            passage = f"{found.title} ({visible(found.path)}): {found.text[:160]}"
            console.print(f"{found.score:6.2f}  {passage}", markup=False)
