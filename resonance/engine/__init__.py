"""The inference engine: continuous batching over preallocated cache slots.

The way of a request, which is the order to read in:

    engine.py       requests come in, steps are computed, pieces of text come out
    params.py       what a request may ask for
    requests.py     a request, checked against model and tokenizer, becomes texts
    text.py         one text in the making
    desk.py         the requests under way, by their ids
    scheduler.py    who gets a slot, and which tokens a step computes
    runner.py       computes them with torch, over the slots of cache.py; kernels/ does it in C++, graphs.py on a GPU
    choosing.py     the tokens that follow: shaping.py bends their logits, sampling.py draws
    detokenize.py   text from tokens
    results.py      what the caller gets; stats.py what was counted

Beside the way: speculate.py and draft.py guess ahead, grammar.py holds texts to a schema, beam.py searches, scoring.py
judges what is there already; loading.py, quantize.py and memory.py make an engine of a model.
"""

from resonance.engine.engine import Engine
from resonance.engine.outputs import Completion, Piece
from resonance.engine.sampling_params import EngineError, SamplingParams
from resonance.engine.stats import EngineStats

__all__ = ["Completion", "Engine", "EngineError", "EngineStats", "Piece", "SamplingParams"]
