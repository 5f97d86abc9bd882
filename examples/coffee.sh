#!/usr/bin/env bash
# Taskmaster Coffee from end to end, on real thumbs up and down, with a small model made from nothing.
# Usage: examples/coffee.sh DATA_DIR OUT   (DATA_DIR holds TM-4-2024/, as in google-research-datasets/Taskmaster)
set -euo pipefail
data=${1:?folder with TM-4-2024/} out=${2:?output folder}
short="--max-tokens 192 --max-new-tokens 48"

perl-eval build taskmaster-coffee --data-dir "$data" --out "$out/coffee"
perl-eval train sft --data "$out/coffee/dialogs" --out "$out/sft" \
  --model scratch:small --epochs 2 --batch 16 --learning-rate 2e-3 --max-tokens 384
perl-eval train reward --data "$out/coffee/ratings" --prior "$out/sft" --out "$out/reward" \
  --targets all --rank 8 --batch 32 --epochs 2 --learning-rate 2e-3 $short
perl-eval train reward --folds 5 --data "$out/coffee/ratings" --prior "$out/sft" --out "$out/reward-folds" \
  --targets all --rank 8 --batch 32 --epochs 2 --learning-rate 2e-3 $short
perl-eval train policy --data "$out/coffee/ratings" --prior "$out/sft" --reward "$out/reward" --out "$out/rl" \
  --targets all --rank 8 --batch 32 --steps 60 --learning-rate 5e-4 --beta 0.1 $short
perl-eval sample --model "$out/sft" --data "$out/coffee/ratings" --out "$out/sample-sft" --name sft $short
perl-eval sample --model "$out/rl" --data "$out/coffee/ratings" --out "$out/sample-rl" --name rl $short
perl-eval judge "$out/sample-rl" "$out/sample-sft" --out "$out/judge-rl" --judge "reward:$out/reward" --prompt dialogue
perl-eval judge "$out/sample-rl" "$out/sample-sft" --out "$out/judge-length" --judge scripted:length --prompt dialogue
perl-eval score "$out/judge-rl" --out "$out/score-rl"
perl-eval score "$out/judge-length" --out "$out/score-length"
perl-eval recorded --data "$out/coffee/ratings" --out "$out/people"
perl-eval judge "$out/people" --out "$out/judge-people" --judge "reward:$out/reward" --prompt action
perl-eval agree "$out/judge-people" "$out/people" --out "$out/agree"
perl-eval report "$out" --out "$out/report.html" --title "Taskmaster Coffee"
