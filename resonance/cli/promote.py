"""`resonance promote`: moves an alias, such as `production`, to a run, or back to the one before."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from resonance import paths
from resonance.aliases import Alias, AliasError, Move, check_alias_name, go_back, promote, read_aliases
from resonance.checkpoint import METADATA_FILE, Checkpoint, run_folders
from resonance.cli.score_selection import recorded_scores
from resonance.hydra_config import compose
from resonance.model_config import PRESETS


def main(overrides: list[str]) -> None:
    """Promote a run, go back, or list an alias's log; see `configs/promote.yaml`."""
    config = compose("promote", overrides)
    root = paths.CHECKPOINTS if config.root is None else Path(str(config.root)).expanduser()
    name = str(config.alias)
    check_alias_name(name, taken={"latest", "best", *PRESETS, *(folder.name for folder in run_folders(root))})
    if [config.run is not None, config.back, config.list].count(True) != 1:
        raise AliasError("Say one thing to do: resonance promote RUN, resonance promote --back, or --list.")
    if config.list:
        _list(read_aliases(root), name, root, as_json=config.json)
        return
    if config.back:
        move = go_back(root, name, _checksums(root))
    else:
        move = promote_run(root, name, str(config.run), verify=config.verify, note=config.note)
    if config.json:
        print(json.dumps(asdict(move), indent=2, ensure_ascii=False))
    else:
        was = f", and was {move.before}" if move.before else ""
        Console().print(f"{name} is {move.run} now{was}.", highlight=False, markup=False, soft_wrap=True)


def promote_run(
    root: Path, name: str, run: str, *, verify: bool, note: str | None = None, evidence: Mapping[str, Any] | None = None
) -> Move:
    """Verify a run and move the alias to it. Raises AliasError when it does not hold what it claims.

    `evidence` is added to the log's entry, beside the run's recorded scores and whether it was verified.
    """
    checkpoint = Checkpoint.find_named(run, root)
    if checkpoint.folder.parent.resolve() != root.resolve() or not (checkpoint.folder / METADATA_FILE).is_file():
        raise AliasError(f"{run} is no run in {root}; only a run can be promoted.")
    alias = read_aliases(root).get(name)
    crc32 = checkpoint.crc32
    if crc32 is None:
        raise AliasError(f"{checkpoint.name} has no checksum of its weights; train or convert it with this version.")
    if alias is not None and (alias.current.run, alias.current.crc32) == (checkpoint.name, crc32):
        raise AliasError(f"{name} is {checkpoint.name} already; nothing was moved.")
    if verify:
        _verify(checkpoint, root)
    scores = {task: score.value for task, score in recorded_scores(checkpoint).items()}
    found = {"verified": verify, "scores": scores, **({"note": note} if note else {}), **(evidence or {})}
    return promote(root, name, checkpoint.name, crc32, found, before=None if alias is None else alias.current.run)


def _verify(checkpoint: Checkpoint, root: Path) -> None:
    # Its own process: the library imports no other room, and verifying starts a server.
    command = [sys.executable, "-m", "resonance.cli", "verify", checkpoint.name, f"root={root}"]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        reason = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise AliasError(f"{checkpoint.name} was not promoted, because `resonance verify` fails: {reason}")


def _checksums(root: Path) -> dict[str, str | None]:
    return {checkpoint.name: checkpoint.crc32 for checkpoint in Checkpoint.list(root)}


def _list(aliases: Mapping[str, Alias], name: str, root: Path, *, as_json: bool) -> None:
    if name not in aliases:
        there = f"there are: {', '.join(aliases)}" if aliases else "there is none yet"
        raise AliasError(f"There is no alias {name!r} in {root}; {there}. `resonance promote RUN` makes one.")
    log = aliases[name].log
    if as_json:
        print(json.dumps([asdict(move) for move in log], indent=2, ensure_ascii=False))
        return
    Console().print(_table(log))


def _table(log: Sequence[Move]) -> Table:
    table = Table()
    for heading in ("when", "run", "before", "by", "evidence"):
        table.add_column(heading, overflow="fold")
    for number, move in enumerate(log, 1):
        run = Text(move.run, style="bold" if number == len(log) else "")
        before = Text(f"{move.before or '–'}{' (back)' if move.back else ''}")
        table.add_row(Text(move.at), run, before, Text(move.by), Text(_evidence(move)))
    return table


def _evidence(move: Move) -> str:
    evidence = dict(move.evidence)
    parts: list[str] = []
    if "verified" in evidence:
        parts.append("verified" if evidence.pop("verified") else "not verified")
    evidence.pop("scores", None)
    parts += [f"{key}: {value}" for key, value in evidence.items()]
    return "; ".join(parts)
