#!/usr/bin/env bash
# Memory and speed of training on one GPU in about ten minutes: LoRA and full tuning, ours and TRL's, at the shapes of
# 1 and 7 billion weights (random ones), bfloat16. Each part is printed as it ends and written to OUT as JSON.
#
#   benchmarks/gpu.sh OUT            on a GPU
#   benchmarks/gpu.sh OUT --small    the same calls on the CPU, at a shape of some thousand weights: proof that they run
#
# PYTHON names the interpreter; each part may take LIMIT seconds (240), after which the next one begins.
set -u
out=${1:?give a folder for the figures}
small=${2:-}
python=${PYTHON:-python}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
failed=0

part() { # NAME ARGUMENTS...
  local name=$1
  shift
  echo "== $name: $*"
  if ! timeout "${LIMIT:-240}" "$python" "$here/train.py" "$@" --json "$out/$name.json"; then
    echo "== $name did not end; the others go on"
    failed=$((failed + 1))
  fi
}

if [ "$small" = --small ]; then
  shape=(--size tiny --batch 4 --tokens 32 --new-tokens 8 --steps 1 --repeats 1)
  part 1b "${shape[@]}" --tasks reward rloo --trainers ours trl
  part 7b "${shape[@]}" --dtype bf16 --tasks reward rloo --trainers ours
else
  shape=(--dtype bf16 --batch 16 --tokens 512 --new-tokens 128 --rank 16 --steps 4 --repeats 1)
  part 1b "${shape[@]}" --size 1b --tasks sft reward rloo --trainers ours trl
  part 7b "${shape[@]}" --size 7b --tasks reward rloo --trainers ours
fi
[ $failed = 0 ]
