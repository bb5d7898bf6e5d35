#!/usr/bin/env bash
# The ladder and the comparison of scales on a machine with one graphics card and no network, in ten minutes:
#
#     tools/gpu.sh prepare        # tested parts, corpus, first sheets, compiled kernels (three minutes)
#     tools/gpu.sh measure        # trains, reads, chooses, searches, compares (nine minutes)
#     tools/gpu.sh expert         # trains on with certified answers to half of the real drawings (a minute)
#     tools/gpu.sh --dry-run      # all of it with tiny sizes, also without a graphics card
#
# 15 processes write 440 codes and draw 460 sheets a second there: 100,000 codes take four minutes of the first phase,
# unless they are made beforehand and named with --codes (`prepare` on any machine leaves them in $WORK/codes.jsonl);
# sheets are drawn while the model is trained. Results go to $OUT (data/ladder), what can be used again to $WORK.
# Further flags are those of tools/ladder.py.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
phase=all
case "${1:-}" in prepare | measure | expert | all) phase=$1; shift ;; esac
export PYTHONPATH="$root:$root/tools${PYTHONPATH:+:$PYTHONPATH}" PYTHONSAFEPATH=1
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1 TQDM_DISABLE=1
OUT=${OUT:-$root/data/ladder}
mkdir -p "$OUT"
case " $* " in *" --dry-run "*) fast="--seconds 1" ;; *) fast="--compile --seconds 0" ;; esac
if [ "$phase" = prepare ]; then limit=175; else limit=550; fi
exec "${PYTHON:-python3}" "$root/tools/ladder.py" "$phase" --output "$OUT" --work "${WORK:-$OUT/work}" \
    --limit $limit $fast "$@"
