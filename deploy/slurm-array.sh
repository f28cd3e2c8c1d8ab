#!/bin/bash
# One worker of a study in each task of an array, on as many nodes as Slurm gives:
#   STUDY=digits.toml CAVIAR_STORAGE=postgresql+psycopg://caviar@db/caviar MLFLOW_TRACKING_URI=http://mlflow:5000 \
#     CAVIAR_HOME=/shared/caviar sbatch --array=1-16 deploy/slurm-array.sh
# The first task to start creates the study, and the others join it. Start more at any time with a second array.
# CAVIAR_HOME must be a directory that all nodes share. The database's password is in ~/.pgpass or PGPASSWORD.
#SBATCH --job-name=caviar
#SBATCH --array=1-4
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=caviar-%A_%a.log
#SBATCH --signal=B:TERM@120
# For a GPU in each task: sbatch --gpus-per-task=1 …
set -euo pipefail
: "${STUDY:?Name the study file: STUDY=digits.toml}"
: "${CAVIAR_STORAGE:?Name the PostgreSQL database: CAVIAR_STORAGE=postgresql+psycopg://user@host/database}"
: "${MLFLOW_TRACKING_URI:?Name the MLflow server: MLFLOW_TRACKING_URI=http://host:5000}"
: "${CAVIAR_HOME:?Name a directory that all nodes share: CAVIAR_HOME=/shared/caviar}"
export CAVIAR_STORAGE MLFLOW_TRACKING_URI CAVIAR_HOME MLFLOW_DISABLE_TELEMETRY=true

# Two minutes before the time limit, Slurm sends TERM to this script alone. The worker then hands its trials back.
worker= asked=
trap 'asked=1; [ -z "$worker" ] || kill -TERM "$worker" 2>/dev/null || true' TERM
caviar run "$STUDY" --workers 1 &
worker=$!
[ -z "$asked" ] || kill -TERM "$worker" 2>/dev/null || true # it came before the worker had a number
status=0
wait "$worker" || status=$?
while kill -0 "$worker" 2>/dev/null; do # the trap ended the wait, not the worker
  status=0
  wait "$worker" || status=$?
done

if [ "$status" -eq 130 ] || [ "$status" -eq 143 ]; then # asked to leave, so there is more to do
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
  exit 0
fi
exit "$status"
