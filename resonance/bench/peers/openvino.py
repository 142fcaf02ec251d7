"""OpenVINO GenAI, on a model that `optimum-cli` of optimum-intel exports, weights compressed as it does by default."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import openvino
import openvino_genai

if TYPE_CHECKING:
    from resonance.engine.quantization import Precision

FORMATS: "dict[Precision, str]" = {"fp32": "fp32", "bf16": "fp16", "int8": "int8", "int4": "int4"}
COMPUTES: "dict[Precision, str]" = {"fp32": "f32"}  # else the plugin's choice: bf16 where the processor has it


class OpenVINO:
    """An LLMPipeline with its defaults: continuous batching, and a quantised cache."""

    def __init__(self, pipeline: openvino_genai.LLMPipeline, vocab_size: int) -> None:
        self._pipeline, self.vocab_size = pipeline, vocab_size
        self.needed_bytes = None

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> None:
        """See Program."""
        ids = np.array(prompts, dtype=np.int64)
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos, config.do_sample = new_tokens, True, False
        inputs = openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
        answers = self._pipeline.generate(inputs, config).tokens
        if [len(answer) for answer in answers] != [new_tokens] * len(prompts):
            raise RuntimeError(f"OpenVINO wrote {[len(answer) for answer in answers]} tokens, not {new_tokens} each.")


def prepare(folder: Path, precision: "Precision") -> None:
    """See Peer."""
    exported = _exported(folder, precision)
    if not exported.exists():
        command = [Path(sys.executable).with_name("optimum-cli"), "export", "openvino", "--model", folder]
        command += ["--task", "text-generation-with-past", "--weight-format", FORMATS[precision], exported]
        words = [str(word) for word in command]
        done = subprocess.run(words, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason"])[-1]
            raise RuntimeError(f"optimum-cli ended with code {done.returncode}: {reason[-300:]}")


def load(folder: Path, precision: "Precision", batch: int, threads: int) -> OpenVINO:
    """See Peer."""
    options: dict[str, object] = {"INFERENCE_NUM_THREADS": threads}
    if precision in COMPUTES:
        options |= {"INFERENCE_PRECISION_HINT": COMPUTES[precision], "KV_CACHE_PRECISION": COMPUTES[precision]}
    exported = _exported(folder, precision)
    pipeline = openvino_genai.LLMPipeline(str(exported), "CPU", **options)
    (output,) = openvino.Core().read_model(exported / "openvino_model.xml").outputs
    return OpenVINO(pipeline, output.partial_shape[2].get_length())


def _exported(folder: Path, precision: "Precision") -> Path:
    return folder.with_name(f"{folder.name}-openvino-{FORMATS[precision]}")
