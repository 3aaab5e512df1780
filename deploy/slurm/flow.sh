#!/usr/bin/env bash
# What a worker of worker.sh runs in place of a flow: a job that runs it, until that has ended. The
# arguments are options of sbatch. Cancelling the run drains the job.

set -euo pipefail

# They lead to the worker's own machine, and mean nothing on another.
unset PREFECT__CONTROL_PORT PREFECT__CONTROL_TOKEN

ENDED="^(COMPLETED|FAILED|CANCELLED|TIMEOUT|NODE_FAIL|OUT_OF_MEMORY|DEADLINE|BOOT_FAIL|GONE)$"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
log=$HOME/finitewidth-%j.log
job=$(sbatch --parsable --chdir="$HOME" --output="$log" "$@" "$here/campaign.sbatch")
job=${job%%;*}
echo "job $job, which logs to ${log/\%j/$job}"

cancel() {
  scancel --batch --signal=TERM "$job" 2>/dev/null || true
  scancel --state=PENDING "$job" 2>/dev/null || true
}
trap cancel TERM INT

# GONE where Slurm has forgotten the job; nothing while it does not answer, as in a restart.
state() {
  local answer
  if answer=$(scontrol --oneliner show job "$job" 2>&1); then
    sed -n 's/.*JobState=\([A-Z_]*\).*/\1/p' <<<"$answer"
  elif [[ $answer == *"Invalid job id"* ]]; then
    echo GONE
  fi
}

while now=$(state) && [[ ! $now =~ $ENDED ]]; do
  sleep 5 &
  wait $! || true
done
echo "job $job ended as $now"
[ "$now" = COMPLETED ]
