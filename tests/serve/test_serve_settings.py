"""Where a setting comes from: the command line, then the environment, then the config."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from dotenv import dotenv_values

from resonance.errors import ResonanceError
from serve.run import devices
from serve.settings import ENVIRONMENT, read_settings


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
    assert settings.store.url == "postgresql://me:p'w@localhost/db"
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
        (["checkpoint=tiny", "cors_origins=https://a.example"], {}, "list of texts"),
        (["checkpoint=tiny", "allowed_hosts=['*']"], {}, "each host without scheme and port"),
        (["checkpoint=tiny", "allowed_hosts=['http://chat.lan']"], {}, "not 'http://chat.lan'"),
        (["checkpoint=tiny", "allowed_hosts=['chat.lan:80']"], {}, "not 'chat.lan:80'"),
        (["checkpoint=tiny", "max_batch_size=0"], {}, "max_batch_size must be"),
        (["checkpoint=tiny", "device=tpu"], {}, "auto, cpu or cuda"),
        (["checkpoint=tiny"], {"DEVICE": "mps"}, "device must be auto, cpu or cuda, not 'mps'"),
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
    assert read("checkpoint=tiny", "host=0.0.0.0", "auth=none").requires_keys is False
    assert read("checkpoint=tiny", "host=::", RESONANCE_API_KEYS="k").host == "::"


@pytest.mark.parametrize(
    "origin",
    [
        "localhost:5173",
        "http://localhost:5173/",
        "http://Chat.example.org",
        "http://chat.example.org:80",
        "https://chat.example.org:443",
        "http://a@chat.example.org",
        "http://chat.example.org/page",
        "http://chat.example.org?x",
        "http://",
        "http://a b",
        "http://[::1",
        "http://localhost:99999",
        "null",
        "*",
    ],
)
def test_what_no_browser_sends_as_an_origin_is_refused_at_start(read, origin):
    for value in (origin, f'["https://a.example", "{origin}"]'):
        with pytest.raises(ResonanceError, match="cors_origins must") as caught:
            read("checkpoint=tiny", CORS_ORIGINS=value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ['["http://a.example"', "[1]", '[["http://a.example"]]', "['http://a.example']"])
def test_a_list_that_is_no_json_is_refused_at_start(read, value):
    with pytest.raises(ResonanceError, match="CORS_ORIGINS must be a JSON list"):
        read("checkpoint=tiny", CORS_ORIGINS=value)


def test_origins_of_every_form_that_browsers_send_are_taken(read):
    origins = ("http://localhost:5173", "https://a.example", "http://[::1]:3000", "chrome-extension://abcdefgh")
    assert read("checkpoint=tiny", CORS_ORIGINS=",".join(origins)).cors_origins == origins
    assert read("checkpoint=tiny", CORS_ORIGINS=json.dumps(origins)).cors_origins == origins
    assert read("checkpoint=tiny", CORS_ORIGINS=json.dumps(origins, indent=1)).cors_origins == origins
    assert read("checkpoint=tiny", CORS_ORIGINS="[]").cors_origins == ()


ENV_FILES = {
    "original": """
# Model
MODEL_PATH=checkpoints/tiny     # what is served
DEVICE=cpu                      # cpu, cuda
MAX_NEW_TOKENS=99               # at most
CONTEXT_LENGTH=512

# Server
HOST=0.0.0.0
PORT=9000                       # where
CORS_ORIGINS=["http://localhost:5173"]   # the page's dev server

# Search
SEARCH_ENABLED=True             # true, false
SEARCH_MAX_RESULTS=3
RESONANCE_API_KEYS=one,two      # two keys
RESONANCE_HOME=cache            # downloads
DATABASE_URL=postgresql://me:p%23w@localhost/db   # with a # in it
WANDB_API_KEY=                  # none
""",
    "quoted": """
export MODEL_PATH = 'checkpoints/tiny'
DEVICE="cpu" # a comment
MAX_NEW_TOKENS="99"
CONTEXT_LENGTH='512'
HOST = "0.0.0.0"
PORT="9000"
CORS_ORIGINS='["http://localhost:5173"]' # JSON in quotes
SEARCH_ENABLED="true"
SEARCH_MAX_RESULTS="3"
RESONANCE_API_KEYS="one, two"
RESONANCE_HOME="cache"
DATABASE_URL="postgresql://me:p%23w@localhost/db"
WANDB_API_KEY=""
""",
    "commas": """
MODEL_PATH=checkpoints/tiny
DEVICE=cpu
MAX_NEW_TOKENS=99
CONTEXT_LENGTH=512
HOST=0.0.0.0
PORT=9000
CORS_ORIGINS=http://localhost:5173,   # one origin
SEARCH_ENABLED=1
SEARCH_MAX_RESULTS=3
RESONANCE_API_KEYS=one, two
RESONANCE_HOME=cache
DATABASE_URL=postgresql://me:p%23w@localhost/db
WANDB_API_KEY=
""",
}
READ = """
import json, os
from resonance.cli.main import _load_environment
from resonance.paths import home
from serve.settings import read_settings
_load_environment()
s = read_settings([])
print(json.dumps([list(s.engine.checkpoints), s.device, s.sampling.max_new_tokens, s.context_length, s.host, s.port,
    s.cors_origins, s.search["provider"], s.search["max_results"], s.search["cache"], len(s.api_keys), s.requires_keys,
    s.store.url, str(home()), os.environ["WANDB_API_KEY"]]))
"""


@pytest.mark.parametrize("name", ENV_FILES)
def test_an_env_file_is_read_in_its_own_notation(runs, tmp_path, name):
    (tmp_path / "checkpoints").symlink_to(runs)
    (tmp_path / ".env").write_text(ENV_FILES[name])
    clean = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "PYTHONPATH")}
    done = subprocess.run(
        [sys.executable, "-c", READ], cwd=tmp_path, env=clean, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [
        ["tiny"], "cpu", 99, 512, "0.0.0.0", 9000, ["http://localhost:5173"], "duckduckgo", 3, "cache/search.sqlite",
        2, True, "postgresql://me:p%23w@localhost/db", "cache", "",
    ]  # fmt: skip


def test_every_variable_of_the_example_is_commented_out_and_read(tmp_path):
    """What `.env.example` says of a variable is what the server takes from it once it is copied."""
    example = Path(__file__).parents[2] / ".env.example"
    values = dotenv_values(stream=io.StringIO(re.sub(r"(?m)^#(?=[A-Z_]+=)", "", example.read_text())))
    assert set(ENVIRONMENT) < set(values)
    assert values["CORS_ORIGINS"] == "https://chat.example.org,https://other.example.org"
    assert (values["PORT"], values["SEARCH_ENABLED"], values["DEVICE"]) == ("8000", "false", "auto")


def test_each_gpu_has_a_worker_and_a_missing_one_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [devices(name) for name in ("auto", "cuda", "cpu")] == [("cuda", 2), ("cuda", 2), ("cpu", 1)]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert devices("auto") == ("cpu", 1)
    with pytest.raises(ResonanceError, match="there is no GPU here"):
        devices("cuda")
