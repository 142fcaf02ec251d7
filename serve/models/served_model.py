"""A served checkpoint as the HTTP process uses it: tokenizer, template and sizes, without the weights."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from resonance.chat_template import ChatTemplate, ContextOverflow, Fitted, Message, Window
from resonance.checkpoint import METADATA_FILE, Checkpoint
from resonance.errors import ResonanceError
from resonance.metadata import Metadata
from resonance.model_config import GPT2Config
from resonance.tokenizer import Tokenizer
from serve.api.errors import ApiError
from serve.api.schemas.responses import Model, ModelCard, RunPlace, SamplingDefaults
from serve.settings import Sampling

TOKENS_OF_MARKUP = 8  # by how much fewer tokens than its parts a prompt may have, where words join


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One checkpoint; `window` is its context window on this server, at most the model's.

    Where the server's settings name no `context_length`, older turns are kept up to the length that it was trained on.
    """

    name: str
    checkpoint: str  # the run's or base model's name; another than `name` where that is an alias
    key: str  # in the workers' checkpoint list; a reload gets a new key
    folder: str
    config: GPT2Config
    metadata: Metadata
    crc32: str | None  # of the weights, as their file carries it
    tokenizer: Tokenizer
    template: ChatTemplate
    window: Window
    parameters: int
    trained: bool
    families: tuple[str, ...]
    run: RunPlace | None

    @classmethod
    def open(cls, name: str, folder: str, context_length: int | None) -> "ServedModel":
        """Read the checkpoint without its weights. Raises ResonanceError when a file is missing or damaged."""
        checkpoint = Checkpoint.find(folder)
        parameters = checkpoint.num_parameters()  # a damaged checkpoint stops the server before it starts
        template = checkpoint.template()
        longest = checkpoint.config.context_length
        if context_length is not None and context_length > longest:
            raise ResonanceError(f"context_length must be at most {longest} for {name}, not {context_length}.")
        return cls(
            name=name,
            checkpoint=checkpoint.name,
            key=name,
            folder=folder,
            config=checkpoint.config,
            metadata=checkpoint.metadata,
            crc32=checkpoint.crc32,
            tokenizer=template.tokenizer,
            template=template,
            window=checkpoint.window if context_length is None else Window(context_length),
            parameters=parameters,
            trained=checkpoint.metadata.steps > 0,
            families=_families(checkpoint.folder),
            run=_run(checkpoint.folder),
        )

    @property
    def context_length(self) -> int:
        """The maximum tokens of prompt and answer together."""
        return self.window.context_length

    def card(self, sampling: Sampling) -> Model:
        """Return the model's entry in /v1/models; `sampling` is the server's for requests that name none."""
        created = datetime.fromisoformat(self.metadata.created_at)
        return Model(
            id=self.name,
            created=int(created.timestamp()),
            resonance=ModelCard(
                checkpoint=self.checkpoint,
                template=self.metadata.template,
                parameters=self.parameters,
                context_length=self.context_length,
                trained_length=self.metadata.trained_length,
                base=self.metadata.base,
                data=self.metadata.data,
                steps=self.metadata.steps,
                tokens_seen=self.metadata.tokens_seen,
                scores=dict(self.metadata.scores),
                families=list(self.families),
                run=self.run,
                created_at=self.metadata.created_at,
                sampling=SamplingDefaults.model_validate(sampling.model_dump()),
            ),
        )

    def count_tokens(self, text: str) -> int:
        """Return the number of tokens of a text."""
        return len(self.tokenizer.encode(text))

    def count_prompt(self, messages: Sequence[Message]) -> tuple[int, int]:
        """Return the tokens of these messages as a whole prompt, and those of the last message's text alone."""
        if not messages:
            return 0, 0
        fitted = self.template.fit(messages, budget=1 << 30)
        return len(fitted.prompt_ids), self.count_tokens(messages[-1].content)

    def prompt_budget(self, max_new_tokens: int) -> int:
        """Return the maximum tokens of a prompt."""
        return self.window.prompt_budget(max_new_tokens)

    def fit(self, messages: Sequence[Message], max_new_tokens: int, prefix: str = "") -> Fitted:
        """Return the newest turns that fit, as a prompt that ends with the answer's prefix.

        Raises ApiError when the system prompt, the newest turn and the prefix do not fit.
        """
        prefix_ids = self.tokenizer.encode(prefix)
        budget = self.prompt_budget(max_new_tokens) - len(prefix_ids)
        history_budget = self.window.history_budget(max_new_tokens) - len(prefix_ids)
        recent = self._recent(messages, history_budget)
        try:
            fitted = self.template.fit(recent, budget=budget, history_budget=history_budget)
        except ContextOverflow as error:
            raise ApiError(
                400,
                f"The prompt is too long. This model's maximum context length is {self.context_length} tokens, and the "
                f"system prompt and the newest message need {error.needed} beside {max_new_tokens} for the answer; "
                "shorten the message, or lower max_tokens.",
                param="messages",
                code="context_length_exceeded",
            ) from error
        except ResonanceError as error:
            raise ApiError(400, str(error), param="messages", code="invalid_messages") from error
        dropped = fitted.dropped + len(messages) - len(recent)
        return replace(fitted, prompt_ids=[*fitted.prompt_ids, *prefix_ids], dropped=dropped)

    def _recent(self, messages: Sequence[Message], budget: int) -> Sequence[Message]:
        """Drop old turns that cannot fit: this is much cheaper per turn than `ChatTemplate.fit`."""
        system = 1 if messages and messages[0].role == "system" else 0
        left = budget + TOKENS_OF_MARKUP
        start = len(messages)
        newest = max((i for i, message in enumerate(messages) if message.role == "user"), default=system)
        for i in range(len(messages) - 1, system - 1, -1):
            left -= self.count_tokens(messages[i].content) - TOKENS_OF_MARKUP
            if left < 0 and i < newest:
                break
            if messages[i].role == "user" or i == system:
                start = i
        return [*messages[:system], *messages[start:]]


def open_models(checkpoints: Mapping[str, str], context_length: int | None) -> dict[str, ServedModel]:
    """Open every served checkpoint. Raises ResonanceError for one that is not whole."""
    return {name: ServedModel.open(name, folder, context_length) for name, folder in checkpoints.items()}


def _families(folder: Path) -> tuple[str, ...]:
    """Return the task families of a checkpoint's last evaluation, best first; none without an evaluation."""
    try:
        by_family = json.loads((folder / "eval.json").read_text(encoding="utf-8"))["tasks"]["instruct"]["by_family"]
        scores = {str(name): float(score["value"]) for name, score in by_family.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ()
    return tuple(sorted(scores, key=lambda name: -scores[name]))


def _run(folder: Path) -> RunPlace | None:
    """Return where a run is kept: the names of its folder and of its parent folder, and its page."""
    if not (folder / METADATA_FILE).is_file():
        return None
    tracked = folder / "wandb" / "url.txt"
    url = tracked.read_text(encoding="utf-8").strip() if tracked.is_file() else ""
    resolved = folder.resolve()
    return RunPlace(folder=f"{resolved.parent.name}/{resolved.name}", url=url if url.startswith("https://") else None)
