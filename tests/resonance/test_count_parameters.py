"""Parameters are counted, and files looked over, without the weights being read into memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from resonance import GPT2, Checkpoint, GPT2Config, Tokenizer
from resonance.weights import WeightsError, count_parameters, openai

CONFIG = GPT2Config(context_length=64, n_layer=2, n_head=8, n_embd=512)  # 128 MB
COUNT = """
import re, sys
from pathlib import Path
from resonance import Checkpoint
def megabytes(name):
    return int(re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) >> 10
for folder in sys.argv[1:]:
    checkpoint = Checkpoint.find(Path(folder))
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what there is now
    before = megabytes("VmHWM")
    print(checkpoint.num_parameters(), megabytes("VmHWM") - before)
"""


def test_the_weights_stay_on_disk(tmp_path: Path) -> None:
    model = GPT2(CONFIG)
    ours = Checkpoint.save(tmp_path / "ours", model, Tokenizer.gpt2()).folder
    theirs = tmp_path / "openai"
    openai.write(theirs, CONFIG, model.state_dict())
    done = subprocess.run([sys.executable, "-c", COUNT, ours, theirs], capture_output=True, text=True, check=True)
    for folder, line in zip((ours, theirs), done.stdout.splitlines(), strict=True):
        size = sum(file.stat().st_size for file in folder.iterdir()) >> 20
        parameters, grown = map(int, line.split())
        print(f"{folder.name}: {size} MB of weights, counted in {grown} MB")
        assert parameters == model.num_parameters()
        assert size > 100
        assert grown < 30


@pytest.mark.parametrize("layout", ["openai-gpt2-tiny", "book-gpt2-tiny"])
def test_other_layouts_are_counted_as_they_are_loaded(layout: str, shared_data: Path) -> None:
    model = GPT2.from_pretrained(shared_data / layout)
    assert count_parameters(shared_data / layout) == model.num_parameters()


@pytest.mark.parametrize("tied", [True, False])
def test_a_head_of_its_own_counts(tied: bool, tmp_path: Path) -> None:
    model = GPT2(GPT2Config(context_length=16, n_layer=1, n_head=2, n_embd=16, tie_weights=tied))
    assert Checkpoint.save(tmp_path / "run", model, Tokenizer.gpt2()).num_parameters() == model.num_parameters()


def test_a_tensor_that_is_missing_cut_short_or_of_another_shape_is_seen(tmp_path: Path) -> None:
    small = GPT2Config(vocab_size=60, context_length=16, n_layer=1, n_head=2, n_embd=16)
    openai.write(tmp_path / "openai", small, GPT2(small).state_dict())
    hparams = tmp_path / "openai" / "hparams.json"
    hparams.write_text(json.dumps(json.loads(hparams.read_text()) | {"n_ctx": 17}))
    with pytest.raises(WeightsError, match=r"model/wpe .* has the shape \(16, 16\), not \(17, 16\)"):
        count_parameters(tmp_path / "openai")
    hparams.write_text(json.dumps(json.loads(hparams.read_text()) | {"n_ctx": 16}))
    shard = next((tmp_path / "openai").glob("*.data-*"))
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="is cut off"):
        count_parameters(tmp_path / "openai")

    folder = Checkpoint.save(tmp_path / "ours", GPT2(small), Tokenizer.gpt2()).folder
    (folder / "resonance.json").unlink()
    tensors = load_file(folder / "model.safetensors")
    del tensors["transformer.ln_f.bias"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"transformer\.ln_f\.bias is missing"):
        count_parameters(folder)
