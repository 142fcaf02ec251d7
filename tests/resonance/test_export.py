from pathlib import Path

import pytest
import torch
from gguf import GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from resonance.chat_template import TEMPLATES, Message
from resonance.checkpoint import Checkpoint
from resonance.cli.export import export, main
from resonance.metadata import Metadata
from resonance.model import GPT2, GPT2Config
from resonance.tokenizer import Tokenizer
from resonance.weights import WeightsError, gguf, read
from tests.processes import resonance

IDS = torch.tensor([[464, 3139, 286, 4881, 318]])


def saved(folder: Path, template: str, tied: bool = True) -> Checkpoint:
    tokenizer = Tokenizer.gpt2(TEMPLATES[template].special_tokens)
    torch.manual_seed(7)
    model = GPT2(GPT2Config(tokenizer.vocab_size, 32, 2, 2, 32, tie_weights=tied)).eval()
    return Checkpoint.save(folder, model, tokenizer, Metadata(template=template))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return saved(tmp_path_factory.mktemp("runs") / "small", "alpaca")


@pytest.fixture(scope="module")
def chatml(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return saved(tmp_path_factory.mktemp("runs") / "chatty", "chatml", tied=False)


@torch.no_grad()
def logits(checkpoint: Checkpoint) -> torch.Tensor:
    return checkpoint.load_model()(IDS)


@torch.no_grad()
@pytest.mark.parametrize("which", ["checkpoint", "chatml"])
def test_transformers_opens_the_exported_folder(which: str, tmp_path: Path, request: pytest.FixtureRequest):
    checkpoint: Checkpoint = request.getfixturevalue(which)
    out = export(checkpoint, "huggingface", tmp_path / "hf")
    theirs = AutoModelForCausalLM.from_pretrained(out).eval()
    torch.testing.assert_close(theirs(IDS).logits, logits(checkpoint), atol=1e-4, rtol=0)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer("The capital of France is")["input_ids"] == IDS[0].tolist()
    assert theirs.generation_config.eos_token_id == checkpoint.template().end_id


@pytest.mark.parametrize("which", ["checkpoint", "chatml"])
def test_the_exported_folder_says_how_answers_end_and_what_was_supervised(
    which: str, tmp_path: Path, request: pytest.FixtureRequest
):
    checkpoint: Checkpoint = request.getfixturevalue(which)
    template = checkpoint.template()
    main([f"checkpoint={checkpoint.name}", f"root={checkpoint.folder.parent}", "format=huggingface",
          f"out={tmp_path / 'hf'}"])  # fmt: skip
    config = GenerationConfig.from_pretrained(tmp_path / "hf")
    assert (config.eos_token_id, config.pad_token_id) == (template.end_id, template.tokenizer.eot_id)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (template.tokenizer.eot_id, template.end_id)
    messages = [Message("system", "Be brief."), Message("user", "Warm?", "31 °C"), Message("assistant", "Yes.")]
    messages += [Message("user", "Sure?"), Message("assistant", "Yes, it is.")]
    plain = [{"role": m.role, "content": m.content} | ({"context": m.context} if m.context else {}) for m in messages]
    rendered = tokenizer.apply_chat_template(plain, return_dict=True, return_assistant_tokens_mask=True)
    ours = template.render(messages)
    assert rendered["input_ids"] == ours.input_ids
    assert [bool(masked) for masked in rendered["assistant_masks"]] == ours.loss_mask
    card = (tmp_path / "hf" / "README.md").read_text()
    assert "from transformers import" in card and checkpoint.metadata.template in card


def test_the_type_of_the_exported_numbers_can_be_chosen(checkpoint: Checkpoint, tmp_path: Path):
    out = export(checkpoint, "huggingface", tmp_path / "hf", kind="bf16")
    assert {value.dtype for value in read(out)[1].values()} == {torch.bfloat16}


def test_openais_files_give_the_same_model_over_several_shards(checkpoint: Checkpoint, tmp_path: Path):
    out = export(checkpoint, "openai", tmp_path / "124M", shards=3)
    assert len(list(out.glob("model.ckpt.data-*-of-00003"))) == 3
    theirs, ours = GPT2.from_pretrained(out).state_dict(), checkpoint.load_model().state_dict()
    torch.testing.assert_close(dict(theirs), dict(ours), atol=0, rtol=0)
    assert (out / "encoder.json").is_file() and (out / "vocab.bpe").read_text().startswith("#version")


def test_openais_layout_refuses_a_head_of_its_own_and_leaves_nothing(chatml: Checkpoint, tmp_path: Path):
    with pytest.raises(WeightsError, match="no output head of its own"):
        export(chatml, "openai", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_gguf_file_holds_model_tokenizer_and_template(chatml: Checkpoint, tmp_path: Path):
    out = export(chatml, "gguf", tmp_path / "model.gguf", kind="f32")
    reader, template = GGUFReader(out), chatml.template()
    stored = {tensor.name: tensor.data for tensor in reader.tensors}
    names = gguf.tensor_names(chatml.config)
    for name, tensor in chatml.load_model().state_dict().items():
        assert (stored[names[name]] == tensor.numpy()).all(), name
    keys = {key: field.contents() for key, field in reader.fields.items()}
    special = chatml.load_tokenizer().special_tokens
    assert [i for i, kind in enumerate(keys["tokenizer.ggml.token_type"]) if kind == 3] == sorted(special.values())
    assert [keys["tokenizer.ggml.tokens"][i] for i in special.values()] == list(special)
    assert keys["tokenizer.ggml.eos_token_id"] == template.end_id
    assert keys["tokenizer.chat_template"] == template.jinja
    theirs = AutoTokenizer.from_pretrained(tmp_path, gguf_file=out.name)
    assert theirs("The capital of France is")["input_ids"] == IDS[0].tolist()


def test_quantised_files_are_as_small_as_their_bits_say(checkpoint: Checkpoint, tmp_path: Path):
    sizes = {
        kind: export(checkpoint, "gguf", tmp_path / f"{kind}.gguf", kind=kind).stat().st_size
        for kind in ("f32", "f16", "q8_0")
    }
    assert sizes["f32"] > sizes["f16"] > sizes["q8_0"]


@pytest.mark.parametrize(("layout", "name"), [("gguf", "m.gguf"), ("huggingface", "hf"), ("openai", "oa")])
def test_an_export_replaces_an_older_one_only_when_told_to(
    checkpoint: Checkpoint, tmp_path: Path, layout: str, name: str
):
    export(checkpoint, layout, tmp_path / name)
    with pytest.raises(WeightsError, match=r"is there already; name another, or replace it with overwrite=true"):
        export(checkpoint, layout, tmp_path / name)
    export(checkpoint, layout, tmp_path / name, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_that_holds_something_else_is_never_replaced(checkpoint: Checkpoint, tmp_path: Path):
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "thesis.txt").write_text("years of work")
    with pytest.raises(WeightsError, match=r"holds what no export wrote \(thesis\.txt\), so it is not replaced"):
        export(checkpoint, "huggingface", tmp_path / "hf", overwrite=True)
    with pytest.raises(WeightsError, match="holds what no export wrote"):
        export(checkpoint, "huggingface", checkpoint.folder, overwrite=True)
    assert Checkpoint.open(checkpoint.folder).load_model()
    assert (tmp_path / "hf" / "thesis.txt").read_text() == "years of work"


def test_an_empty_folder_is_filled(checkpoint: Checkpoint, tmp_path: Path):
    (tmp_path / "hf").mkdir()
    export(checkpoint, "huggingface", tmp_path / "hf")
    assert (tmp_path / "hf" / "model.safetensors").is_file()


def test_a_file_is_not_put_in_a_folders_place_nor_the_other_way_round(checkpoint: Checkpoint, tmp_path: Path):
    (tmp_path / "a").write_text("file")
    (tmp_path / "b").mkdir()
    for layout, name, kind in (("huggingface", "a", "file"), ("gguf", "b", "folder")):
        with pytest.raises(WeightsError, match=f"is a {kind}, and this format is the other"):
            export(checkpoint, layout, tmp_path / name, overwrite=True)


@pytest.mark.parametrize(
    ("layout", "kind", "message"),
    [
        ("onnx", None, r"no format 'onnx'; there are gguf, huggingface, openai"),
        ("gguf", "q2_k", r"format=gguf has no type 'q2_k'; it has f32, f16, bf16, q8_0, q4_0"),
        ("huggingface", "q4_0", r"format=huggingface has no type 'q4_0'"),
        ("openai", "f16", r"format=openai has no type 'f16'; it has f32"),
    ],
)
def test_an_unknown_format_or_type_lists_the_known_ones(
    checkpoint: Checkpoint, tmp_path: Path, layout: str, kind: str | None, message: str
):
    with pytest.raises(WeightsError, match=message):
        export(checkpoint, layout, tmp_path / "out", kind=kind)


def test_the_books_checkpoint_is_exported_too(shared_data: Path, tmp_path: Path):
    book = Checkpoint.find(shared_data / "book-gpt2-tiny")
    config, state = read(export(book, "huggingface", tmp_path / "hf"))
    assert not config.tie_weights and state["head.weight"].equal(read(book.folder)[1]["head.weight"])
    assert not (tmp_path / "hf" / "vocab.json").exists()  # its 307 tokens are not GPT-2's
    with pytest.raises(WeightsError, match="307 tokens and its tokenizer 50257"):
        export(book, "gguf", tmp_path / "m.gguf")


def test_the_command_prints_where_it_wrote(checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    main([f"checkpoint={checkpoint.folder}", f"out={tmp_path}/deep/er/m.gguf", "type=q8_0"])
    out, err = capsys.readouterr()
    assert out == f"{tmp_path}/deep/er/m.gguf\n" and "MB written" in err
    with pytest.raises(WeightsError, match="out=PATH"):
        main([f"checkpoint={checkpoint.folder}"])


def test_a_place_that_cannot_be_written_is_one_line_and_exit_code_2(checkpoint: Checkpoint, tmp_path: Path):
    (tmp_path / "file").write_text("")
    arguments = ["export", f"checkpoint={checkpoint.folder}", f"out={tmp_path}/file/m.gguf"]
    done = resonance(*arguments)
    assert done.returncode == 2
    assert done.stderr == f"Error: {tmp_path}/file/m.gguf cannot be written: File exists.\n"
