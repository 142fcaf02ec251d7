"""The search in owners' own documents: those of the conversation that is answered, and those of the library."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from resonance.chat_template import Message
from resonance.retrieval.text import site_of
from resonance.retrieval.types import Budget, Limits, Retrieved, Source
from serve.storage import documents
from serve.storage.store import Store

if TYPE_CHECKING:
    from resonance.retrieval.documents.memory import PassageIndex, PlacedPassage

CACHED = 32  # owners' indexes that are kept; documents never change, so an index is valid while its documents are there
START = 3  # passages of an attached document's beginning, where the question names nothing in it


_Key = tuple[str, tuple[str, ...]]  # an owner and the ids of documents


def passage_url(document_id: str, position: int, name: str) -> str:
    """The page's address of a passage; its last part is the file's name, which a source shows as its site."""
    return f"/d/{document_id}/{position}/{name}"


class Library:
    """Indexes of owners' documents; `budget` has the configured fields of `resonance.retrieval.types.Budget`."""

    def __init__(self, store: Store, budget: Mapping[str, Any]) -> None:
        self._store = store
        self._budget = Budget(**budget)
        self._indexes: OrderedDict[_Key, tuple[PassageIndex, list[PlacedPassage]]] = OrderedDict()

    async def retrieve(
        self,
        owner: str,
        conversation_id: str | None,
        messages: Sequence[Message],
        *,
        prompt_tokens: int,
        count_tokens: Callable[[str], int],
    ) -> Retrieved | None:
        """Find passages for the newest message; None where the owner has no documents, or none was looked for.

        Documents of the conversation are searched for every message, the library's where a message calls for it.
        Raises StoreUnavailable.
        """
        # Here, because their libraries are not needed by a server that is given no documents.
        from resonance.retrieval.documents.memory import PassageProvider
        from resonance.retrieval.ranking import pack
        from resonance.retrieval.retriever import Retriever, SearchOptions
        from resonance.retrieval.throttling import DirectProvider

        rows = await documents.searchable(self._store, owner, conversation_id)
        if not rows:
            return None
        key = (owner, tuple(row.id for row in rows))
        index, placed = await self._index(key, {row.id: row.name for row in rows})
        attached = [row.id for row in rows if row.conversation_id is not None]
        newest = f"/d/{attached[-1]}/" if attached else None
        start = [one for one in placed if newest and one.url.startswith(newest)][:START]
        retriever = Retriever(
            DirectProvider(PassageProvider(index)),
            pages=None,
            options=SearchOptions(eager=True),
            budget=self._budget,
            limits=Limits(),
        )
        budget_tokens = retriever.context_budget(messages, prompt_tokens, count_tokens)
        retrieved = await retriever.retrieve(
            messages,
            budget_tokens=budget_tokens,
            count_tokens=count_tokens,
            always=True if attached else None,
        )
        if start and not retrieved.sources:
            # What names nothing in an attached document, "summarise it" say, is about its beginning.
            whole = [Source(0, one.title, one.url, site_of(one.url), one.text, 0.0) for one in start]
            sources, context = pack(whole, budget_tokens, count_tokens)
            return replace(retrieved, sources=tuple(sources), context=context, problem=None, searched=True)
        return retrieved if retrieved.searched else None

    async def _index(self, key: _Key, names: Mapping[str, str]) -> "tuple[PassageIndex, list[PlacedPassage]]":
        """The index of some documents and its passages, from memory or built anew."""
        from resonance.retrieval.documents.memory import PassageIndex, PlacedPassage

        if key not in self._indexes:
            owner, ids = key
            found = await documents.passages(self._store, owner, ids)
            placed = [
                PlacedPassage(title, text, passage_url(id, position, names[id]))
                for id in ids
                for position, (title, text) in enumerate(found.get(id, ()))
            ]
            self._indexes[key] = await asyncio.to_thread(PassageIndex, placed), placed
            while len(self._indexes) > CACHED:
                self._indexes.popitem(last=False)
        self._indexes.move_to_end(key)
        return self._indexes[key]
