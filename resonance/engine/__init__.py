"""The inference engine: continuous batching over a preallocated KV cache.

A request's path, which is the order to read in:

    engine.py           Engine: requests in, steps, pieces out
    sampling_params.py  what a request can set
    requests.py         validates a request and makes its n sequences
    sequence.py         a sequence: tokens, state, pieces
    request_tracker.py  open requests by id; their pieces; cancel, pause, close
    scheduler.py        which sequence has a slot; which tokens a step computes
    model_runner.py     computes them with torch over kv_cache.py; kernels/ in C++, cuda_graph_runner.py on a GPU
    sampler.py          samples the next tokens, after logits_processors.py
    detokenizer.py      tokens to text
    outputs.py          pieces and completions; stats.py the statistics

speculative.py drafts tokens, guided_decoding.py enforces schemas, beam_search.py and scoring.py use the engine for more
than generation; loading.py, quantization.py and memory.py prepare the model.
"""

from resonance.engine.engine import Engine
from resonance.engine.outputs import Completion, Piece
from resonance.engine.sampling_params import EngineError, SamplingParams
from resonance.engine.stats import EngineStats

__all__ = ["Completion", "Engine", "EngineError", "EngineStats", "Piece", "SamplingParams"]
