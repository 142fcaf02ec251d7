"""Claims about a checkpoint's own files: hashes, tokenizer, template, logits, card."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from safetensors import SafetensorError

from eval.verification.claims import Claim, judged
from resonance.checkpoint import MODEL_FILE, TOKENIZER_FILES, TRAIN_FILE, Checkpoint
from resonance.errors import ResonanceError
from resonance.fingerprint import TOLERANCE, Fingerprint, conversation_ids, differences, file_sha256, prompt_logits
from resonance.model import GPT2
from resonance.model_card import score_table
from resonance.weights.checksum import checksum_of_file, stamped_checksum

CARD_FILE = "README.md"
_UNRECORDED = "the checkpoint was saved before checkpoints recorded it; saving it again records it"
_SHOWN = 12  # hexadecimal digits of a hash


def file_claims(checkpoint: Checkpoint) -> list[Claim]:
    """Every file against its recorded hash, and the tensors against the checksum in their header."""
    fingerprint = checkpoint.metadata.fingerprint
    recorded = fingerprint.files if fingerprint else {}
    claims = [_file_claim(checkpoint.folder, name, digest) for name, digest in recorded.items()]
    if not recorded:
        claims.append(Claim("files", "not claimed", _UNRECORDED))
    return [*claims, _train_yaml_claim(checkpoint), _checksum_claim(checkpoint.folder / MODEL_FILE)]


def template_claim(checkpoint: Checkpoint) -> Claim:
    """The recorded token ids of fixed conversations against those that the template and the tokenizer give now."""
    name, fingerprint = "template", checkpoint.metadata.fingerprint
    if fingerprint is None or not fingerprint.conversations:
        return Claim(name, "not claimed", _UNRECORDED)
    try:
        derived = conversation_ids(checkpoint.template())
    except ResonanceError as error:
        return Claim(name, "does not hold", str(error))
    problem = next(_different_ids(fingerprint, derived), None)
    compared = fingerprint.conversations.keys() & derived.keys()
    if not compared:
        return Claim(name, "not checked", "this version knows none of the conversations that were recorded")
    return judged(name, problem, f"{checkpoint.metadata.template}: the same ids of {len(compared)} conversations")


def tokenizer_claim(checkpoint: Checkpoint) -> Claim:
    """The tokenizer's files, which other programs read, against those of the tokenizer and template that ran here."""
    name = "tokenizer"
    try:
        template = checkpoint.template()
        with TemporaryDirectory(prefix="resonance-verify-") as scratch:
            problem = None
            for jinja in (template.jinja, *template.former_jinja):  # of this version, or of one that renders alike
                template.tokenizer.save(scratch, chat_template=jinja)
                difference = next(_different_files(checkpoint.folder, Path(scratch)), None)
                if difference is None:
                    problem = None
                    break
                problem = problem or difference
    except (ResonanceError, OSError, ValueError) as error:
        return Claim(name, "does not hold", str(error))
    return judged(name, problem, "GPT-2's vocabulary and merges, the template's tokens and its Jinja form")


def logits_claim(checkpoint: Checkpoint, model: GPT2 | str) -> Claim:
    """The recorded logits on fixed prompts against the weights'.

    `model` is the checkpoint's in float32 on the CPU, or the reason why there is none.
    """
    name, fingerprint = "logits", checkpoint.metadata.fingerprint
    if fingerprint is None or not fingerprint.logits:
        return Claim(name, "not claimed", _UNRECORDED if fingerprint is None else "the weights were not finite")
    if isinstance(model, str):
        return Claim(name, "not checked", model)
    derived = prompt_logits(model)
    if not derived:
        return Claim(name, "does not hold", "the weights' logits are not finite numbers")
    largest, within = differences(fingerprint.logits, derived)
    allowed = f"{TOLERANCE['absolute']:g} + {TOLERANCE['relative']:g} of the value are allowed"
    compared = f"largest difference {largest:.2g} on {len(derived)} prompts; {allowed}"
    return judged(name, None if within else f"these are not the weights that were saved: {compared}", compared)


def card_claim(checkpoint: Checkpoint) -> Claim:
    """The scores on the card against those in `resonance.json`."""
    path = checkpoint.folder / CARD_FILE
    if not path.is_file():
        return Claim("card", "not claimed", f"there is no {CARD_FILE}")
    text = path.read_text(encoding="utf-8", errors="replace")
    same = text.partition("## Scores")[2].strip() == score_table(checkpoint.metadata).strip()
    return judged("card", None if same else f"{CARD_FILE} shows other scores than resonance.json records")


def _file_claim(folder: Path, name: str, recorded: str) -> Claim:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        return Claim(name, "does not hold", "the name leads out of the checkpoint's folder")
    try:
        digest = file_sha256(folder / name)
    except OSError as error:
        return Claim(name, "does not hold", f"the file cannot be read ({error.strerror})")
    differs = f"its SHA-256 is {digest[:_SHOWN]}…, and {recorded[:_SHOWN]}… was recorded"
    return judged(name, None if digest == recorded else differs, f"SHA-256 {digest[:_SHOWN]}…")


def _train_yaml_claim(checkpoint: Checkpoint) -> Claim:
    recorded = checkpoint.metadata.config_sha256
    if recorded is None:
        return Claim(TRAIN_FILE, "not claimed", "no hash of a training config is recorded")
    return _file_claim(checkpoint.folder, TRAIN_FILE, recorded)


def _checksum_claim(path: Path) -> Claim:
    name = "tensors' checksum"
    try:
        stamped = stamped_checksum(path)
        actual = checksum_of_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        return Claim(name, "does not hold", f"{path.name} cannot be read ({error})")
    if stamped is None:
        return Claim(name, "not claimed", f"{path.name} has none in its header")
    differs = f"the tensors' CRC-32 is {actual}, and {stamped} was written"
    return judged(name, None if actual == stamped else differs, f"CRC-32 {actual}")


def _different_ids(fingerprint: Fingerprint, derived: Mapping[str, Sequence[int]]) -> Iterator[str]:
    for name, recorded in fingerprint.conversations.items():
        now = derived.get(name)
        if now is not None and recorded != list(now):
            pairs = enumerate(zip(recorded, now, strict=False))
            first = next((i for i, (a, b) in pairs if a != b), min(len(recorded), len(now)))
            yield (
                f"the prompt of the conversation {name!r} has {len(now)} tokens where {len(recorded)} were recorded, "
                f"other ones from token {first + 1} on"
            )


def _different_files(folder: Path, derived: Path) -> Iterator[str]:
    for name in TOKENIZER_FILES:
        theirs = (folder / name).read_text(encoding="utf-8")
        ours = (derived / name).read_text(encoding="utf-8")
        if not name.endswith(".json"):
            if theirs != ours:
                yield f"{name} is not GPT-2's"
            continue
        before, now = json.loads(theirs), json.loads(ours)
        if before == now:
            continue
        if not isinstance(before, dict):
            yield f"{name} is no JSON object"
            continue
        keys = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        yield f"{name} is another tokenizer's or template's: it differs in {len(keys)} entries, such as {keys[0]!r}"
