"""`resonance feedback`: what the conversations hold to learn from: show, export, evidence, forget, delete."""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from resonance.atomic_files import write_text_atomically
from resonance.errors import ResonanceError
from resonance.hydra_config import compose, nearest
from serve.judgements.collect import collect
from serve.judgements.evidence import MIN_VOTES, Evidence, count_votes, evidence_of, weights_of
from serve.judgements.judgement import Judgement
from serve.judgements.screening import Screening
from serve.judgements.training_file import TrainingFile, make_training_file, write_training_file
from serve.owners import owner_names, parse_environment_keys, read_owners
from serve.storage.consent import read_consents
from serve.storage.judgements import delete_judgements
from serve.storage.offline import with_store
from serve.storage.ownership import holdings
from serve.storage.session_locks import SessionBusy
from serve.storage.store import Store
from serve.thread import NoSuchAnswer, read_thread

ACTIONS = ("show", "export", "evidence", "forget", "delete", "thread")
ORIGINS = ("approval", "rejection", "correction", "siblings", "compare")
PIPED_WIDTH = 150  # columns of a table that is not printed on a terminal
NOBODY = "(nobody)"  # the owner of what was written without keys


class FeedbackError(ResonanceError):
    """Feedback that cannot be shown, written or deleted."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command line."""

    action: str
    out: Path | None
    owner: str | None
    checkpoint: str | None
    against: str
    min_votes: int
    root: Path | None
    since: datetime | None
    conversation: str | None
    message: str | None
    test: float
    validation: float
    screen: bool
    training_consent: str
    json: bool
    store_url: str | None


@dataclass(frozen=True, slots=True)
class Owners:
    """The owners that have something stored: their names by id, and who agreed to training."""

    names: Mapping[str, str]
    agreed: frozenset[str]

    def name(self, id: str) -> str:
        """An owner's name, or its id."""
        return self.names.get(id, id) or NOBODY

    def find(self, name: str) -> str:
        """The id of an owner. Raises FeedbackError."""
        for id in self.names:
            if name in (self.name(id), id):
                return id
        known = ", ".join(sorted(self.name(id) for id in self.names)) or "nobody"
        raise FeedbackError(f"Nothing is stored of {name!r}; there is something of: {known}.")


def main(overrides: list[str]) -> None:
    """Run one action; see `configs/feedback.yaml`."""
    options = _options(cast("dict[str, Any]", OmegaConf.to_container(compose("feedback", overrides), resolve=True)))
    match options.action:
        case "show":
            _show(options)
        case "export":
            _export(options)
        case "evidence":
            _evidence(options)
        case "forget":
            _forget(options)
        case "thread":
            _thread(options)
        case _:
            _delete(options)


def _show(options: Options) -> None:
    owners, found = with_store(options.store_url, lambda store: _read(store, options))
    counts: dict[tuple[str, str], Counter[str]] = {}
    for one in _acts(found):
        counts.setdefault((one.owner, one.answered_by or "–"), Counter())[one.origin] += 1
    rows = [
        {
            "owner": owners.name(owner),
            "agreed": owner in owners.agreed,
            "answered_by": model,
            **{origin: count[origin] for origin in ORIGINS},
        }
        for (owner, model), count in sorted(counts.items())
    ]
    if options.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    if not rows:
        print("Nobody has judged an answer yet.")
        return
    table = Table("owner", "agreed to training", "answered by", "thumbs up", "thumbs down", "corrections", "siblings",
                  "comparisons")  # fmt: skip
    for row in rows:
        agreed = "yes" if row["agreed"] else "no"
        table.add_row(str(row["owner"]), agreed, str(row["answered_by"]), *(str(row[origin]) for origin in ORIGINS))
    _print(table)


def _export(options: Options) -> None:
    if options.out is None:
        raise FeedbackError("Say where to: resonance feedback export out=FILE.")
    _check_out(options.out)
    screening = Screening() if options.screen else None
    owners, found = with_store(options.store_url, lambda store: _read(store, options))
    agreed = [one for one in found if one.owner in owners.agreed]
    made = make_training_file(agreed, screening, test=options.test, validation=options.validation)
    if not_agreed := len(found) - len(agreed):
        made.left_out["their owners have not agreed to training"] += not_agreed
    write_training_file(options.out, made, owners.names)
    _report(options, made, owners)


def _evidence(options: Options) -> None:
    if options.checkpoint is None or options.out is None:
        raise FeedbackError("Say of which run, and where to: resonance feedback evidence checkpoint=RUN out=FILE.")
    if options.owner is not None or options.since is not None:
        name = "since" if options.owner is None else "owner"
        raise FeedbackError(f"{name} cannot choose among votes: evidence counts all of those who agreed; leave it out.")
    _check_out(options.out)
    candidate, against = weights_of(options.checkpoint, options.root), weights_of(options.against, options.root)
    if candidate.crc32 == against.crc32:
        raise FeedbackError(f"{candidate.run} has the weights of {against.run}; there is nothing to prefer.")

    async def count(store: Store) -> Evidence:
        owners = await _owners(store, options)
        counted = await count_votes(store, owners.names, owners.agreed, candidate, against)
        return evidence_of(counted, candidate, against, options.min_votes)

    found = with_store(options.store_url, count)
    write_text_atomically(options.out, json.dumps([found.as_json()], indent=2, ensure_ascii=False) + "\n")
    if options.json:
        print(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
        return
    print(found.sentence)
    for reason, number in found.votes.left_out.most_common():
        print(f"left out: {number:,} ({reason})")
    print(options.out)


def _check_out(out: Path) -> None:
    if out.is_dir() or not out.parent.is_dir():
        raise FeedbackError(f"{out} cannot be written; out= must be a file in a folder that is there.")


def _report(options: Options, made: TrainingFile, owners: Owners) -> None:
    counts, agreed = made.counts(), made.agreement
    if options.json:
        agreement = None if agreed is None else agreed.as_json({id: owners.name(id) for id in owners.names})
        print(json.dumps({"splits": counts, "left_out": made.left_out, "agreement": agreement}, indent=2))
        return
    table = Table("split", "examples", "pairs", "votes")
    for split in ("train", "validation", "test"):
        table.add_row(split, *(str(counts.get(split, Counter())[kind]) for kind in ("example", "pair", "vote")))
    _print(table)
    for reason, count in made.left_out.most_common():
        print(f"left out: {count:,} ({reason})")
    if agreed is not None and agreed.questions:
        print(f"answered by several people: {agreed.questions:,} questions; {agreed.disagreeing:,} of {agreed.pairs:,} "
              "pairs of them disagree")  # fmt: skip
    print(options.out)


def _forget(options: Options) -> None:
    if options.conversation is None:
        raise FeedbackError("Say which: resonance feedback forget conversation=ID.")
    conversation = options.conversation

    async def forget(store: Store) -> list[str]:
        owners = await _owners(store, options)
        of = owners.names if options.owner is None else [owners.find(options.owner)]
        return [owners.name(owner) for owner in of if await store.delete(owner, conversation)]

    try:
        forgotten = with_store(options.store_url, forget)
    except SessionBusy:
        raise FeedbackError(f"An answer is under way in {conversation}; try again when it has ended.") from None
    if not forgotten:
        raise FeedbackError(f"There is no conversation {conversation!r}.")
    print(
        f"The conversation {conversation} of {' and '.join(forgotten)} is deleted with its judgements; no later export "
        "holds it. Checkpoints that were trained on it are not changed."
    )


def _delete(options: Options) -> None:
    if options.owner is None:
        raise FeedbackError("Say whose: resonance feedback delete owner=NAME.")
    name = options.owner

    async def delete(store: Store) -> tuple[int, int]:
        owner = (await _owners(store, options)).find(name)
        return await delete_judgements(store, owner)

    answers, votes = with_store(options.store_url, delete)
    print(f"{name}: the judgements of {answers} answers and {votes} votes are deleted; the conversations stay.")


def _thread(options: Options) -> None:
    if options.conversation is None:
        raise FeedbackError("Say which: resonance feedback thread conversation=ID [message=ID].")
    conversation = options.conversation

    async def read(store: Store) -> list[list[dict[str, str]]]:
        owners = await _owners(store, options)
        of = owners.names if options.owner is None else [owners.find(options.owner)]
        threads = [await read_thread(store, owner, conversation, options.message) for owner in of]
        return [[{"role": row.role, "content": row.content} for row in rows] for rows in threads if rows]

    try:
        found = with_store(options.store_url, read)
    except NoSuchAnswer as error:
        raise FeedbackError(f"The conversation {conversation!r} has {error}.") from None
    if not found:
        raise FeedbackError(f"There is no conversation {conversation!r}.")
    if len(found) > 1:
        raise FeedbackError(f"Several owners have a conversation {conversation!r}; say whose: owner=NAME.")
    print(json.dumps(found[0], indent=2, ensure_ascii=False))


async def _read(store: Store, options: Options) -> tuple[Owners, list[Judgement]]:
    """The judgements that the options select, oldest first."""
    owners = await _owners(store, options)
    of = list(owners.names) if options.owner is None else [owners.find(options.owner)]
    found: list[Judgement] = []
    for owner in of:
        found += [one async for one in collect(store, owner) if _is_selected(one, options)]
    if options.checkpoint is not None and not found:
        raise FeedbackError(f"No answer of {options.checkpoint!r} was judged; `resonance feedback` lists what was.")
    return owners, sorted(found, key=lambda one: (one.at, one.id, one.kind))


async def _owners(store: Store, options: Options) -> Owners:
    held = [holding.owner for holding in await holdings(store)]
    known = owner_names(read_owners(), parse_environment_keys(os.environ.get("RESONANCE_API_KEYS", "")))
    consents = await read_consents(store)
    agreed = {
        "ask": {owner for owner in held if owner in consents and consents[owner].given},
        "given": set(held),
        "never": set[str](),
    }[options.training_consent]
    return Owners({owner: known.get(owner, owner) for owner in held}, frozenset(agreed))


def _is_selected(one: Judgement, options: Options) -> bool:
    return (options.checkpoint is None or one.answered_by == options.checkpoint) and (
        options.since is None or one.at >= options.since
    )


def _acts(found: Sequence[Judgement]) -> list[Judgement]:
    """Each act of a reader's once: thumbs, and pairs; examples are made of these."""
    return [one for one in found if one.kind != "example"]


def _options(values: dict[str, Any]) -> Options:
    if values["action"] not in ACTIONS:
        raise FeedbackError(f"action must be one of {', '.join(ACTIONS)}; {nearest(str(values['action']), ACTIONS)}")
    for name in ("test", "validation"):
        if not isinstance(values[name], int | float) or not 0 <= values[name] < 1:
            raise FeedbackError(f"{name} must be a share of at least 0 and less than 1, not {values[name]!r}.")
    if values["test"] + values["validation"] >= 1:
        raise FeedbackError("test and validation together must leave something to train on; make them less than 1.")
    if values["training_consent"] not in ("ask", "given", "never"):
        raise FeedbackError(f"training_consent must be ask, given or never, not {values['training_consent']!r}.")
    if (
        isinstance(values["min_votes"], bool)
        or not isinstance(values["min_votes"], int)
        or values["min_votes"] < MIN_VOTES
    ):
        raise FeedbackError(
            f"min_votes must be a whole number from {MIN_VOTES} on, not {values['min_votes']!r}: fewer show nothing, "
            "whatever they say."
        )
    return Options(
        action=values["action"],
        out=None if values["out"] is None else Path(str(values["out"])).expanduser(),
        owner=None if values["owner"] is None else str(values["owner"]),
        checkpoint=None if values["checkpoint"] is None else str(values["checkpoint"]),
        against=str(values["against"]),
        min_votes=values["min_votes"],
        root=None if values["root"] is None else Path(str(values["root"])).expanduser(),
        since=_since(values["since"]),
        conversation=None if values["conversation"] is None else str(values["conversation"]),
        message=None if values["message"] is None else str(values["message"]),
        test=float(values["test"]),
        validation=float(values["validation"]),
        screen=values["screen"] is True,
        training_consent=values["training_consent"],
        json=values["json"] is True,
        store_url=values["store"]["url"],
    )


def _since(value: object) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise FeedbackError(f"since must be a day or a time, as 2026-11-01T12:00:00Z, not {value!r}.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _print(table: Table) -> None:
    console = Console()
    (console if console.is_terminal else Console(width=PIPED_WIDTH)).print(table, markup=False)
