# What a job sets before it starts Ray on its hosts; rollout.slurm and train.slurm read this file.
# shellcheck shell=bash
#
# LOCAL: a directory on a disk of each host, at the same path on all; Ray's sockets lie below it, so it must be short.
LOCAL=${LOCAL:-/tmp}
export RAY_TMPDIR=$LOCAL/ray-$SLURM_JOB_ID RAY_worker_niceness=0
export SWE_AEM_CACHE=${SWE_AEM_CACHE:-$LOCAL/swe-aem-$(id -un)}

# Whoever has the token may run code on all hosts: a file that only its owner reads, on storage that all hosts see.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}
umask 077
mkdir -p "$RAY_TMPDIR" "$(dirname "$RAY_AUTH_TOKEN_PATH")"
[[ -s $RAY_AUTH_TOKEN_PATH ]] || od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n' >"$RAY_AUTH_TOKEN_PATH"
chmod 600 "$RAY_AUTH_TOKEN_PATH"

ulimit -n "$(ulimit -Hn)"
# shellcheck disable=SC2034 # whoever reads this file uses it
ray_options=(--disable-usage-stats --object-store-memory=1000000000) # only finished trajectories cross Ray
