#!/bin/bash
# Makes configs/quickstart/policy again, in about half an hour on two cores: tasks to demonstrate, a tokenizer and random
# weights, demonstrations in real sandboxes, a first pass over all that was said (the policy has read no code before),
# fine-tuning on the responses, and a little of it on hasty demonstrations, which mostly edit without looking first: the
# habit that training has to unlearn. Give a directory for what comes on the way; a rerun resumes where it stopped.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${1:?usage: configs/quickstart/make_policy.sh WORKING_DIRECTORY}
as_trained=(--set native.prompts=configs/quickstart/prompts --set native.describe_tools=false
    --set renderer.enable_thinking=false --concurrency 12)

mkdir -p "$work/tasks"
ln -sfn "$PWD/tasks/nano/functions" "$work/tasks/functions"
[ -f "$work/tasks/demos.jsonl" ] ||
    swe-aem tasks compose --split demos --out "$work/tasks"
swe-aem rollout --tasks "$work/tasks" --agent demo --limit 200 --out "$work/read" "${as_trained[@]}"
[ -f "$work/tiny/model.safetensors" ] || swe-aem init-tiny-model --from "$work/read" --out "$work/tiny"
as_trained+=(--tokenizer "$work/tiny")
swe-aem rollout --tasks "$work/tasks" --agent demo --out "$work/demos" "${as_trained[@]}"
swe-aem rollout --tasks "$work/tasks" --agent hasty --limit 800 --out "$work/hasty" "${as_trained[@]}"
swe-aem sft --from "$work/demos" --model "$work/tiny" --out "$work/reader" \
    --everything --epochs 0.8 --batch-size 8 --learning-rate 2.5e-3
swe-aem sft --from "$work/demos" --model "$work/reader" --out "$work/able" \
    --epochs 4 --batch-size 8 --learning-rate 1.9e-3
swe-aem sft --from "$work/hasty" --model "$work/able" --out "$work/warm" \
    --epochs 1 --batch-size 8 --learning-rate 5e-4
python - "$work/warm" configs/quickstart/policy <<'END'
import sys

from transformers import AutoModelForCausalLM, AutoTokenizer

AutoModelForCausalLM.from_pretrained(sys.argv[1]).half().save_pretrained(sys.argv[2])
AutoTokenizer.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])
END
