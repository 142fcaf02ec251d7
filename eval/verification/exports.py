"""Parity of what other programs open: the checkpoint's folder in transformers, and an exported GGUF file."""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch

from eval.verification.claims import Claim, judged
from eval.verification.parity import NEW_TOKENS, TIE, Answer, Prompt, Reference, compare
from resonance.checkpoint import Checkpoint
from resonance.cli.export import vocabulary
from resonance.errors import ResonanceError
from resonance.fingerprint import CONVERSATIONS, MARKED_UP
from resonance.weights import gguf

HUGGINGFACE, GGUF = "parity: transformers", "parity: GGUF"


def huggingface_claim(checkpoint: Checkpoint, reference: Reference) -> Claim:
    """Prompt ids by the folder's own chat template, logits and greedy answers of the folder in transformers."""
    if find_spec("transformers") is None:
        return Claim(HUGGINGFACE, "not checked", "transformers is not installed")
    # By name: the type checker takes 13 seconds to read this package.
    transformers: Any = import_module("transformers")
    logging: Any = import_module("transformers.utils.logging")

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(checkpoint.folder)
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(checkpoint.folder, dtype=torch.float32).eval()
        problem = _other_rendering(tokenizer, reference) or _other_logits(model, reference)
        if problem is not None:
            return Claim(HUGGINGFACE, "does not hold", problem)
        return compare(HUGGINGFACE, reference, reference.prompts, lambda prompt: _generate(model, prompt, reference))
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        return Claim(HUGGINGFACE, "does not hold", f"transformers cannot use the folder ({_first_line(error)})")
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()


def gguf_claim(checkpoint: Checkpoint, reference: Reference, path: Path) -> Claim:
    """An exported file's tokens, template and tensors against the checkpoint's, in the file's own number formats."""
    try:
        problem = gguf.difference(path, checkpoint.config, reference.model.state_dict(), vocabulary(checkpoint))
    except ResonanceError as error:
        problem = str(error)
    held = f"{path.name}: the same tokens, template and tensors"
    return judged(GGUF, problem and f"{path.name}: {problem}", held)


def gguf_files(checkpoint: Checkpoint) -> Sequence[Path]:
    """The GGUF files in the checkpoint's folder."""
    return sorted(checkpoint.folder.glob("*.gguf"))


def _other_rendering(tokenizer: Any, reference: Reference) -> str | None:
    """Where transformers renders a conversation as other ids; text that looks like markup is escaped only by ours."""
    for name, messages in CONVERSATIONS.items():
        if name == MARKED_UP:
            continue
        plain = [
            {"role": message.role, "content": message.content}
            | ({} if message.context is None else {"context": message.context})
            for message in messages
        ]
        asks = messages[-1].role == "user"
        text = tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=asks)
        ids = reference.template.render(messages, add_generation_prompt=asks).input_ids
        if text != reference.tokenizer.decode(ids):
            return f"the chat template in tokenizer_config.json writes {name!r} as another text"
        if tokenizer.decode(ids) != text:
            return f"the ids of {name!r} are another text in transformers' tokenizer"
    return None


@torch.no_grad()
def _other_logits(model: Any, reference: Reference) -> str | None:
    for prompt in reference.prompts:
        ids = torch.tensor([prompt.ids])
        largest = float((model(ids).logits - reference.model(ids)).abs().max())
        if not largest <= TIE:
            return f"the logits after {prompt.name!r} differ by up to {largest:.3g}"
    return None


def _generate(model: Any, prompt: Prompt, reference: Reference) -> Answer:
    ends = sorted({reference.template.end_id, reference.tokenizer.eot_id})
    ids = torch.tensor([prompt.ids])
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
        eos_token_id=ends,
        pad_token_id=ends[0],
    )
    tokens = cast("list[int]", output[0, len(prompt.ids) :].tolist())
    return Answer(tokens[:-1], ended=True) if tokens[-1] in ends else Answer(tokens, ended=False)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
