"""One step of RL on pictures, with a frozen tower's features kept and without: ``python benchmarks/pictures.py``.

Random weights in the shape of SmolVLM-256M: a SigLIP tower of 12 layers, 768 wide, on pictures of ``--side`` pixels in
patches of 16, and a Llama of 30 layers, 576 wide. Policy and value head are LoRA on it, the reward is a rule. Seconds
are of whole steps, in turn, on the same samples; the first step of each is left out.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from unittest import mock

import torch

from perl_eval.models import vision
from perl_eval.models.backbone import Backbone
from perl_eval.models.device import Placement
from perl_eval.models.from_scratch import make_tokenizer
from perl_eval.sources import rows
from perl_eval.training import rules
from perl_eval.training.reinforce import PolicyOptions, PolicyTrainer, cast
from perl_eval.worlds import pictures

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{% for p in m.content %}{% if p.type == 'image' %}<image>"
    "{% else %}{{ p.text }}{% endif %}{% endfor %}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def model(given: argparse.Namespace, folder: Path) -> Backbone:
    """Make the model."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor, LlamaConfig
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    tokenizer = make_tokenizer(["what colour is on the left right", *pictures.COLOURS] * 9, 300)
    marks = ["<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"]
    tokenizer.add_special_tokens({"extra_special_tokens": [*tokenizer.extra_special_tokens, *marks]})
    side = {"longest_edge": given.side}
    sight = Idefics3ImageProcessorPil(size=side, max_image_size=side, do_image_splitting=False)
    pieces = (given.side // 16 // 4) ** 2
    processor = Idefics3Processor(sight, tokenizer, image_seq_len=pieces, chat_template=TEMPLATE)
    tower = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    text = LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=49280,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    config = Idefics3Config(
        vision_config={**tower, "image_size": given.side, "patch_size": 16},
        text_config=text,
        image_token_id=processor.image_token_id,
        scale_factor=4,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    placement = Placement(given.device, "bf16" if given.dtype == "bf16" else "fp32")
    return Backbone(Idefics3ForConditionalGeneration(config), processor, folder, placement)


def main() -> None:
    """Measure and print one line a way, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=512, help="of a picture, in pixels")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--group", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2, help="measured of each")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="fp32")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = pictures.build(Path(folder) / "data", questions=64, ratings=1) / "questions"
        backbone = model(given, Path(folder))
        options = PolicyOptions(batch=given.batch, group=given.group, max_new_tokens=8, max_tokens=2048)
        found = rows.read(data, "train")
        trainer = PolicyTrainer(cast(backbone, options, seed=0), found, rules.vqa, options, seed=0)
        seconds: dict[str, list[float]] = {"pixels": [], "kept": []}
        for step in range(given.steps + 1):
            for way, taken in seconds.items():
                backbone.processor._features.forget()
                keeps = vision.can_keep if way == "kept" else lambda _: False
                with mock.patch.object(vision, "can_keep", keeps):
                    begun = time.perf_counter()
                    figures = trainer.learn(step)
                taken.append(time.perf_counter() - begun)
                print(f"{way}: step {step}, {taken[-1]:.2f} s, loss {figures['policy loss']:.4f}", flush=True)
    middle = {way: median(taken[1:]) for way, taken in seconds.items()}
    print(json.dumps({**middle, "ratio": middle["pixels"] / middle["kept"], "n": given.steps}))


if __name__ == "__main__":
    main()
