"""The entry point of `resonance verify`: derives again what a checkpoint claims."""

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eval import EvalError
from eval.verification.claims import Claim
from eval.verification.exports import GGUF, HUGGINGFACE, gguf_claim, gguf_files, huggingface_claim
from eval.verification.files import card_claim, file_claims, logits_claim, template_claim, tokenizer_claim
from eval.verification.items import item_claim
from eval.verification.parity import Reference, engine_claim, training_claim
from eval.verification.rerun import rerun_claims
from eval.verification.scores import claimed_scores, score_claim
from eval.verification.server import NAME as SERVER
from eval.verification.server import server_claim
from resonance.atomic_files import write_text_atomically
from resonance.checkpoint import METADATA_FILE, MODEL_FILE, Checkpoint
from resonance.errors import ResonanceError
from resonance.fingerprint import file_sha256
from resonance.hydra_config import compose
from resonance.metadata import Verified, scores_sha256
from resonance.model import GPT2
from resonance.provenance import git_commit

_PIPED_WIDTH = 160  # columns, where the output is no terminal
_STYLES = {"holds": "green", "does not hold": "red", "not claimed": "dim", "not checked": "yellow"}


def main(overrides: list[str]) -> None:
    """Verify one checkpoint; exit with 1 where a claim does not hold. `configs/verify.yaml` has the keys."""
    config = compose("verify", overrides)
    root = None if config.root is None else Path(str(config.root)).expanduser()
    checkpoint = Checkpoint.find(str(config.checkpoint), root)
    if not (checkpoint.folder / METADATA_FILE).is_file():
        raise EvalError(f"{checkpoint.name} is not a run of ours: it has no {METADATA_FILE}, so it claims nothing.")
    console = Console(stderr=config.json is True)
    if not console.is_terminal:
        console = Console(stderr=config.json is True, width=_PIPED_WIDTH)
    working = console.status("Verifying …") if console.is_terminal else nullcontext()
    with working:
        claims = verify(checkpoint, config)
    recorded = _record(checkpoint, claims) if config.record else "record=false: the outcome was not recorded"
    _print(console, checkpoint, claims, recorded)
    _write_json(config.json, checkpoint, claims)
    if any(claim.fails for claim in claims):
        sys.exit(1)


def verify(checkpoint: Checkpoint, config: DictConfig) -> list[Claim]:
    """Derive every claim again, in the order of the table. Raises EvalError for a GGUF file that is not there."""
    gguf = [Path(str(config.gguf)).expanduser()] if config.gguf is not None else gguf_files(checkpoint)
    for path in gguf:
        if not path.is_file():
            raise EvalError(f"There is no file {path}; name an exported GGUF file with gguf=FILE.")
    model = _load(checkpoint)
    claims = [
        *file_claims(checkpoint),
        tokenizer_claim(checkpoint),
        template_claim(checkpoint),
        logits_claim(checkpoint, model),
        card_claim(checkpoint),
    ]
    claims += _scores(checkpoint, rerun=config.rerun)
    return [*claims, *_parity(checkpoint, model, config, gguf)]


def _load(checkpoint: Checkpoint) -> GPT2 | str:
    """The model in float32 on the CPU, or why there is none."""
    try:
        return checkpoint.load_model(torch.float32)
    except ResonanceError as error:
        return f"the weights cannot be loaded: {error}"


def _scores(checkpoint: Checkpoint, *, rerun: bool) -> list[Claim]:
    try:
        claimed = claimed_scores(checkpoint)
    except EvalError as error:
        return [Claim("scores", "does not hold", str(error))]
    if not claimed:
        return [Claim("scores", "not claimed", "the checkpoint has not been evaluated")]
    claims: list[Claim] = []
    for scores in claimed:
        claims.append(score_claim(checkpoint, scores))
        if (items := item_claim(checkpoint, scores)) is not None:
            claims.append(items)
    return [*claims, *rerun_claims(checkpoint, claimed)] if rerun else claims


def _parity(checkpoint: Checkpoint, model: GPT2 | str, config: DictConfig, gguf: Sequence[Path]) -> list[Claim]:
    try:
        reference = model if isinstance(model, str) else Reference.of(checkpoint, model)
    except ResonanceError as error:
        reference = str(error)
    if isinstance(reference, str):
        return [Claim("parity", "not checked", reference)]
    claims = [training_claim(checkpoint, reference), engine_claim(checkpoint, reference)]
    if config.server:
        claims.append(server_claim(checkpoint, reference))
    else:
        claims.append(Claim(SERVER, "not checked", "server=false"))
    if config.transformers:
        claims.append(huggingface_claim(checkpoint, reference))
    else:
        claims.append(Claim(HUGGINGFACE, "not checked", "transformers=false"))
    claims += [gguf_claim(checkpoint, reference, path) for path in gguf]
    if not gguf:
        claims.append(Claim(GGUF, "not claimed", "there is no *.gguf in the folder; gguf=FILE names one"))
    return claims


def _record(checkpoint: Checkpoint, claims: Sequence[Claim]) -> str:
    """Record the outcome in `resonance.json` and on the card. Returns a sentence that says what was recorded."""
    failed, metadata = any(claim.fails for claim in claims), checkpoint.metadata
    verified = None
    if not failed and metadata.fingerprint is not None:
        verified = Verified(
            at=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            by=f"resonance {version('resonance')}" + (f" (commit {commit[:12]})" if (commit := git_commit()) else ""),
            claims=[claim.name for claim in claims if claim.outcome == "holds"],
            weights_sha256=file_sha256(checkpoint.folder / MODEL_FILE),
            scores_sha256=scores_sha256(metadata.scores),
        )
    if verified is None and metadata.verified is None:
        return "" if failed else "The card does not say verified: the checkpoint records no hashes to bind that to."
    try:
        checkpoint.record(verified=verified)
    except OSError as error:
        return f"The outcome could not be recorded: {error.strerror or error}."
    if verified is None:
        return "The card does not say verified any more."
    return f"The card now says verified, with {len(verified.claims)} claims."


def _print(console: Console, checkpoint: Checkpoint, claims: Sequence[Claim], recorded: str) -> None:
    table = Table(title=f"What {checkpoint.name} claims", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("claim", no_wrap=True)
    table.add_column("outcome", no_wrap=True)
    table.add_column("", overflow="fold")
    for claim in claims:
        table.add_row(Text(claim.name), Text(claim.outcome, style=_STYLES[claim.outcome]), Text(claim.why))
    console.print(table)
    if recorded:
        console.print(Text(recorded), soft_wrap=True)
    for claim in claims:
        if claim.fails:
            print(f"{claim.name} does not hold: {claim.why}", file=sys.stderr)


def _write_json(target: object, checkpoint: Checkpoint, claims: Sequence[Claim]) -> None:
    """Write the claims as JSON: to standard output for `true`, to a file for its path."""
    if target in (None, False):
        return
    document = {
        "checkpoint": checkpoint.name,
        "folder": str(checkpoint.folder),
        "holds": not any(claim.fails for claim in claims),
        "claims": [asdict(claim) for claim in claims],
    }
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if target is True:
        print(text, end="")
        return
    path = Path(str(target)).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(path, text)
    except OSError as error:
        raise EvalError(f"json={path} cannot be written: {error.strerror or error}.") from error
