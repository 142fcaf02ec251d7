"""A checkpoint that this server serves, as the judge of `resonance eval`."""

from pathlib import Path

from eval.judge.client import JudgeClient
from eval.judge.endpoint import Endpoint
from eval.judge.prompts import Rubric
from resonance.retrieval.cache import Cache

from .conftest import Running


def test_a_served_checkpoint_is_an_endpoint_for_the_judge(server: Running, tmp_path: Path) -> None:
    settings = {"max_tokens": 6, "concurrency": 8, "backoff": 0.1}  # the server takes six requests at a time
    endpoint = Endpoint(url=f"{server.base}/v1", model="other", **settings)
    rubric = Rubric("Be right.")
    prompts = [rubric.grade(f"What is {n} plus 1?", str(n + 1), str(n + 1)) for n in range(8)]
    first = JudgeClient(endpoint, Cache(tmp_path / "first.sqlite"), None).ask(prompts)
    assert {reply.model for reply in first} == {"other"}
    assert all(reply.refusal is None and reply.completion_tokens and reply.prompt_tokens > 100 for reply in first)
    again = JudgeClient(endpoint, Cache(tmp_path / "again.sqlite"), None).ask(prompts)
    assert [reply.text for reply in again] == [reply.text for reply in first]  # temperature 0 and the seed are honoured
