"""Train-serve parity: fixed conversations have the same prompt ids and greedy answers wherever the checkpoint runs.

The reference is the plain model, in float32 and without a cache, on the ids of the chat template. An answer is greedy
if each of its tokens is the reference's likeliest one after those before it, which one forward pass shows; where two
logits are equal within TIE, either token is right.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from data.example import Example
from data.tokenize import IGNORE, tokenize
from eval.verification.claims import Claim, judged
from resonance.chat_template import ChatTemplate, ContextOverflow, Message
from resonance.checkpoint import Checkpoint
from resonance.engine import Engine, SamplingParams
from resonance.errors import ResonanceError
from resonance.fingerprint import CONVERSATIONS
from resonance.model import GPT2
from resonance.tokenizer import Tokenizer

ASKED = ("question", "system prompt", "sources", "code", "turns")  # of CONVERSATIONS
NEW_TOKENS = 8
TIE = 1e-2  # logits
ANSWER = "Yes, it is."  # what training's rows end with


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation, cut to the window as for serving, and its token ids."""

    name: str
    messages: tuple[Message, ...]
    ids: list[int]

    @property
    def has_context(self) -> bool:
        """Whether a message has a context, which the HTTP API has no field for."""
        return any(message.context is not None for message in self.messages)


@dataclass(frozen=True, slots=True)
class Answer:
    """A greedy answer without its end token; `ended` says whether there was one. `logprobs` is None where unknown."""

    token_ids: list[int]
    ended: bool
    logprobs: list[float] | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """The plain model, and what is asked of it."""

    model: GPT2
    template: ChatTemplate
    tokenizer: Tokenizer
    prompts: tuple[Prompt, ...]

    @classmethod
    def of(cls, checkpoint: Checkpoint, model: GPT2) -> "Reference":
        """Render the prompts that fit into the checkpoint's window. Raises ResonanceError without a usable template."""
        template, window = checkpoint.template(), checkpoint.window
        prompts: list[Prompt] = []
        for name in ASKED:
            budget, history = window.prompt_budget(NEW_TOKENS), window.history_budget(NEW_TOKENS)
            try:
                fitted = template.fit(CONVERSATIONS[name], budget=budget, history_budget=history)
            except ContextOverflow:
                continue
            if len(fitted.prompt_ids) + NEW_TOKENS < window.context_length:
                prompts.append(Prompt(name, tuple(fitted.messages), fitted.prompt_ids))
        return cls(model, template, checkpoint.load_tokenizer(), tuple(prompts))

    @torch.no_grad()
    def problem(self, prompt: Prompt, answer: Answer) -> str | None:
        """Why the answer is not the plain model's greedy one; None if it is."""
        ids = [*prompt.ids, *answer.token_ids]
        if any(not 0 <= i < self.model.config.vocab_size for i in ids):
            return f"the answer to {prompt.name!r} has a token that the model does not have"
        hidden = self.model(torch.tensor([ids]), return_hidden_states=True)[0, len(prompt.ids) - 1 :]
        logits = self.model.logits(hidden)  # (answer + 1, V)
        ends = {self.template.end_id, self.tokenizer.eot_id}
        for position, row in enumerate(logits):
            best = int(row.argmax())
            clear = float(row[best]) - TIE
            if position == len(answer.token_ids):
                ended = best in ends or any(float(row[i]) >= clear for i in ends if i < len(row))
                wrong = (answer.ended and not ended) or (not answer.ended and position < NEW_TOKENS)
                chosen = "the end" if answer.ended else "nothing"
            else:
                chosen = repr(self.tokenizer.decode([answer.token_ids[position]]))
                wrong = float(row[answer.token_ids[position]]) < clear
                if not wrong and answer.logprobs is not None:
                    expected = float(row.log_softmax(-1)[answer.token_ids[position]])
                    if abs(expected - answer.logprobs[position]) > TIE:
                        return (
                            f"token {position + 1} of the answer to {prompt.name!r} has the log-probability "
                            f"{answer.logprobs[position]:.4f}, and the plain model's is {expected:.4f}"
                        )
            if wrong:
                expected_text = repr(self.tokenizer.decode([best])) if best < self.tokenizer.vocab_size else str(best)
                return (
                    f"token {position + 1} of the answer to {prompt.name!r} is {chosen}, and the plain model's is "
                    f"{expected_text}"
                )
        return None


def compare(
    name: str, reference: Reference, prompts: Sequence[Prompt], answer: Callable[[Prompt], Answer | str]
) -> Claim:
    """Check one answer per prompt; `answer` returns a sentence instead where the prompt itself is not the same."""
    if not prompts:
        return Claim(
            name, "not checked", f"no fixed conversation fits into {reference.model.config.context_length} tokens"
        )
    tokens = 0
    for prompt in prompts:
        given = answer(prompt)
        problem = given if isinstance(given, str) else reference.problem(prompt, given)
        if problem is not None:
            return Claim(name, "does not hold", problem)
        tokens += 0 if isinstance(given, str) else len(given.token_ids) + given.ended
    return Claim(name, "holds", f"the same {tokens} greedy tokens of {len(prompts)} conversations")


def training_claim(checkpoint: Checkpoint, reference: Reference) -> Claim:
    """The rows that training makes of the conversations begin with the prompts, and supervise from there on."""
    name = "parity: training"
    template = reference.template
    for prompt in reference.prompts:
        example = Example((*prompt.messages, Message("assistant", ANSWER)))
        row = tokenize([example], template, checkpoint.config.context_length)
        expected = [*prompt.ids, *template.tokenizer.encode(ANSWER), template.end_id]
        ids = [*row.input_ids.tolist(), int(row.labels[-1])]
        if ids != expected:
            return Claim(name, "does not hold", f"training renders {prompt.name!r} as other tokens")
        labels = row.labels.tolist()
        if labels[len(prompt.ids) - 1 :] != expected[len(prompt.ids) :]:
            return Claim(name, "does not hold", f"training does not supervise the whole answer to {prompt.name!r}")
        if all(message.role != "assistant" for message in prompt.messages):
            unsupervised = labels[: len(prompt.ids) - 1]
            if any(label != IGNORE for label in unsupervised):
                return Claim(name, "does not hold", f"training supervises the prompt of {prompt.name!r}")
    if not reference.prompts:
        return Claim(name, "not checked", f"no fixed conversation fits into {checkpoint.config.context_length} tokens")
    return Claim(name, "holds", f"the same prompt ids of {len(reference.prompts)} conversations")


def engine_claim(checkpoint: Checkpoint, reference: Reference) -> Claim:
    """The engine's greedy answers, in float32 and in one batch, against the plain model's."""
    name = "parity: engine"
    try:
        engine = Engine.from_checkpoint(checkpoint, dtype="fp32", max_batch_size=max(1, len(reference.prompts)))
        params = SamplingParams(max_new_tokens=NEW_TOKENS, temperature=0.0, logprobs=0)
        completions = engine.generate([prompt.ids for prompt in reference.prompts], params)
    except ResonanceError as error:
        return judged(name, str(error))
    answers = {
        prompt.name: Answer(
            completion.token_ids,
            completion.finish_reason == "stop",
            [token.logprob for token in completion.logprobs or ()],
        )
        for prompt, completion in zip(reference.prompts, completions, strict=True)
    }
    return compare(name, reference, reference.prompts, lambda prompt: answers[prompt.name])
