#!/usr/bin/env bash
# A Prefect worker on a login node: what is submitted to its pool runs as jobs of Slurm.
#
#   export PREFECT_API_URL=http://HOST:4200/api PREFECT_API_AUTH_STRING=...
#   deploy/slurm/worker.sh POOL --nodes=4 --cpus-per-task=32 --gres=gpu:4 [OPTION of sbatch ...]
#   finitewidth submit SPEC --pool POOL --address auto --store /a/place/that/all/nodes/see
#
# It needs little, and outlives its shell under `tmux`, `nohup` or `systemd-run --user`. Nodes must
# reach the server; a job that ends before its time goes back to the queue, and its run goes on.

set -euo pipefail

pool=${1:?usage: worker.sh POOL [OPTION of sbatch ...]}
shift
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

finitewidth deploy --pool "$pool"
template=$(mktemp)
trap 'rm -f "$template"' EXIT
python - bash "$here/flow.sh" "$@" >"$template" <<'PYTHON'
import json, shlex, sys

from prefect.workers.process import ProcessWorker

template = ProcessWorker.get_default_base_job_template()
template["variables"]["properties"]["command"]["default"] = shlex.join(sys.argv[1:])
print(json.dumps(template))
PYTHON
prefect work-pool update "$pool" --base-job-template "$template"
exec prefect worker start --pool "$pool" --type process
