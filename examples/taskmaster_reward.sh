#!/usr/bin/env bash
# Reward models of real thumbs up and down, Taskmaster Coffee and Ticketing: grouped 5-fold figures of LoRA and of full
# tuning, beside TF-IDF with logistic regression on the same folds. The model is made from nothing on Coffee's dialogues,
# then learns to tell the turns of people from its own; with `sft` as third word it does not. Heads read the mean state
# of the answer and start from logistic regression.
# Usage: examples/taskmaster_reward.sh DATA_DIR OUT [sft]   (DATA_DIR holds TM-4-2024/ and TM-3-2020/reward/)
# A killed run goes on where it was. What is printed is also in OUT/folds-*/estimates.parquet.
set -euo pipefail
data=${1:?folder with TM-4-2024/ and TM-3-2020/} out=${2:?output folder} prior=${3:-told}
here=$(dirname "$0")
export OMP_NUM_THREADS=1

perl-eval build taskmaster-coffee --data-dir "$data" --out "$out/coffee"
perl-eval build taskmaster-ticketing --data-dir "$data" --out "$out/ticketing"
perl-eval train sft --data "$out/coffee/dialogs" --out "$out/sft" \
  --model scratch:small --epochs 2.5 --batch 16 --learning-rate 2e-3 --max-tokens 512 --dtype bf16

if [ "$prior" = told ]; then  # no thumbs are read here
  python "$here/human_or_model.py" turns "$out/coffee/dialogs" "$out/turns"
  perl-eval sample --model "$out/sft" --data "$out/turns" --split train --limit 2600 --out "$out/turns-sampled" \
    --name sft --max-tokens 256 --max-new-tokens 64 --dtype bf16
  python "$here/human_or_model.py" rate "$out/turns" "$out/turns-sampled" "$out/human-or-model"
  perl-eval train reward --full --data "$out/human-or-model" --prior "$out/sft" --out "$out/told" \
    --pooling mean --probe --batch 32 --epochs 2 --learning-rate 5e-4 --max-tokens 160 --evaluations 2 --dtype bf16
fi

# The last weights stay: of these few rows the loss on a tenth is too noisy to choose by. Two models make a reward.
folds() {  # name, longest input, arm, its options
  perl-eval train reward --folds 5 --data "$out/$1/ratings" --prior "$out/$prior" --out "$out/folds-$1-$3-$prior" \
    --pooling mean --probe --dropout 0.1 --batch 32 --epochs 2 --evaluations 0 --members 2 --max-tokens "$2" --dtype bf16 "${@:4}"
}
both() {
  folds "$1" "$2" full --full --learning-rate 3e-4
  folds "$1" "$2" lora --rank 16 --targets all --learning-rate 2e-3
}
both coffee 128 &  # one core each
coffee=$!
both ticketing 96
wait "$coffee"
