#!/usr/bin/env bash
# LoRA against full tuning on the embedded world, whose true reward is known; and what too small a beta does.
# Usage: examples/lora_or_full.sh OUT   (three seeds; a killed run goes on where it was)
set -euo pipefail
out=${1:?output folder}
size="--targets all --sft-batch 16 --sft-epochs 4 --batch 64 --group 4 --max-tokens 96 --max-new-tokens 24"
rates="--reward-rate 2e-3 --policy-rate 3e-3 --full-rate 3"

perl-eval build coffee-world --out "$out/data"
perl-eval ablate --data "$out/data" --out "$out/anchored" --truth world --ranks 1,16 --seeds 3 \
  --steps 100 --beta 0.3 $rates $size
# The same without KL: the learned reward rises further, the true one falls.
perl-eval ablate --data "$out/data" --out "$out/unanchored" --truth world --ranks 16 --seeds 3 --no-full \
  --steps 100 --beta 0 $rates $size
