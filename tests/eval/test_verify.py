"""`resonance verify` finds what a checkpoint is not, and nothing wrong with a sound one."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from eval import EvalError
from eval.verify import main
from resonance import chat_template
from resonance.checkpoint import Checkpoint, CheckpointError
from resonance.cli.export import export
from resonance.fingerprint import file_sha256
from resonance.weights.checksum import checksum

Runs = dict[str, Checkpoint]
Outcomes = dict[str, dict[str, str]]


@pytest.fixture
def learned(runs: Runs, tmp_path: Path) -> Path:
    """A copy of a sound checkpoint."""
    return Path(shutil.copytree(runs["learned"].folder, tmp_path / "learned"))


def verify(folder: Path, *settings: str) -> tuple[int, Outcomes]:
    """Run the command without other programs; return its exit code, and the claims by name."""
    path = folder.parent / "verified.json"
    code = 0
    try:
        main([f"checkpoint={folder}", "server=false", "transformers=false", f"json={path}", *settings])
    except SystemExit as end:
        assert isinstance(end.code, int)
        code = end.code
    claims = json.loads(path.read_text(encoding="utf-8"))["claims"]
    return code, {claim["name"]: claim for claim in claims}


def failing(outcomes: Outcomes) -> set[str]:
    return {name for name, claim in outcomes.items() if claim["outcome"] == "does not hold"}


def edit_json(path: Path, change: Callable[[dict], object]) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(document), encoding="utf-8")


def refresh_hashes(folder: Path) -> None:
    """Give the edited files' own hashes out as the recorded ones, as somebody does who hides an edit."""

    def refresh(record: dict) -> None:
        files = record["fingerprint"]["files"]
        files |= {name: file_sha256(folder / name) for name in files}

    edit_json(folder / "resonance.json", refresh)


def edit_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Save edited weights with a matching checksum."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt", "crc32": checksum(tensors)})


def test_a_sound_checkpoint_holds_what_it_claims(learned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, outcomes = verify(learned)
    assert code == 0
    assert failing(outcomes) == set()
    held = {name for name, claim in outcomes.items() if claim["outcome"] == "holds"}
    assert {"model.safetensors", "config.json", "vocab.json", "merges.txt", "tokenizer_config.json"} <= held
    assert {"tokenizer", "template", "logits", "card", "parity: training", "parity: engine"} <= held
    assert outcomes["parity: server"] == {
        "name": "parity: server",
        "outcome": "not checked",
        "why": "server=false",
    }
    output = capsys.readouterr()
    assert "What learned claims" in output.out
    assert output.err == ""
    assert "| Verified | at " in (learned / "README.md").read_text()
    again, outcomes = verify(learned)  # what the first run recorded is no edit
    assert (again, failing(outcomes)) == (0, set())


@pytest.mark.parametrize("where", [0.0, 0.3, 0.9999])
def test_one_flipped_byte_of_the_weights_is_found_wherever_it_is(
    where: float, learned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = learned / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[round(where * (len(content) - 1))] ^= 0x10
    path.write_bytes(content)
    code, outcomes = verify(learned)
    assert code == 1
    assert "model.safetensors" in failing(outcomes)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(failing(outcomes))
    assert lines[0].startswith("model.safetensors does not hold: its SHA-256 is ")


def test_a_flipped_byte_that_changes_no_tensor_is_found_too(learned: Path) -> None:
    path = learned / "model.safetensors"
    content = path.read_bytes()
    assert b'"format":"pt"' in content[:5000]
    path.write_bytes(content.replace(b'"format":"pt"', b'"format":"pu"', 1))
    code, outcomes = verify(learned)
    assert (code, failing(outcomes)) == (1, {"model.safetensors"})
    assert outcomes["logits"]["outcome"] == "holds"


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors["transformer.h.0.mlp.c_fc.weight"].mul_(1.01),
        lambda tensors: tensors["transformer.wte.weight"][40_123].add_(0.1),
        lambda tensors: tensors["transformer.ln_f.bias"][0].add_(0.01),
    ],
    ids=["a matrix", "one token", "one number"],
)
def test_edited_weights_with_refreshed_hashes_are_found_by_their_logits(
    change: Callable[[dict[str, torch.Tensor]], object], learned: Path
) -> None:
    edit_weights(learned, change)
    refresh_hashes(learned)
    code, outcomes = verify(learned)
    assert code == 1
    assert "logits" in failing(outcomes)
    assert "model.safetensors" not in failing(outcomes)
    assert "these are not the weights that were saved" in outcomes["logits"]["why"]


def test_the_same_weights_saved_again_by_another_program_still_have_their_logits(learned: Path) -> None:
    path = learned / "model.safetensors"
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save_file(load_file(path), path, {**metadata, "saved_by": "somebody"})
    refresh_hashes(learned)
    assert verify(learned)[0] == 0


def test_an_edited_template_is_found(learned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template.AlpacaTemplate, "preamble", "Below is a task. Do it.")
    code, outcomes = verify(learned)
    assert code == 1
    assert "template" in failing(outcomes)
    assert "other ones from token" in outcomes["template"]["why"]


def test_another_templates_name_in_the_record_is_found(learned: Path) -> None:
    edit_json(learned / "resonance.json", lambda record: record.update(template="chatml"))
    code, outcomes = verify(learned)
    assert code == 1
    assert {"template", "tokenizer"} <= failing(outcomes)


def test_an_edited_template_for_other_programs_is_found_even_with_refreshed_hashes(learned: Path) -> None:
    path = learned / "tokenizer_config.json"
    edit_json(path, lambda config: config.update(chat_template=config["chat_template"].replace("Below", "Above")))
    assert failing(verify(learned)[1]) == {"tokenizer_config.json", "tokenizer"}
    refresh_hashes(learned)
    code, outcomes = verify(learned)
    assert (code, failing(outcomes)) == (1, {"tokenizer"})
    assert "'chat_template'" in outcomes["tokenizer"]["why"]


def test_a_swapped_tokenizer_is_found_even_with_refreshed_hashes(learned: Path) -> None:
    def swap(vocab: dict[str, int]) -> None:
        vocab["the"], vocab["and"] = vocab["and"], vocab["the"]

    edit_json(learned / "vocab.json", swap)
    assert failing(verify(learned)[1]) == {"vocab.json", "tokenizer"}
    refresh_hashes(learned)
    code, outcomes = verify(learned)
    assert (code, failing(outcomes)) == (1, {"tokenizer"})
    assert outcomes["tokenizer"]["why"].startswith("vocab.json is another tokenizer's")


def test_the_tokenizer_of_another_template_is_found(learned: Path) -> None:
    chatml = chat_template.ChatTemplate.named("chatml")
    chatml.tokenizer.save(learned, chat_template=chatml.jinja)
    code, outcomes = verify(learned)
    assert code == 1
    assert {"vocab.json", "tokenizer_config.json", "tokenizer"} <= failing(outcomes)


def test_a_missing_file_is_found(learned: Path) -> None:
    (learned / "merges.txt").unlink()
    code, outcomes = verify(learned)
    assert code == 1
    assert "cannot be read (No such file or directory)" in outcomes["merges.txt"]["why"]


def test_a_score_edited_on_the_card_is_found(learned: Path) -> None:
    score = {"value": 0.5, "n": 8, "ci95": [0.2, 0.8]}
    Checkpoint.open(learned).record_scores({"instruct": {"exact_match": score}})
    card = learned / "README.md"
    card.write_text(card.read_text().replace("| 0.5 |", "| 0.9 |"))
    assert "card" in failing(verify(learned)[1])


def test_the_card_says_verified_no_more_once_a_claim_fails(learned: Path) -> None:
    assert verify(learned)[0] == 0
    path = learned / "merges.txt"
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole + "x y\n", encoding="utf-8")
    assert verify(learned)[0] == 1
    assert "| Verified |" not in (learned / "README.md").read_text()
    path.write_text(whole, encoding="utf-8")
    assert verify(learned, "record=false")[0] == 0
    assert "| Verified |" not in (learned / "README.md").read_text()


def test_a_checkpoint_that_recorded_nothing_claims_nothing_and_is_not_called_verified(
    learned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_json(learned / "resonance.json", lambda record: record.pop("fingerprint"))
    code, outcomes = verify(learned)
    assert (code, failing(outcomes)) == (0, set())
    for name in ("files", "template", "logits"):
        assert outcomes[name]["outcome"] == "not claimed"
    assert outcomes["parity: engine"]["outcome"] == "holds"
    assert "The card does not say verified" in capsys.readouterr().out
    assert "| Verified |" not in (learned / "README.md").read_text()


def test_a_recorded_file_outside_the_folder_is_not_read(learned: Path) -> None:
    edit_json(learned / "resonance.json", lambda record: record["fingerprint"]["files"].update({"../x": "0"}))
    assert "leads out of" in verify(learned)[1]["../x"]["why"]


@pytest.mark.slow
def test_an_exported_gguf_file_is_read_back(learned: Path, runs: Runs) -> None:
    export(Checkpoint.open(learned), "gguf", learned / "mine.gguf", kind="q8_0")
    code, outcomes = verify(learned)
    assert (code, outcomes["parity: GGUF"]["outcome"]) == (0, "holds")
    other = export(runs["fresh"], "gguf", learned.parent / "other.gguf")
    code, outcomes = verify(learned, f"gguf={other}")
    assert (code, failing(outcomes)) == (1, {"parity: GGUF"})
    other.write_bytes(b"GGUF" + bytes(9))
    code, outcomes = verify(learned, f"gguf={other}")
    assert "cannot be read as a GGUF file" in outcomes["parity: GGUF"]["why"]


def test_bad_input_is_one_sentence(learned: Path, runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="There is no checkpoint 'nothing'"):
        main(["checkpoint=nothing", f"root={tmp_path}"])
    with pytest.raises(EvalError, match="name an exported GGUF file"):
        main([f"checkpoint={learned}", f"gguf={tmp_path / 'none.gguf'}"])
    base = Path(shutil.copytree(learned, tmp_path / "base"))
    for name in ("resonance.json", "train.yaml"):
        (base / name).unlink()
    with pytest.raises(EvalError, match="is not a run of ours"):
        main([f"checkpoint={base}"])


def test_claims_as_json_stand_alone_on_standard_output(learned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([f"checkpoint={learned}", "server=false", "transformers=false", "json=true"])
    assert json.loads(capsys.readouterr().out)["holds"] is True


@pytest.mark.slow
def test_the_server_and_transformers_answer_as_the_plain_model(learned: Path) -> None:
    code, outcomes = verify(learned, "server=true", "transformers=true")
    assert code == 0
    assert outcomes["parity: server"]["outcome"] == "holds", outcomes["parity: server"]["why"]
    assert outcomes["parity: transformers"]["outcome"] == "holds"
