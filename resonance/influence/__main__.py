"""The process in which a server explains an answer: a question on stdin, the examples on stdout, both JSON.

{"folder", "messages": [{"role", "content"}, ...], "count"}  ->  {"record", "influences"}, or {"error"}
"""

import json
import os
import sys
from dataclasses import asdict
from typing import Any

import torch

from resonance.chat_template import Message
from resonance.checkpoint import Checkpoint
from resonance.errors import ResonanceError
from resonance.influence.answer import answer_gradient
from resonance.influence.index import InfluenceIndex

NICENESS = 10  # answers go first


def main() -> None:
    """Answer one question."""
    os.nice(NICENESS)
    torch.set_num_threads(1)
    question = json.load(sys.stdin)
    try:
        answer = _influences(question)
    except ResonanceError as error:
        answer = {"error": str(error)}
    json.dump(answer, sys.stdout)


def _influences(question: dict[str, Any]) -> dict[str, Any]:
    checkpoint = Checkpoint.open(question["folder"])
    index = InfluenceIndex.open(checkpoint)
    messages = [Message(one["role"], one["content"]) for one in question["messages"]]
    ranked = index.rank(answer_gradient(checkpoint, messages, index.record.side), question["count"])
    influences = [{"score": one.score, **index.example(one.position)} for one in ranked]
    return {"record": asdict(index.record), "influences": influences}


if __name__ == "__main__":
    main()
