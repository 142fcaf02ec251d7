"""What the model would read: a chat request's prompt, without an answer and without a trace in the conversation."""

from fastapi import APIRouter

from serve.api.auth import Known
from serve.api.schemas.requests import ChatRequest
from serve.api.schemas.responses import PromptToken, RenderedPrompt
from serve.api.service import Shared
from serve.generation.prompt import check, make_prompt, read_conversation
from serve.middleware.content_type import TypedRoute

router = APIRouter(tags=["chat"], route_class=TypedRoute)


@router.post("/v1/chat/prompt")
async def chat_prompt(body: ChatRequest, shared: Shared, caller: Known) -> RenderedPrompt:
    """The prompt that this chat request would make: the turns that fit, the sources of its search, every token."""
    model = shared.model(body.model)
    check(shared, body)
    with shared.quotas.one_more(caller.client):
        conversation = await read_conversation(shared, caller, body)
        prompt = await make_prompt(shared, model, body, conversation)
    ids = prompt.fitted.prompt_ids
    return RenderedPrompt(
        text=model.tokenizer.decode(ids),
        token_ids=ids,
        tokens=[PromptToken(id=i, text=model.tokenizer.token_bytes(i).decode("utf-8", "replace")) for i in ids],
        prompt_tokens=len(ids),
        messages_kept=len(prompt.fitted.messages),
        messages_dropped=prompt.fitted.dropped,
        context_length=model.context_length,
        sources=None if prompt.grounding is None else prompt.grounding.sources(),
    )
