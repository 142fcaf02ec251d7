"""Provenance of scores: which weights, data, code, settings and machine they are of."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from eval.evaluated_model import EvaluatedModel
from resonance.chat_template import ChatTemplate
from resonance.checkpoint import Checkpoint
from resonance.provenance import git_commit, hardware, library_versions, sha256_of_text, sha256_of_weights
from resonance.tokenizer import Tokenizer

LIBRARIES = ("resonance", "torch", "numpy", "scipy", "tiktoken", "rouge-score", "sacrebleu", "lm_eval")


@dataclass(frozen=True, slots=True)
class Provenance:
    """What all tasks of one evaluation have in common.

    `identity` is what the scores depend on: an earlier evaluation's records are taken over only when it is equal.
    `data`, which describes the test split, is part of it for the tasks that use that. `circumstances` are recorded
    beside it.
    """

    identity: Mapping[str, object]
    circumstances: Mapping[str, object]
    data: Mapping[str, object]

    @property
    def weights_sha256(self) -> str:
        """The hash of the weights."""
        return str(self.identity["weights_sha256"])

    @property
    def seed(self) -> int:
        """The seed of samples and intervals."""
        return int(str(self.identity["seed"]))


def provenance_of(
    checkpoint: Checkpoint,
    model: EvaluatedModel,
    *,
    dtype: str,
    quantize: str | None,
    seed: int,
    command: str,
    data: Mapping[str, object],
) -> Provenance:
    """The provenance of an evaluation of a model on this machine. Hashing takes about a second per GB of weights."""
    return Provenance(
        identity={
            "weights_sha256": sha256_of_weights(checkpoint.folder),
            "template_sha256": template_sha256(model.template),
            "tokenizer_sha256": tokenizer_sha256(model.tokenizer),
            "context_length": model.window.context_length,
            "history_length": model.window.history_length,
            "dtype": dtype,
            "quantize": quantize,
            "precision": model.engine.stats().precision,
            "seed": seed,
            "commit": git_commit(),
            "versions": library_versions(LIBRARIES),
        },
        circumstances={"hardware": hardware(), "batch_size": model.batch_size, "command": command},
        data=data,
    )


def template_sha256(template: ChatTemplate) -> str:
    """SHA-256 of the chat template in Jinja, as `tokenizer_config.json` holds it."""
    return sha256_of_text(template.jinja)


def tokenizer_sha256(tokenizer: Tokenizer) -> str:
    """SHA-256 over all tokens in the order of their ids, special ones included, each after its length in 4 bytes."""
    digest = hashlib.sha256()
    for token_id in range(tokenizer.vocab_size):
        token = tokenizer.token_bytes(token_id)
        digest.update(len(token).to_bytes(4, "little") + token)
    return digest.hexdigest()
