#!/usr/bin/env bash
# Memory and speed of training on one GPU in about ten minutes: LoRA and full tuning, ours and TRL's, at the shapes of
# 1 and 7 billion weights (random ones), bfloat16. Every part is printed as it ends, and what is measured is in OUT as JSON
# after each case. All weights of 7 billion take 16 bytes each and more: no full tuning there, but 4 bits (nf4) where
# bitsandbytes is installed.
#
#   benchmarks/gpu.sh OUT            on a GPU
#   benchmarks/gpu.sh OUT --small    the same calls on the CPU, at a shape of some thousand weights: proof that they run
#
# SHAPES names the shapes ("1b 7b"), TASKS the tasks ("reward dpo rloo"), PYTHON the interpreter, BUDGET the seconds of each
# shape (290): cases that have not begun then are listed as such.
set -u
out=${1:?give a folder for the figures}
small=${2:-}
python=${PYTHON:-python}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out" || exit 1
failed=0
tasks=${TASKS:-reward dpo rloo}

part() { # NAME ARGUMENTS...
  local name=$1
  shift
  echo "== $name: $*"
  if ! "$python" "$here/train.py" "$@" --tasks $tasks --budget "${BUDGET:-290}" --json "$out/$name.json"; then
    echo "== $name did not end; the others go on"
    failed=$((failed + 1))
  fi
}

packed=() # 4 bits, where they can be had
"$python" -c 'import bitsandbytes' 2>/dev/null && packed=(nf4)
for shape in ${SHAPES:-1b 7b}; do
  size=(--size "$shape" --dtype bf16 --batch 16 --tokens 512 --new-tokens 128 --rank 16 --steps 4 --repeats 1)
  [ "$small" = --small ] && size=(--size tiny --dtype bf16 --batch 4 --tokens 32 --new-tokens 8 --steps 1 --repeats 1)
  case $shape in
    1b) part 1b "${size[@]}" --arms lora full ;;
    7b) part 7b "${size[@]}" --arms lora "${packed[@]}" ;;
    *) part "$shape" "${size[@]}" --arms lora full ;;
  esac
done
[ $failed = 0 ]
