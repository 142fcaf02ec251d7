"""Where a setting comes from: the command line, then the environment, then the config."""

from pathlib import Path

import pytest

from resonance.errors import ResonanceError
from serve.settings import read_settings


@pytest.fixture
def read(runs: Path):
    def read(*overrides: str, **environment: str):
        return read_settings([f"root={runs}", *overrides], environment)

    return read


def test_the_environment_sets_what_differs_by_machine(read):
    settings = read(
        MODEL_PATH="tiny",
        DEVICE="cpu",
        MAX_NEW_TOKENS="99",
        CONTEXT_LENGTH="512",
        HOST="0.0.0.0",
        PORT="9000",
        CORS_ORIGINS="https://a.example, https://b.example:8443",
        RESONANCE_API_KEYS="one, two",
        DATABASE_URL="postgresql://me:p'w@localhost/db",
        SEARCH_ENABLED="true",
        SEARCH_MAX_RESULTS="3",
    )
    assert list(settings.engine.checkpoints) == ["tiny"]
    assert (settings.device, settings.sampling.max_new_tokens, settings.context_length) == ("cpu", 99, 512)
    assert (settings.host, settings.port) == ("0.0.0.0", 9000)
    assert settings.cors_origins == ("https://a.example", "https://b.example:8443")
    assert [given.key for given in settings.api_keys] == ["one", "two"]
    assert settings.store_url == "postgresql://me:p'w@localhost/db"
    assert (settings.search["provider"], settings.search["max_results"]) == ("duckduckgo", 3)


def test_the_command_line_wins_over_the_environment_and_that_over_the_config(read):
    settings = read(
        "checkpoint=other", "port=8001", "search=off", MODEL_PATH="tiny", PORT="9000", MAX_NEW_TOKENS="7",
        SEARCH_ENABLED="true",
    )  # fmt: skip
    assert list(settings.engine.checkpoints) == ["other"]
    assert settings.port == 8001
    assert settings.sampling.max_new_tokens == 7
    assert settings.search["provider"] == "off"
    assert read("checkpoint=tiny").port == 8000


def test_the_number_of_results_says_nothing_while_there_is_no_search(read):
    assert read("checkpoint=tiny", SEARCH_MAX_RESULTS="3").search["provider"] == "off"


@pytest.mark.parametrize(
    ("overrides", "environment", "sentence"),
    [
        (["checkpoint=nobody"], {}, "tiny"),
        (["checkpoint=[]"], {}, "names nothing"),
        (["checkpoint=[tiny,tiny]"], {}, "called the same"),
        (["checkpoint=tiny", "port=80"], {}, "1024 to 65535"),
        (["checkpoint=tiny", "max_quue=8"], {}, "did you mean 'max_queue'"),
        (["checkpoint=tiny", "host=example.org"], {}, "host must be one of"),
        (["checkpoint=tiny", "host=0.0.0.0"], {}, "RESONANCE_API_KEYS"),
        (["checkpoint=tiny", "auth=maybe"], {}, "auto or none"),
        (["checkpoint=tiny", "cors_origins=['*']"], {}, "name the origins"),
        (["checkpoint=tiny", "max_batch_size=0"], {}, "max_batch_size must be"),
        (["checkpoint=tiny", "device=tpu"], {}, "auto, cpu or cuda"),
        (["checkpoint=tiny", "dtype=fp16"], {}, "auto, fp32 or bf16"),
        (["checkpoint=tiny", "quantize=int2"], {}, "null, int8 or int4"),
        (["checkpoint=tiny", "temperature=-1"], {}, "from 0 to 2"),
        (["checkpoint=tiny", "limits.streams=0"], {}, "or null, not 0"),
        (["checkpoint=tiny", "tracing=collector:4318"], {}, "a collector's address"),
        (["checkpoint=tiny", "limits.receive_s=0"], {}, "from 0.1 up, not 0"),
        (["checkpoint=tiny"], {"SEARCH_ENABLED": "perhaps"}, "SEARCH_ENABLED must be true or false"),
        (["checkpoint=tiny"], {"PORT": "many"}, "port"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_sentence(read, overrides, environment, sentence):
    with pytest.raises(ResonanceError, match=sentence) as caught:
        read(*overrides, **environment)
    assert "\n" not in str(caught.value)


def test_other_machines_are_let_in_without_keys_only_when_that_is_said(read):
    assert read("checkpoint=tiny", "host=0.0.0.0", "auth=none").asks_for_keys is False
    assert read("checkpoint=tiny", "host=::", RESONANCE_API_KEYS="k").host == "::"
