#!/bin/bash
# Seconds from the first sbatch to finished scores, on a cluster of this one machine.
#
#   tests/slurm/time_pipeline.sh planetoid:Cora public     # as root, with g2t in the PATH
set -eu
tests=$(dirname "$(realpath "$0")")
folder=$(mktemp -d)
trap '"$tests/cluster.sh" stop "$folder"' EXIT
"$tests/cluster.sh" start "$folder"
export SLURM_CONF="$folder/slurm.conf"
cd "$folder"
start=$(date +%s)
last=$("$tests/../../examples/slurm/pipeline.sh" "$1" "$2" runs)
while squeue --noheader | grep -q .; do
    sleep 0.5
done
if [ ! -e runs/evaluation/run.json ]; then
    echo "job $last made no scores: $folder" >&2
    exit 1
fi
echo "$(($(date +%s) - start)) s from sbatch to scores, of which the stages say that they took:"
for stage in graph teacher cache student evaluation; do
    jq -r --arg stage "$stage" '"\($stage) \(.timings.seconds) s"' "runs/$stage/run.json"
done
