#!/usr/bin/env bash
# Reward models of real thumbs up and down, Taskmaster Coffee and Ticketing: grouped 5-fold figures of LoRA and of full
# tuning, beside TF-IDF with logistic regression on the same folds. Heads start from logistic regression.
# Usage: examples/taskmaster_reward.sh DATA_DIR OUT [PRETRAINED]
#   DATA_DIR holds TM-4-2024/ and TM-3-2020/reward/. For Coffee the model is made from nothing on its dialogues.
#   Ticketing has none there, and needs PRETRAINED: the folder of a chat model, such as SmolLM2-135M-Instruct, of which
#   the first four layers are used.
# A killed run goes on where it was. What is printed is also in OUT/folds-*/estimates.parquet.
set -euo pipefail
data=${1:?folder with TM-4-2024/ and TM-3-2020/} out=${2:?output folder} pretrained=${3:-}
here=$(dirname "$0")
export OMP_NUM_THREADS=1

# The last weights stay: of these few rows the loss on a tenth is too noisy to choose by.
folds() {  # data set, prior, arm, its options
  perl-eval train reward --folds 5 --data "$out/$1/ratings" --prior "$out/$2" --out "$out/folds-$1-$2-$3" \
    --probe --dropout 0.1 --batch 32 --evaluations 0 --max-tokens 128 --dtype bf16 "${@:4}"
}
both() {  # data set, prior, learning rate of full tuning, of LoRA, options of both: one core each
  folds "$1" "$2" full --full --learning-rate "$3" "${@:5}" &
  local full=$!
  folds "$1" "$2" lora --rank 16 --targets all --learning-rate "$4" "${@:5}"
  wait "$full"
}

perl-eval build taskmaster-coffee --data-dir "$data" --out "$out/coffee"
perl-eval train sft --data "$out/coffee/dialogs" --out "$out/sft" \
  --model scratch:small --epochs 2.5 --batch 16 --learning-rate 2e-3 --max-tokens 512 --dtype bf16
both coffee sft 3e-4 2e-3 --pooling mean --epochs 2 --members 5 --norms  # five models make a reward

[ -n "$pretrained" ] || exit 0
perl-eval build taskmaster-ticketing --data-dir "$data" --out "$out/ticketing"
[ -f "$out/pretrained/tokenizer.json" ] || python "$here/first_layers.py" "$pretrained" 4 "$out/pretrained"
both ticketing pretrained 2e-5 5e-4 --pooling mean+all --epochs 1
