"""The live view of a running server."""

import httpx
import pytest

from resonance.errors import ResonanceError
from serve.top import fetch, main, show


def test_one_look_shows_what_the_server_has_done(server, capsys):
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5, "logit_bias": {"50256": -100}}
    assert server.client.post("/v1/chat/completions", json=body).status_code == 200
    main([f"url='{server.base}'", "once=true"])
    shown = capsys.readouterr().out
    assert "tiny · ok" in shown
    seen = fetch(server.client)
    assert f"{seen.values['resonance_generated_tokens_total']:,.0f}" in shown
    assert seen.values["resonance_generated_tokens_total"] >= 5
    half = seen.quantile("resonance_time_to_first_token_seconds", 0.5)
    assert half is not None
    assert half <= (seen.quantile("resonance_time_to_first_token_seconds", 0.95) or 0)
    assert show(seen).row_count == 12


def test_a_server_that_is_not_there_is_said_in_one_sentence():
    with pytest.raises(ResonanceError, match="is the server running"):
        main(["url=http://127.0.0.1:9", "once=true"])
    with pytest.raises(ResonanceError, match=r"every_s must be"):
        main(["every_s=0"])
    with pytest.raises(ResonanceError, match="a server's address"):
        main(["url=127.0.0.1:8000"])


def test_another_program_is_told_apart(server):
    with httpx.Client(base_url=f"{server.base}/docs") as client, pytest.raises(ResonanceError, match="not as a"):
        fetch(client)
