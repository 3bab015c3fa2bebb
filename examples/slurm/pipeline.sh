#!/bin/bash
# Submit a whole pipeline, each job after the one before; prints the number of the last job.
#
#   examples/slurm/pipeline.sh planetoid:Cora public runs/cora [more of sbatch, e.g. --partition=gpu]
set -eu
source=${1:?name a source, such as planetoid:Cora}
split=${2:?name a split, such as public}
out=${3:?name a folder for the runs}
shift 3
here=$(dirname "$0")
after=""

submit() {  # the artefact that it makes, then the command
    local name=$1
    shift
    after=$(sbatch --parsable --job-name="g2t-$name" --kill-on-invalid-dep=yes \
        ${after:+--dependency=afterok:$after} "${more[@]}" "$here/job.sbatch" "$@")
}

more=("$@")
submit graph g2t import "$source" --out "$out/graph"
submit teacher g2t teach "$out/graph" --split "$split" --out "$out/teacher"
submit cache g2t export-features "$out/teacher" --graph "$out/graph" --out "$out/cache"
submit student g2t distill "$out/cache" --out "$out/student"
submit evaluation g2t eval "$out/student" --graph "$out/graph" --cache "$out/cache" \
    --teacher "$out/teacher" --out "$out/evaluation"
echo "$after"
