#!/usr/bin/env bash
# Reward models of real thumbs up and down, Taskmaster Coffee and Ticketing: grouped 5-fold figures of LoRA and of full
# tuning, beside TF-IDF with logistic regression on the same folds. The model is made from nothing on Coffee's dialogues.
# Usage: examples/taskmaster_reward.sh DATA_DIR OUT   (DATA_DIR holds TM-4-2024/ and TM-3-2020/reward/)
# A killed run goes on where it was. What is printed is also in OUT/folds-*/estimates.parquet.
set -euo pipefail
data=${1:?folder with TM-4-2024/ and TM-3-2020/} out=${2:?output folder}
export OMP_NUM_THREADS=1

perl-eval build taskmaster-coffee --data-dir "$data" --out "$out/coffee"
perl-eval build taskmaster-ticketing --data-dir "$data" --out "$out/ticketing"
perl-eval train sft --data "$out/coffee/dialogs" --out "$out/sft" \
  --model scratch:small --epochs 2.5 --batch 16 --learning-rate 2e-3 --max-tokens 512 --dtype bf16

# The last weights stay (one evaluation, at the end): of these few rows the loss on a tenth is too noisy to choose by.
folds() {  # name, longest input, arm, its options
  perl-eval train reward --folds 5 --data "$out/$1/ratings" --prior "$out/sft" --out "$out/folds-$1-$3" \
    --batch 32 --epochs 1.5 --evaluations 1 --max-tokens "$2" --dtype bf16 "${@:4}"
}
both() {
  folds "$1" "$2" full --full --learning-rate 3e-4 --dropout 0.1
  folds "$1" "$2" lora --rank 16 --targets all --learning-rate 3e-3
}
both coffee 128 &  # one core each
coffee=$!
both ticketing 96
wait "$coffee"
