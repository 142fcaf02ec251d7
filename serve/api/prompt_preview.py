"""What the model would read: a chat request's prompt, without an answer and without a trace in the conversation."""

from fastapi import APIRouter

from serve.api.auth import CallerDep
from serve.api.schemas.requests import ChatRequest
from serve.api.schemas.responses import PromptToken, RenderedPrompt
from serve.api.service import ServiceDep
from serve.generation.prompt import check, make_prompt, read_conversation
from serve.middleware.content_type import TypedRoute

router = APIRouter(tags=["chat"], route_class=TypedRoute)


@router.post("/v1/chat/prompt")
async def chat_prompt(body: ChatRequest, service: ServiceDep, caller: CallerDep) -> RenderedPrompt:
    """The prompt that this chat request would make: the turns that fit, the sources of its search, every token."""
    model = service.model(body.model)
    check(service, body)
    with service.rate_limiter.admit(caller.client):
        conversation = await read_conversation(service, caller, body)
        prompt = await make_prompt(service, model, body, conversation)
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
