"""The same work by TRL's trainers for SFT, rewards, DPO, RLOO and GRPO on the same model, rows and tokens."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback
    from trl import (
        DPOConfig,
        DPOTrainer,
        GRPOConfig,
        GRPOTrainer,
        RewardConfig,
        RewardTrainer,
        RLOOConfig,
        RLOOTrainer,
        SFTConfig,
        SFTTrainer,
    )

from perl_eval.models.adapters import ALL_LINEAR
from perl_eval.models.tokenize import encode_dialogue, encode_prompt

if TYPE_CHECKING:
    from train_case import Case


def quiet() -> None:
    """Let the trainers' own warnings pass."""
    warnings.simplefilter("ignore")


class Ready(DPOTrainer):
    """TRL's DPO trainer on pairs that are token ids already, so that both sides read the same."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset


class Begins(TrainerCallback):
    """Notes when each step begins."""

    def __init__(self, note: Callable[[], None]) -> None:
        self.note = note

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Note it."""
        self.note()


def settings(case: Case, work: Path, **more: Any) -> dict[str, Any]:
    """Return what all three trainers are given: the same optimizer, precision and checkpointing as ours."""
    return {
        "output_dir": str(work / "trl"),
        "per_device_train_batch_size": case.batch,
        "max_steps": case.steps,
        "gradient_checkpointing": True,
        "bf16": case.dtype == "bf16",
        "use_cpu": not torch.cuda.is_available(),
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "learning_rate": 1e-4,
        "dataloader_pin_memory": False,
        **more,
    }


def adapters(case: Case, task: str) -> LoraConfig | None:
    """Return the adapters, of the same shape as ours."""
    if case.arm == "full":
        return None
    shape = case.shape
    targets = "all-linear" if shape.targets == ALL_LINEAR else list(shape.targets)
    return LoraConfig(r=shape.rank, lora_alpha=shape.alpha, target_modules=targets, task_type=task)


def train(case: Case, work: Path, note: Callable[[], None]) -> dict[str, float]:
    """Train and return nothing by formula."""
    from train_case import rows_of

    tokenizer = AutoTokenizer.from_pretrained(work / "model", trust_remote_code=False)
    found = rows_of(case)
    dtype = torch.bfloat16 if case.dtype == "bf16" and case.arm == "lora" else torch.float32
    trainer: Any
    if case.task == "sft":
        encoded = [
            encode_dialogue(tokenizer, row.prompt, row.completion or (), max_tokens=case.tokens) for row in found
        ]
        listed = [{"input_ids": list(one.ids), "completion_mask": [int(t) for t in one.trained]} for one in encoded]
        trainer = SFTTrainer(
            AutoModelForCausalLM.from_pretrained(work / "model", dtype=dtype, trust_remote_code=False),
            SFTConfig(**settings(case, work, max_length=None, completion_only_loss=True)),
            train_dataset=Dataset.from_list(listed),
            processing_class=tokenizer,
            peft_config=adapters(case, "CAUSAL_LM"),
        )
    elif case.task == "reward":
        sides = [
            {
                f"{name}_ids": list(encode_dialogue(tokenizer, row.prompt, answer or (), max_tokens=case.tokens).ids)
                for name, answer in (("chosen", row.chosen), ("rejected", row.rejected))
            }
            for row in found
        ]
        trainer = RewardTrainer(
            scorer(work, tokenizer, dtype),
            RewardConfig(**settings(case, work, max_length=None)),
            train_dataset=Dataset.from_list(sides),
            processing_class=tokenizer,
            peft_config=adapters(case, "SEQ_CLS"),
        )
    elif case.task == "dpo":
        trainer = Ready(
            AutoModelForCausalLM.from_pretrained(work / "model", dtype=dtype, trust_remote_code=False),
            args=DPOConfig(**settings(case, work, max_length=None, beta=0.1)),
            train_dataset=Dataset.from_list(encoded_pairs(case, tokenizer)),
            processing_class=tokenizer,
            peft_config=adapters(case, "CAUSAL_LM"),
        )
    else:
        room = case.tokens - case.new_tokens
        asked = [{"prompt": tokenizer.decode(encode_prompt(tokenizer, row.prompt, max_tokens=room))} for row in found]
        more = {"max_completion_length": case.new_tokens, "beta": 0.05, "temperature": 1.0}
        more |= {"num_generations": case.group, **({"loss_type": "grpo"} if case.task == "grpo" else {})}
        kind, config = (GRPOTrainer, GRPOConfig) if case.task == "grpo" else (RLOOTrainer, RLOOConfig)
        trainer = kind(
            AutoModelForCausalLM.from_pretrained(work / "model", dtype=dtype, trust_remote_code=False),
            scorer(work, tokenizer, dtype),
            config(**settings(case, work, **more)),
            train_dataset=Dataset.from_list(asked),
            processing_class=tokenizer,
            reward_processing_classes=tokenizer,
            peft_config=adapters(case, "CAUSAL_LM"),
        )
    trainer.add_callback(Begins(note))
    trainer.train()
    return {}


def encoded_pairs(case: Case, tokenizer: Any) -> list[dict[str, list[int]]]:
    """Return the pairs as token ids, prompts and answers apart."""
    from train_case import rows_of

    made = []
    for row in rows_of(case):
        sides = [
            encode_dialogue(tokenizer, row.prompt, side or (), max_tokens=case.tokens)
            for side in (row.chosen, row.rejected)
        ]
        start = sides[0].trained.index(True)
        answers = zip(("chosen_ids", "rejected_ids"), (list(one.ids[start:]) for one in sides), strict=True)
        made.append({"prompt_ids": list(sides[0].ids[:start]), **dict(answers)})
    return made


def scorer(work: Path, tokenizer: Any, dtype: torch.dtype) -> Any:
    """Return a pairwise reward model of random weights."""
    return AutoModelForSequenceClassification.from_pretrained(
        work / "model", num_labels=1, pad_token_id=tokenizer.pad_token_id, dtype=dtype, trust_remote_code=False
    )
