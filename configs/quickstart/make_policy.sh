#!/bin/bash
# Makes configs/quickstart/policy anew, in about 15 minutes on two cores: tasks to demonstrate, a tokenizer and random
# weights, demonstrations in real sandboxes, a first pass over all that was said (the policy has read no code before),
# and fine-tuning on the responses. Give a directory for what comes on the way; a rerun goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${1:?usage: configs/quickstart/make_policy.sh WORKING_DIRECTORY}
as_trained=(--set native.prompts=configs/quickstart/prompts --set native.describe_tools=false
    --set renderer.enable_thinking=false --concurrency 12)

mkdir -p "$work/tasks"
ln -sfn "$PWD/tasks/nano/functions" "$work/tasks/functions"
[ -f "$work/tasks/demos.jsonl" ] ||
    swe-aem tasks compose --train 0 --heldout 0 --demos 1600 --out "$work/tasks"
swe-aem rollout --tasks "$work/tasks" --agent demo --limit 200 --out "$work/read" "${as_trained[@]}"
[ -f "$work/seedling/model.safetensors" ] || swe-aem seedling --from "$work/read" --out "$work/seedling"
swe-aem rollout --tasks "$work/tasks" --agent demo --tokenizer "$work/seedling" --out "$work/demos" "${as_trained[@]}"
swe-aem sft --from "$work/demos" --model "$work/seedling" --out "$work/reader" \
    --everything --epochs 2 --batch-size 16 --learning-rate 2e-3
swe-aem sft --from "$work/demos" --model "$work/reader" --out "$work/warm" \
    --epochs 5 --batch-size 16 --learning-rate 1.5e-3
python - "$work/warm" configs/quickstart/policy <<'END'
import sys

from transformers import AutoModelForCausalLM, AutoTokenizer

AutoModelForCausalLM.from_pretrained(sys.argv[1]).half().save_pretrained(sys.argv[2])
AutoTokenizer.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])
END
