#!/bin/bash
# Makes the environment with vLLM for NVIDIA GPUs, as uv.lock has it, and prints its directory. `swe-aem serve` and
# `swe-aem train --launch` find it there. Needs uv and about 10 GB.
#
#     serving/vllm-gpu/install.sh [DIRECTORY]     # default: ~/.cache/swe-aem/vllm-gpu
set -euo pipefail
cd "$(dirname "$0")"
directory=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/swe-aem/vllm-gpu}
UV_PROJECT_ENVIRONMENT=$directory uv sync --frozen >&2
echo "$directory"
