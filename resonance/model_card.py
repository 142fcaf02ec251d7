"""The model card: a checkpoint's `README.md`, written from its metadata."""

from collections.abc import Mapping

from resonance.metadata import Metadata, Verified
from resonance.model_config import GPT2Config


def model_card(name: str, config: GPT2Config, metadata: Metadata) -> str:
    """Write Markdown with a Hub-style header: origin, sizes, training and scores."""
    return _card(
        name,
        config,
        metadata,
        "A GPT-2 made by Resonance. transformers opens this folder as it is; `train.yaml` holds the whole experiment,\n"
        f"and `resonance train from_checkpoint={name.partition('/')[0]}` makes it again.",
    )


def exported_card(name: str, config: GPT2Config, metadata: Metadata, *, has_tokenizer: bool) -> str:
    """Write the card of an export for transformers: how to use it, and what `model_card` says of the checkpoint."""
    use = (
        "A GPT-2 made by Resonance, as transformers and what is built on it open it.\n\n"
        "```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained(".")\nmodel = AutoModelForCausalLM.from_pretrained(".")\n'
        'messages = [{"role": "user", "content": "Hello!"}]\n'
        'inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", '
        "return_dict=True)\n"
        'answer = model.generate(**inputs, max_new_tokens=64)[0, inputs["input_ids"].shape[1] :]\n'
        "print(tokenizer.decode(answer, skip_special_tokens=True))\n```\n\n"
        "Answers end with the token that ended them in training (`eos_token`); the pad token is `<|endoftext|>`. The\n"
        "chat template marks what was supervised (`return_assistant_tokens_mask=True`)."
    )
    bare = "A GPT-2 made by Resonance, without a tokenizer: its vocabulary is smaller than GPT-2's."
    return _card(name, config, metadata, use if has_tokenizer else bare)


def _card(name: str, config: GPT2Config, metadata: Metadata, intro: str) -> str:
    facts = {
        "Started from": metadata.base or "random weights",
        "Instruction data": metadata.data or "none",
        "Chat template": metadata.template,
        "Optimiser steps": f"{metadata.steps:,}",
        "Tokens seen": f"{metadata.tokens_seen:,}",
        "Layers x width x heads": f"{config.n_layer} x {config.n_embd} x {config.n_head}",
        "Context": f"{config.context_length:,} tokens",
        "Longest conversation trained on": _tokens(metadata.trained_length),
        "Vocabulary": f"{config.vocab_size:,} tokens, {'tied' if config.tie_weights else 'untied'} output head",
        "Seed": metadata.seed,
        "Made at": metadata.created_at,
        "Code": metadata.git_commit or "not under version control",
        "Data fingerprint": metadata.data_fingerprint or "none",
        "Config fingerprint": metadata.config_sha256 or "none",
    }
    if metadata.adapter:
        facts["Adapter"] = _adapter(metadata.adapter)
    if metadata.monitor:
        best = "Best " if metadata.weights not in ("last", "kept") else ""
        facts[f"{best}{metadata.monitor.name}"] = f"{metadata.monitor.value:.4f}"
    if metadata.weights:
        which = {
            "best": "the best by the monitored score",
            "kept": "kept as one of the best by the monitored score",
        }.get(metadata.weights, "the run's newest")
        facts["These weights"] = f"{which}, of step {metadata.steps:,}"
    if metadata.last:
        facts["Newest weights"] = f"of step {metadata.last.steps:,}, in `{metadata.last.folder}/`"
    if metadata.is_verified and metadata.verified:
        facts["Verified"] = _verified(metadata.verified)
    facts |= _training_facts(metadata.training)
    if metadata.resumes:
        facts["Resumed"] = "; ".join(map(_resume, metadata.resumes))
    rows = "\n".join(f"| {fact} | {value} |" for fact, value in facts.items())
    return f"""---
library_name: transformers
pipeline_tag: text-generation
tags: [gpt2, resonance, instruction-tuned]
---

# {name}

{intro}

| | |
|---|---|
{rows}

## Scores

{score_table(metadata)}
"""


def score_table(metadata: Metadata) -> str:
    """Write the recorded scores as a table, or the sentence that says that there are none."""
    rows: list[str] = []
    for task, scores in metadata.scores.items():
        for score, entry in scores.items():
            if isinstance(entry, dict) and "value" in entry:
                low, high = entry.get("ci95") or (None, None)
                spread = "" if low is None else f"{low:.4g} to {high:.4g}"
                rows.append(f"| {task} | {score} | {entry['value']:.4g} | {spread} | {entry.get('n', '')} |")
    if not rows:
        return "None yet: `resonance eval checkpoint=...` measures and records them."
    return "| task | score | value | 95% interval | n |\n|---|---|---|---|---|\n" + "\n".join(rows)


def _verified(verified: Verified) -> str:
    return (
        f"at {verified.at} by {verified.by}: {', '.join(verified.claims)}; "
        f"weights with the SHA-256 `{verified.weights_sha256}`"
    )


def _tokens(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,} tokens"


def _training_facts(training: Mapping[str, object]) -> dict[str, object]:
    """Return the table's rows about the training run: command, precision, hardware, versions."""
    if not training:
        return {}
    hardware, versions = training.get("hardware"), training.get("versions")
    facts: dict[str, object] = {
        "Command": f"`{training.get('command')}`",
        "Began at": training.get("started_at"),
        "Took": f"{training.get('duration_s')} s, {training.get('ended')}",
        "Precision": training.get("precision"),
        "Row length": training.get("row_length") or "not packed",
        "Processes": f"{training.get('world_size')}, {training.get('devices')} {training.get('accelerator')} each",
    }
    if training.get("objective"):
        facts["Objective"] = training["objective"]
    if training.get("averaged"):
        facts["Averaged"] = (
            f"these weights are an exponential moving average of the trained ones (decay {training['averaged']})"
        )
    if training.get("from_checkpoint"):
        facts["Made again from"] = training["from_checkpoint"]
    if isinstance(hardware, dict):
        gpus = ", ".join(map(str, hardware.get("gpus") or [])) or "no GPU"
        facts["Hardware"] = (
            f"{hardware.get('processor')}, {hardware.get('cores')} cores, {gpus}, {hardware.get('system')}"
        )
    if isinstance(versions, dict):
        facts["Versions"] = ", ".join(f"{name} {number}" for name, number in versions.items())
    return facts


def _resume(entry: Mapping[str, object]) -> str:
    changed = entry.get("changed")
    changes = (
        ", ".join(f"{key} {old} -> {new}" for key, (old, new) in changed.items()) if isinstance(changed, dict) else ""
    )
    return f"at {entry.get('at')} from step {entry.get('from_step')}" + (f", with {changes}" if changes else "")


def _adapter(adapter: Mapping[str, object]) -> str:
    targets = adapter.get("targets")
    matrices = ", ".join(map(str, targets)) if isinstance(targets, list) else "its matrices"
    base_dtype = adapter.get("base_dtype")
    base = "" if base_dtype is None else f" over a base in {base_dtype}"
    kind = "weight-decomposed low-rank (DoRA)" if adapter.get("dora") else "low-rank (LoRA)"
    return (
        f"{kind}, rank {adapter.get('rank')}, alpha {adapter.get('alpha')}, dropout {adapter.get('dropout')}, "
        f"on {matrices}{base}; merged into these weights, by itself in `adapter/`"
    )
