import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from huggingface_hub import hf_hub_download

from resonance.checkpoint import Checkpoint
from resonance.cli.weights import main
from resonance.model import GPT2
from resonance.weights import WeightsError, read, resolve
from resonance.weights.download import download

from .file_server import BIG, HUB, QUICK, TINY, Answer, RecordingListener, Server, assert_whole, get, status


@pytest.mark.parametrize("source", ["huggingface", "openai"])
def test_a_download_is_found_by_its_name_and_read(server: Server, home: Path, source: str):
    events = get(server, source)
    assert resolve("gpt2") == home / "weights" / "gpt2"
    config, state = read(resolve("gpt2"))
    assert config == TINY and len(state) == 28
    assert events.retries == []
    assert {file: done for file, done, total in events.seen if done == total} == {
        path.name: path.stat().st_size for path in (home / "weights" / "gpt2").iterdir() if path.name != "download.json"
    }


def test_what_arrived_is_recorded_with_its_hash(server: Server, folder: Path):
    get(server)
    record = json.loads((folder / "download.json").read_text())["model.safetensors"]
    content = server.files[BIG]
    assert record["size"] == len(content)
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert record["url"] == server.url + BIG


def test_a_second_download_asks_the_server_for_nothing(server: Server, folder: Path):
    get(server)
    server.requests.clear()
    get(server)
    assert server.requests == []


def test_only_a_file_that_was_changed_on_disk_is_fetched_again(server: Server, folder: Path):
    get(server)
    server.requests.clear()
    content = bytearray(server.files[BIG])
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    get(server)
    assert [request.path for request in server.requests] == [BIG]
    assert_whole(folder, server)


def test_openais_files_are_verified_by_their_own_checksums(server: Server, folder: Path):
    server.silent_about_etags = True
    path = "/gpt-2/models/124M/model.ckpt.data-00000-of-00001"
    server.files[path] = server.files[path][:-1] + bytes([server.files[path][-1] ^ 1])
    with pytest.raises(WeightsError, match=r"model/wte in .* is damaged: its checksum is wrong"):
        get(server, "openai")


@pytest.mark.parametrize("answer", [status(404), status(403)])
def test_a_download_that_brings_nothing_leaves_no_folder_behind(server: Server, folder: Path, answer: Answer):
    server.script[f"{HUB}/config.json"] = [answer]
    with pytest.raises(WeightsError):
        get(server)
    assert not folder.exists()
    with pytest.raises(WeightsError, match="gpt2 is not downloaded"):
        resolve("gpt2")


def test_two_downloads_of_one_model_do_not_meet(server: Server, home: Path):
    (home / "weights").mkdir(parents=True)
    with (
        FileLock(home / "weights" / ".gpt2.lock"),
        pytest.raises(WeightsError, match="gpt2 is being downloaded by another process"),
    ):
        get(server)
    get(server)


def test_an_unknown_model_or_source_lists_the_known_ones(home: Path):
    with pytest.raises(WeightsError, match=r"named 'gpt5'; there are gpt2, gpt2-medium"):
        download("gpt5", "huggingface", QUICK, RecordingListener())
    with pytest.raises(WeightsError, match=r"no source 'torrent'; there are huggingface, openai"):
        download("gpt2", "torrent", QUICK, RecordingListener())


def test_a_home_that_cannot_be_written_is_named(server: Server, home: Path):
    home.write_text("a file, where a folder should be")
    with pytest.raises(WeightsError, match=r"home/weights/gpt2 cannot be written"):
        get(server)


def test_the_command_prints_the_folder_alone_on_standard_output(
    server: Server, folder: Path, capsys: pytest.CaptureFixture[str]
):
    server.script[BIG] = [status(503)]
    main(["name=gpt2", f"base_url={server.url}", "wait_initial=0.01"])
    out, err = capsys.readouterr()
    assert out == f"{folder}\n"
    assert "the server answered 503 Service Unavailable; trying again" in err
    assert f"{sum(v.numel() for v in GPT2(TINY).parameters()):,} parameters" in err


def test_the_command_line_fails_with_one_line_and_exit_code_2(server: Server, home: Path):
    server.script[BIG] = [status(404)]
    command = [sys.executable, "-m", "resonance.cli", "weights", "gpt2", f"base_url={server.url}"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: ") and "does not exist" in done.stderr


def test_the_command_without_a_name_says_which_there_are(home: Path):
    with pytest.raises(WeightsError, match=r"resonance weights NAME, one of gpt2, gpt2-medium"):
        main([])


def fill_hub_cache(server: Server) -> Path:
    """Download the model as other programs do, with huggingface_hub; return its folder."""
    for file in ("config.json", "model.safetensors"):
        path = hf_hub_download("openai-community/gpt2", file, endpoint=server.url)
    server.requests.clear()
    return Path(path).parent


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "resonance.cli", "weights", "gpt2", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


def test_a_model_in_the_hubs_cache_is_loaded_by_its_name_without_a_download(server: Server, home: Path):
    with pytest.raises(WeightsError, match="gpt2 is not downloaded"):
        resolve("gpt2")
    snapshot = fill_hub_cache(server)
    assert GPT2.from_pretrained("gpt2").config == TINY
    assert Checkpoint.find("gpt2").name == "gpt2"
    assert run(HF_ENDPOINT=server.url).stdout == f"{snapshot}\n"
    assert server.requests == [] and not home.exists()


def test_weights_that_were_damaged_in_the_hubs_cache_are_downloaded(server: Server, folder: Path):
    blob = (fill_hub_cache(server) / "model.safetensors").resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    get(server)
    assert_whole(folder, server)


def test_the_hubs_endpoint_and_token_are_those_of_its_own_library(server: Server, folder: Path):
    done = run(HF_ENDPOINT=server.url, HF_TOKEN="hf_secret")
    assert done.stdout == f"{folder}\n"
    assert {request.authorization for request in server.requests} == {"Bearer hf_secret"}
    assert_whole(folder, server)


def test_a_mirror_does_not_get_the_hubs_token(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    get(server)
    assert {request.authorization for request in server.requests} == {None}


def test_offline_mode_is_one_sentence_and_exit_code_2(server: Server, home: Path):
    done = run(HF_ENDPOINT=server.url, HF_HUB_OFFLINE="1")
    assert done.returncode == 2 and server.requests == []
    assert done.stderr == (
        f"Error: gpt2 is not in the Hugging Face Hub's cache ({home.parent}/hf/hub), "
        "and HF_HUB_OFFLINE forbids its download.\n"
    )
    with pytest.raises(WeightsError, match="gpt2 is not downloaded"):
        resolve("gpt2")
