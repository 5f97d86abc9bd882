#!/usr/bin/env bash
# LoRA against full tuning on the embedded world, whose true reward is known; and what too small a beta does.
# Usage: examples/lora_or_full.sh OUT   (about three quarters of an hour; a killed run goes on where it was)
set -euo pipefail
out=${1:?output folder}
size="--targets all --sft-batch 16 --sft-epochs 4 --batch 32 --group 4 --max-tokens 96 --max-new-tokens 24"
rates="--reward-rate 2e-3 --policy-rate 3e-3 --full-rate 3"
each="--truth world --ranks 16 --own-reward --prompts 200"

perl-eval build coffee-world --out "$out/data"
# Too small a beta: the learned reward rises further, the true one falls. $out/sweep/overoptimisation.svg shows it.
perl-eval ablate --data "$out/data" --out "$out/sweep" $each --no-full \
  --seeds 5 --steps 300 --betas 0.3,0 $rates $size
# LoRA beside full, each at the best of three learning rates, chosen on a fourth seed; then LoRA that learns norms too.
arms="--seeds 3 --steps 120 --tried 0.33,1,3 --beta 0.3"
perl-eval ablate --data "$out/data" --out "$out/arms" $each $arms $rates $size
perl-eval ablate --data "$out/data" --out "$out/arms-norms" --norms $each $arms $rates $size
