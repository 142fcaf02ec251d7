"""Embeddings of texts: the mean of the last layer's hidden states over a text's tokens, in OpenAI's form."""

import asyncio
import base64
import json
import struct
from collections.abc import Sequence

from serve.api.errors import ApiError
from serve.api.schemas.requests import EmbeddingRequest
from serve.api.service import Service
from serve.generation.event_stream import EventStream
from serve.generation.format import Format
from serve.generation.generation import Generation
from serve.generation.logprobs import write_on_thread
from serve.generation.prompt import LONG_CHARS, Prepared, tokenize
from serve.models.served_model import ServedModel
from serve.workers.messages import Embedded, PromptInput, Scored, Token

NUMBER_BYTES = 16  # of a number in the answer's JSON; a base64 number takes less


async def prepare_embeddings(service: Service, model: ServedModel, body: EmbeddingRequest) -> Prepared:
    """Tokenise the texts. Raises ApiError 400 for one that is empty or too long."""
    texts = _texts(body)
    max_chars = service.settings.limits.message_chars
    for i, text in enumerate(texts):
        where = "input" if isinstance(body.input, str) else f"input.{i}"
        if not text:
            raise ApiError(400, "A text to embed has at least one character.", param=where, code="invalid_value")
        if isinstance(text, str) and len(text) > max_chars:
            raise ApiError(
                400, f"A text to embed has at most {max_chars} characters.", param=where, code="input_too_long"
            )
    limit = model.context_length
    if sum(len(text) for text in texts if isinstance(text, str)) > LONG_CHARS:
        prompts = await asyncio.to_thread(tokenize, texts, model, limit, "input")
    else:
        prompts = tokenize(texts, model, limit, "input")
    nbytes = len(prompts) * model.config.n_embd * NUMBER_BYTES
    return Prepared([PromptInput(ids, None, n=0, embed=True) for ids in prompts], nbytes, logprobs=False)


class EmbeddingsFormat(Format):
    """Collects the embeddings of a request's texts and writes them as OpenAI's list."""

    def __init__(self, generation: Generation, body: EmbeddingRequest) -> None:
        self._generation, self._as_base64 = generation, body.encoding_format == "base64"
        self._embeddings: dict[int, bytes] = {}  # by prompt: float32, little-endian

    async def add_embedding(self, embedded: Embedded) -> None:
        """Keep a text's embedding."""
        self._embeddings[embedded.prompt] = embedded.values

    async def body(self) -> bytes:
        """Return the list of embeddings, in the order of the texts."""
        return await write_on_thread(self._list)

    def _list(self) -> bytes:
        data = [
            {"object": "embedding", "index": i, "embedding": self._written(self._embeddings[i])}
            for i in sorted(self._embeddings)
        ]
        tokens = self._generation.prepared.prompt_tokens()
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        head = {"object": "list", "model": self._generation.model.name, "data": data, "usage": usage}
        return json.dumps(head).encode()

    def _written(self, values: bytes) -> str | list[float]:
        if self._as_base64:
            return base64.b64encode(values).decode()
        return [float(f"{value:.9g}") for value in struct.unpack(f"<{len(values) // 4}f", values)]

    # An embedding generates and scores nothing, and is not streamed.

    async def add_scores(self, scored: Scored) -> None:
        """Do nothing."""

    def write_start(self, stream: EventStream) -> None:
        """Do nothing."""

    async def write_token(self, stream: EventStream, token: Token) -> None:
        """Do nothing."""

    async def write_end(self, stream: EventStream) -> None:
        """Do nothing."""


def _texts(body: EmbeddingRequest) -> Sequence[str | list[int]]:
    given = body.input
    if isinstance(given, str):
        return [given]
    return [given] if isinstance(given[0], int) else given  # pyright: ignore[reportReturnType]  # one list of token ids
