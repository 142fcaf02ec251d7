"""`resonance data`: statistics and examples, in the terminal, on a page and as JSON."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from data.inspect import main
from data.module import SFTDataModule
from data.sources import FileSource
from data.statistics import measure
from resonance.chat_template import ChatTemplate
from resonance.hydra_config import ConfigError
from resonance.paths import PROJECT_ROOT

ROWS = [
    *({"instruction": f"Say the number {i}.", "output": f"{i}."} for i in range(20)),
    {"instruction": "Say the number 3.", "output": "3."},  # repeats
    {"instruction": "Tell all.", "output": "word " * 80},  # cut
    {"instruction": "Zyzzyva qoph?", "output": "Xylograph & <script>alert('x')</script> \x1b[31m"},
    {"instruction": "Say the number 24.", "output": None},  # unusable
    {"instruction": "Say something.", "output": "Yes."},
    {"instruction": "Tell  ALL.", "output": "test"},  # test; what train asks
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(ROWS))
    return path


@pytest.fixture
def overrides(path: Path) -> list[str]:
    split = ["data.train=0.88", "data.test=0.12", "data.validation=0", "data.shuffle=false"]
    return ["data=json", f"data.path={path}", *split, "template=alpaca", "batch.row_length=60"]


def source(path: Path) -> FileSource:
    return FileSource(str(path), train=0.88, test=0.12, validation=0, shuffle=False)


def test_the_statistics_are_those_of_training(path: Path) -> None:
    template = ChatTemplate.named("alpaca")
    train = measure("rows", source(path).splits(), template, context_length=60, row_length=60, seed=3).splits["train"]
    report = SFTDataModule(source(path), template, context_length=60, batch_size=1, seed=3).report
    statistics = train.statistics
    assert statistics.tokens == report.train.tokens
    assert statistics.supervised_tokens == report.train.supervised_tokens
    assert statistics.skipped == report.train.skipped_rows
    assert (statistics.packed_rows, statistics.filled) == (report.rows, report.filled)


def test_a_page_of_numbers_says_what_is_cut_repeated_and_leaked(
    overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main([*overrides, "show=0"])
    printed = capsys.readouterr().out
    assert "row 21 repeats row 4" in printed
    assert "1 training examples ask what test asks and are left out of training: row 22 'Tell all.'" in printed
    assert "1 unusable: `output` is null (row 24)" in printed
    assert "\x1b" not in printed


def test_json_has_the_numbers(overrides: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main([*overrides, "json=true"])
    train = json.loads(capsys.readouterr().out)["splits"]["train"]
    assert (train["examples"], train["used"], train["end_tokens"], train["without_end"]) == (22, 21, 21, 0)
    assert train["skipped"] == {"asked by validation or test as well": [22]}
    assert sum(count for _, _, count in train["histogram"]) == 21


def test_cut_examples_lose_tokens_and_their_end(path: Path) -> None:
    splits = FileSource(str(path), train=1, test=0, validation=0, shuffle=False).splits()
    train = measure("rows", splits, ChatTemplate.named("alpaca"), context_length=60, row_length=60).splits["train"]
    assert (train.statistics.cut, train.statistics.without_end) == (1, 1)
    assert train.statistics.lost_tokens == train.statistics.longest - 60
    assert train.select("cut", 5, 0) == train.select("longest", 1, 0) == [21]


def test_the_strangest_example_has_the_rarest_tokens(path: Path) -> None:
    splits = FileSource(str(path), train=1, test=0, validation=0, shuffle=False).splits()
    train = measure("rows", splits, ChatTemplate.named("alpaca"), context_length=60, row_length=60).splits["train"]
    assert train.select("strangest", 1, 0) == [22]
    assert train.statistics.unusual_characters == [23]


def test_the_page_is_one_file_in_which_data_is_text(overrides: list[str], tmp_path: Path) -> None:
    page_file = tmp_path / "deep" / "page.html"
    main([*overrides, "split=test", "show=9", f"html={page_file}"])
    page = page_file.read_text()
    assert "&lt;script&gt;alert(" in page and "<script" not in page
    assert not re.findall(r"(?:src|href)=", page)
    assert "\x1b" not in page and "\\u{1b}[31m" in page
    assert "light-dark(" in page
    assert '<ins>Yes.</ins><ins class="special">&lt;|endoftext|&gt;</ins>' in page


def run(*overrides: str, **environment: str) -> str:
    code = "import sys; from data.inspect import main; main(sys.argv[1:])"
    variables = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")} | environment
    done = subprocess.run(
        [sys.executable, "-c", code, *overrides], cwd=PROJECT_ROOT, env=variables, capture_output=True, check=True
    )
    return done.stdout.decode()


def test_supervised_tokens_are_green_in_a_terminal_and_in_brackets_in_a_pipe(overrides: list[str]) -> None:
    shown = [*overrides, "split=test", "show=9"]
    assert "\x1b[32mYes." in run(*shown, FORCE_COLOR="1", TERM="xterm-256color")
    piped = run(*shown)
    assert "«Yes.<|endoftext|>»" in piped and "\x1b" not in piped
    assert "«the loss covers these tokens»  ⟦training does not see these⟧" in piped
    assert "«Yes." in run(*shown, FORCE_COLOR="1", NO_COLOR="1", TERM="xterm-256color")


def test_a_pair_is_shown_with_its_rejected_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, page_file = tmp_path / "pairs.jsonl", tmp_path / "page.html"
    rows = [{"prompt": f"Say {i}.", "chosen": f"{i}.", "rejected": f"No {i} <b>\x1b[31m"} for i in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    main(["data=json", f"data.path={path}", "show=1", "batch.row_length=60", f"html={page_file}"])
    printed, page = capsys.readouterr().out, page_file.read_text()
    assert re.search(r"with a rejected answer +17 +1 +2", printed)
    assert re.search(r"rejected answer \(objective=dpo, kto\)\nNo \d+ <b>\\u\{1b\}\[31m", printed)
    assert re.search(r"<pre>No \d+ &lt;b&gt;\\u\{1b\}\[31m</pre>", page)


@pytest.mark.parametrize("wrong", ["split=dev", "show=-1", "tokens=0", "batch.row_length=1", "html=true"])
def test_a_wrong_setting_is_refused_by_name(overrides: list[str], wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong.split("=", maxsplit=1)[0]):
        main([*overrides, wrong])
