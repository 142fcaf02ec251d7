"""Embeddings: the mean of the last layer, in OpenAI's form, within the limits of other requests."""

import base64
import struct
from typing import Any

import openai
import pytest
import torch

from resonance import Checkpoint, Engine

from .conftest import Running

TEXTS = ["Hello there", "word " * 700]


def post(server: Running, **fields: Any) -> Any:
    response = server.client.post("/v1/embeddings", json={"model": "caller"} | fields)
    assert response.status_code == 200, response.text
    return response.json()


def test_an_embedding_is_the_mean_of_the_last_layer_in_each_form_of_the_request(tools_server: Running) -> None:
    folder = tools_server.client.get("/v1/models/caller").json()["resonance"]["run"]["folder"]
    checkpoint = next(path for path in tools_server.log.parents[1].glob("chatml*/caller") if str(path).endswith(folder))
    engine = Engine.from_checkpoint(Checkpoint.find(str(checkpoint)), dtype="fp32")
    assert engine.tokenizer is not None
    ids = [engine.tokenizer.encode(text) for text in TEXTS]
    expected = engine.embed(ids)
    for given in (TEXTS, ids):
        done = post(tools_server, input=given)
        assert [one["index"] for one in done["data"]] == [0, 1]
        torch.testing.assert_close(torch.tensor([one["embedding"] for one in done["data"]]), expected)
        assert done["usage"] == {"prompt_tokens": sum(map(len, ids)), "total_tokens": sum(map(len, ids))}
    for given in (TEXTS[0], ids[0]):
        written = post(tools_server, input=given, encoding_format="base64")["data"][0]["embedding"]
        values = struct.unpack("<32f", base64.b64decode(written))
        torch.testing.assert_close(torch.tensor(values), expected[0])


def test_openais_client_embeds_and_prompt_tokens_are_counted(tools_server: Running) -> None:
    before = tools_server.metric("resonance_prompt_tokens_total")
    client = openai.OpenAI(base_url=f"{tools_server.base}/v1", api_key="none", max_retries=0)
    done = client.embeddings.create(model="caller", input=["one", "two", "three"])
    assert [len(one.embedding) for one in done.data] == [32] * 3
    counted = tools_server.until(
        lambda: tools_server.metric("resonance_prompt_tokens_total") == before + done.usage.prompt_tokens
    )
    assert counted


@pytest.mark.parametrize(
    ("fields", "param", "code", "sentence"),
    [
        (
            {"input": "word " * 3000},
            "input",
            "context_length_exceeded",
            "This model's maximum context length is 2048 tokens",
        ),
        ({"input": ["a", ""]}, "input.1", "invalid_value", "at least one character"),
        ({"input": []}, "input", "invalid_value", ""),
        ({"input": [[99999]]}, "input", "invalid_value", "99999"),
        ({"input": "a", "dimensions": 8}, "dimensions", "unsupported_field", "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format", "invalid_value", ""),
        ({}, "input", "missing_field", "missing"),
    ],
)
def test_what_cannot_be_embedded_is_a_400_by_name(
    tools_server: Running, fields: dict[str, Any], param: str, code: str, sentence: str
) -> None:
    response = tools_server.client.post("/v1/embeddings", json={"model": "caller"} | fields)
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, param, code)
    assert sentence in error["message"]
