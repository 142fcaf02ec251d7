"""Reads one document's passages in a process of its own: a malicious file may take hours, or all memory.

`python -m resonance.retrieval.documents.extract NAME` reads the file from its standard input and writes one JSON
object: `{"passages": [[title, text], ...]}`, or `{"unreadable": "why"}`.
"""

import asyncio
import json
import resource
import subprocess
import sys
from pathlib import Path

from resonance.retrieval.documents.passages import Passage, Unreadable, read_passages

SECONDS = 30.0
MAX_PASSAGES = 10_000  # about 8 MB of text, or 4,000 pages
MEMORY = 2 << 30  # bytes of the process's address space


async def extract_passages(name: str, content: bytes) -> list[Passage]:
    """The passages of a file; the suffix of `name` gives the format. Raises Unreadable."""
    command = (sys.executable, "-m", "resonance.retrieval.documents.extract", name)
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(SECONDS):
            output, _ = await process.communicate(content)
    except TimeoutError:
        raise Unreadable(f"it takes longer than {SECONDS:g} s to read") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise Unreadable("it cannot be read within the memory of a document")
    answer = json.loads(output)
    if "unreadable" in answer:
        raise Unreadable(answer["unreadable"])
    return [Passage(title, text) for title, text in answer["passages"]]


def main(name: str) -> None:
    """Write the passages of the file on the standard input."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (int(SECONDS) + 1, int(SECONDS) + 1))
    try:
        passages = read_passages(Path(name), sys.stdin.buffer.read())
        if len(passages) > MAX_PASSAGES:
            raise Unreadable(f"it holds more than {MAX_PASSAGES} passages")
        answer: dict[str, object] = {"passages": [[passage.title, passage.text] for passage in passages]}
    except Unreadable as why:
        answer = {"unreadable": str(why)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
