"""The model card of a trained folder: what it is, what it was made from, how to load it, and its figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from perl_eval.models.checkpoint_folder import base_of, has_head, is_adapter, quantization_of
from perl_eval.storage import hub_snapshot, remote

__all__ = ["model_card"]

_KINDS = {
    "train sft": "Language model tuned on demonstrations",
    "train reward": "Reward model",
    "train average": "Reward model, the weight average of others",
    "train policy": "Language model tuned against a reward",
    "train dpo": "Language model tuned on preferences or ratings",
}


def _kind(folder: Path) -> str:
    """Return what of transformers loads a folder's model, or its backbone."""
    model = base_of(folder).path if is_adapter(folder) else folder
    return "AutoModelForImageTextToText" if (model / "processor_config.json").is_file() else "AutoModelForCausalLM"


def _changes_embeddings(folder: Path) -> bool:
    from safetensors import safe_open

    with safe_open(folder / "adapter_model.safetensors", framework="numpy") as saved:
        return any("embed" in name for name in saved.keys())  # noqa: SIM118


def _packed(folder: Path) -> str:
    """Return what a card says of a base that lay in fewer bits than its folder has."""
    how = quantization_of(folder)
    return f", whose linear layers lay in 4 bits ({how}) meanwhile" if how else ""


def _loading(folder: Path, verb: str) -> str:
    if not is_adapter(folder):
        return f'model = {_kind(folder)}.from_pretrained("FOLDER")'
    lines = [
        f'model = {_kind(folder)}.from_pretrained("BASE")',
        'model = PeftModel.from_pretrained(model, "FOLDER")',
    ]
    tied = _changes_embeddings(folder)  # added to tied weights it would change both
    if verb in ("train policy", "train dpo") and not tied:
        lines.append("model = model.merge_and_unload()  # one addition, for use without peft")
    return "\n".join(lines)


def model_card(folder: Path, verb: str, base: Path, notes: Mapping[str, object], glossary: str) -> Path:
    """Write ``README.md``, as a model hub shows it.

    Args:
        folder: The model's folder, complete.
        verb: What made it.
        base: The model it was made from.
        notes: Its figures, as on the run card.
        glossary: What its curve logs, in Markdown.
    """
    from huggingface_hub import ModelCard, ModelCardData

    adapter, shown = is_adapter(folder), remote.shown(base)
    on_hub = hub_snapshot.name_of(base).partition("@")[0]
    data = ModelCardData(
        library_name="peft" if adapter else "transformers", base_model=on_hub or shown, tags=["perl-eval"]
    )
    figures = "\n".join(f"| {name} | {_figure(value)} |" for name, value in sorted(notes.items()))
    imports = f"from transformers import {_kind(folder)}" + ("\nfrom peft import PeftModel" if adapter else "")
    head = (
        "\nThe scalar head is in `head.safetensors` (`weight`, `bias`); it reads the hidden state of the last token.\n"
        "`perl_eval.models.reward_model.RewardScorer` does it all.\n"
    )
    text = f"""---
{data.to_yaml()}
---

# {_KINDS[verb]}

Made by `perl-eval {verb}` from `{shown}`{_packed(folder)}.
Arguments, seed, versions and sha256 of inputs and outputs are in `run.json`, the curve is in `curve.parquet`.

```python
{imports}

{_loading(folder, verb)}
```
{head if has_head(folder) else ""}
| figure | value |
|---|---|
{figures}

## What the curve shows

{glossary}
"""
    path = folder / "README.md"
    ModelCard(text, ignore_metadata_errors=False).save(path)
    return path


def _figure(value: object) -> str:
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
