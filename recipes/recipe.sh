# What all recipes share; sourced by each. Not a recipe.
#
#   recipes/NAME.sh DATA OUT
#
# DATA         folder of the data sets, each under its name in data_manifests/: DATA/imagenet, DATA/davis2017, ...
# OUT          folder of the results; the same line again goes on where it stopped
# GPUS=8       processes for the commands that can share their work
# ROWS="2 5"   only these rows of the table, by the names that results stand under
# SMOKE=1      the same steps on miniatures of the data, which are made into DATA, and with tiny networks: minutes
# DRY_RUN=1    prints the commands in place of running them
# DINOTOOLS_PYTHON=/env/bin/python   the installation to use; default: the `dinotools` that is found first
#
# A recipe begins with a header, which `dinotools recipes list` and `show` read: its title, an empty comment, and
# "# Key   text" for Expected, Tolerance, Data, Hardware and Time, perhaps Source and Notes; further lines of a text are
# indented. Then it says, with the functions below, what to run, and ends with `report`.
# shellcheck shell=bash
set -euo pipefail
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  echo "recipes need bash 4.4 or later, and this is $BASH_VERSION; on a Mac, Homebrew has one." >&2
  exit 2
fi
: "${SMOKE:=}" "${DRY_RUN:=}" "${GPUS:=1}" "${ROWS:=}" "${DINOTOOLS_PYTHON:=}"
recipe=$(basename "$0" .sh)
# shellcheck disable=SC2034 # for the TOML files beside the recipes
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
data=${1:?"usage: $0 DATA OUT"}
out=${2:?"usage: $0 DATA OUT"}
rows=() # all that the recipe has, as far as it has been asked

# A signal reaches the command as well, which may save its work: its exit code is ours, and nothing follows it.
trap 'code=$?; exit $((code ? code : 130))' INT
trap 'code=$?; exit $((code ? code : 143))' TERM

if [ -n "$DRY_RUN" ]; then
  dinotools() {
    local word
    printf 'dinotools'
    for word; do
      if [[ $word =~ ^[A-Za-z0-9_%+=:,./-]+$ ]]; then printf ' %s' "$word"; else printf ' %q' "$word"; fi
    done
    printf '\n'
  }
elif [ -n "$DINOTOOLS_PYTHON" ]; then
  dinotools() {
    "$DINOTOOLS_PYTHON" -m dinotools "$@"
  }
fi

# need NAME...: the data sets of the recipe
need() {
  local name
  for name; do
    if [ -e "$data/$name" ]; then
      if [ -z "$SMOKE" ] && grep -qs '^A miniature for trying' "$data/$name/README.txt"; then
        echo "$data/$name is a miniature, of a SMOKE run: give another DATA." >&2
        exit 2
      fi
      continue
    fi
    if [ -n "$SMOKE" ]; then
      dinotools data sample "$name" --to "$data/$name"
    elif [ -z "$DRY_RUN" ]; then
      echo "$data/$name is not there; 'dinotools data info $name' says where it comes from." >&2
      exit 2
    fi
  done
}

# there NAME: whether a data set that the recipe can do without is there; in SMOKE it is made, in DRY_RUN assumed
there() {
  if [ -n "$SMOKE" ]; then need "$1"; fi
  if [ -n "$DRY_RUN" ] || [ -e "$data/$1" ]; then return; fi
  echo "$data/$1 is not there, and what needs it is left out." >&2
  return 1
}

# wanted ROW: whether it is among ROWS
wanted() {
  rows+=("$1")
  [ -z "$ROWS" ] || [[ " $ROWS " == *" $1 "* ]]
}

# released NETWORK: the --ckpt of a network that the authors released; in SMOKE, the small one that ships with dinotools
released() {
  if [ -n "$SMOKE" ]; then echo dino_micro_cifar10; else echo "$1"; fi
}

# done_before FOLDER: whether it holds results
done_before() {
  if [ -z "$DRY_RUN" ] && [ -f "$1/results.json" ]; then
    echo "$1: done before"
  else
    return 1
  fi
}

# measure FOLDER COMMAND [OPTIONS...]: its results go to OUT/FOLDER; skipped once they are there
measure() {
  local folder=$out/$1
  shift
  if done_before "$folder"; then return; fi
  dinotools "$@" --out "$folder" --overwrite
}

# train FOLDER COMMAND [OPTIONS...]: `pretrain`, `finetune` or another that goes on with --resume
train() {
  local folder=$out/$1
  shift
  if done_before "$folder"; then return; fi
  dinotools "$@" --out "$folder" --resume
}

# again FOLDER COMMAND [OPTIONS...]: `davis` or another that goes on by itself when it is repeated
again() {
  local folder=$out/$1
  shift
  if done_before "$folder"; then return; fi
  dinotools "$@" --out "$folder"
}

# in_smoke ROW...: what SMOKE=1 does unless ROWS says otherwise
in_smoke() {
  if [ -n "$SMOKE" ] && [ -z "$ROWS" ]; then
    ROWS=$*
    echo "SMOKE=1: only the rows $ROWS of $recipe; ROWS chooses others." >&2
  fi
}

# What SMOKE=1 adds to a pre-training and to its measures: the file wins over a preset, and flags, which stand last,
# over those of a row.
smoke_run=() smoke_images=() smoke_linear=() smoke_throughput=()
if [ -n "$SMOKE" ]; then
  smoke_run=(--config "$here/smoke/pretrain.toml" --epochs 1 --batch-size 16 --out-dim 64)
  smoke_images=(--resize-size 36 --crop-size 32)
  smoke_linear=("${smoke_images[@]}" --epochs 2 --train-batch-size 16)
  smoke_throughput=(--size 32 --batch-size 8 --seconds 1)
fi

# ablation ROW [OPTIONS of dinotools pretrain...]: the run of a row, left in OUT/runs, and its measures, OUT/measured.
# Rows of any recipe that have the same options are one run: the first that comes trains and measures it, the others
# find that there, and the results stand for all of them (same_as in dinotools/reporting/paper).
ablation() {
  local row=$1 run as=()
  shift
  wanted "$row" || return 0
  if ((${#measures[@]})); then as=(--paper-row "$recipe/$row"); fi # or it has curves to show, and no number
  run=${*//--/}
  run=${run#preset }
  run=${run// /_} # such as boosted-300_loss_mse
  train "runs/$run" pretrain "$@" "${smoke_run[@]}" --data "$data/imagenet" --gpus "$GPUS" "${as[@]}"
  evaluate "$row" "$out/runs/$run" "measured/$run"
}

# evaluate ROW CKPT [FOLDER]: the measures of a row, on ImageNet: those of knn, linear and throughput that the recipe
# has chosen. FOLDER, in OUT, is the row's own unless it says otherwise
measures=()
evaluate() {
  local row=$recipe/$1 ckpt=$2 folder=${3:-$recipe/$1} name
  local where=(--ckpt "$ckpt" --data "$data/imagenet" --paper-row "$row")
  for name in "${measures[@]}"; do
    case $name in
      knn) measure "$folder/knn" knn "${where[@]}" --cache "$out/features" --gpus "$GPUS" "${smoke_images[@]}" ;;
      linear) train "$folder/linear" linear "${where[@]}" "${smoke_linear[@]}" ;;
      throughput)
        measure "$folder/throughput" models throughput --ckpt "$ckpt" --paper-row "$row" "${smoke_throughput[@]}"
        ;;
    esac
  done
}

# report: the last line of a recipe. Refuses ROWS that there are not, and sets all results in OUT beside the paper's
report() {
  local row
  for row in $ROWS; do
    if [[ " ${rows[*]} " != *" $row "* ]]; then
      echo "ROWS: $recipe has no row $row; it has ${rows[*]}" >&2
      exit 2
    fi
  done
  dinotools report "$out" --out "$out/report"
}
