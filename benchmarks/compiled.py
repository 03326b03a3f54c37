"""Passes of a model with compiled layers (`compile: layers`) beside eager ones: seconds and their ratio.

    uv run --all-extras python benchmarks/compiled.py [--hidden-size 128] [--layers 4] [--rows 40] [--json FILE]

A Qwen3 of random weights, on the CPU and one thread, is trained on rows of random lengths: each row is scored, and
passed forward and backward, by the eager and by the compiled model in turn. Seconds are those of the processor, so that
other work on the host does not count. The first two rows, at which layers are compiled, are left out.
"""

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import torch

from swe_aem.testing.steps import VOCABULARY, tiny_model
from swe_aem.train.compiled_layers import Compilations, compile_layers

FIRST = 2


def main() -> None:
    """Measure and report."""
    options = _options()
    torch.set_num_threads(1)
    shape = {
        "hidden_size": options.hidden_size,
        "intermediate_size": 3 * options.hidden_size,
        "num_hidden_layers": options.layers,
        "head_dim": 32,
        "num_attention_heads": options.hidden_size // 32,
        "num_key_value_heads": options.hidden_size // 64,
        "max_position_embeddings": 1024,
    }
    eager, compiled = (tiny_model(sharpness=1.0, **shape).train() for _ in range(2))
    compilations = Compilations()
    compile_layers(compiled)
    dice = random.Random(0)
    spent: dict[str, list[float]] = {"eager": [], "compiled": []}
    for _ in range(options.rows + FIRST):
        ids = torch.tensor([[dice.randrange(2, VOCABULARY) for _ in range(dice.randint(100, 300))]])
        for name, model in (("eager", eager), ("compiled", compiled)):
            spent[name].append(_pass_s(model, ids))
    timed = {name: sum(seconds[FIRST:]) / options.rows for name, seconds in spent.items()}
    found = {
        **{f"{name}_s": seconds for name, seconds in timed.items()},
        "ratio": timed["compiled"] / timed["eager"],
        **compilations.figures(),
    }
    print(
        f"a row: eager {timed['eager']:.4f} s, compiled {timed['compiled']:.4f} s, ratio {found['ratio']:.2f}; "
        f"{found['compile/graphs']:.0f} graphs, compiled in {found['compile/s']:.0f} s"
    )
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden-size", type=int, default=128, help="a multiple of 64 (default: 128)")
    parser.add_argument("--layers", type=int, default=4, help="layers (default: 4)")
    parser.add_argument("--rows", type=int, default=40, help="rows that are timed (default: 40)")
    parser.add_argument("--json", type=Path, help="file for all figures")
    return parser.parse_args()


def _pass_s(model: Any, ids: Any) -> float:
    """Seconds of the processor for scoring a row and training on it."""
    began_s = time.process_time()
    with torch.no_grad():
        model(input_ids=ids, use_cache=False)
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    logits.log_softmax(-1).gather(2, ids[:, 1:, None]).mean().backward()
    return time.process_time() - began_s


if __name__ == "__main__":
    main()
