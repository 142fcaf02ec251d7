"""What training starts from: random weights of the sizes in the config, or pretrained ones."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from resonance import lora, weights
from resonance.chat_template import ChatTemplate
from resonance.checkpoint import Checkpoint
from resonance.model import GPT2
from resonance.model_config import GPT2Config
from train.induction import add_induction_heads
from train.provenance import sha256_of_weights


@dataclass(frozen=True, slots=True)
class Start:
    """A model ready to be trained, and the weights it was made from (None: random ones).

    `trained_length` is how long a text these weights have learned from, in tokens; 0 for random ones.
    """

    model: GPT2
    base: str | None
    base_sha256: str | None
    trained_length: int


def start_from(
    pretrained: str | Path | None,
    sizes: GPT2Config,
    template: ChatTemplate,
    *,
    seed: int,
    n_head: int | None = None,
    adapter: lora.LoraConfig | None = None,
    induction_heads: int = 0,
) -> Start:
    """Make the model to train: `pretrained` weights if given, else random ones of `sizes`, drawn from `seed`.

    Random ones begin with so many `induction_heads`. The vocabulary is resized to the template's tokenizer. With an
    `adapter`, that and the rows of tokens which the vocabulary gains are all that trains. Raises WeightsError when
    weights cannot be read, ConfigError when a model cannot have the heads, and AdapterError when the adapter does not
    fit the model.
    """
    torch.manual_seed(seed)
    if pretrained is None:
        model = GPT2(replace(sizes, vocab_size=template.tokenizer.vocab_size))
        if induction_heads:
            add_induction_heads(model, induction_heads)
        if adapter is not None:
            lora.inject(model, adapter)
        return Start(model, None, None, 0)
    path = weights.resolve(pretrained)
    config, state = weights.read(path, n_head=n_head)
    # A copy in float32: what is mapped from a file must not be trained on.
    whole = torch.contiguous_format
    state = {name: tensor.to(torch.float32, copy=True, memory_format=whole) for name, tensor in state.items()}
    model = GPT2.from_state(replace(config, dropout=sizes.dropout), state)
    model.requires_grad_(True)
    model.resize_vocab(template.tokenizer.vocab_size)
    if adapter is not None:
        lora.inject(model, adapter, new_tokens=max(0, model.config.vocab_size - config.vocab_size))
    return Start(model, str(pretrained), sha256_of_weights(path), Checkpoint.open(path).window.history_length)
