"""Makes configs/quickstart/policy again: a policy of two million parameters that copies what it reads. No sandboxes.

    python configs/quickstart/make_policy.py --work runs/make-policy --out models/mine

Needs the extra `train`, torch 2.9, 3 GB of memory and half an hour of one core. Three parts:
1. Copying. Tokens by chance, pieces of which are said again, for the attention of the first layers; a minute.
2. Exercises. One line of a function is found and repaired, each time another one (`exercises.py`).
3. Habit. Some exercises more, of which a part edits without looking first: what training has to unlearn; a minute.
The state is kept in --work every hundred updates. Whatever is killed, the same command continues from there, and
the policy is the same as if nothing had happened.
"""

import argparse
import dataclasses
import itertools
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core; read when torch is imported

import torch
from exercises import Conversation, Exercises
from tokenizers import Tokenizer

from swe_aem.policy import QWEN3_CONTROL_TOKENS
from swe_aem.tasks.library import FunctionLibrary
from swe_aem.tasks.load import bundled
from swe_aem.train.tiny_model import PAD, TinyModelConfig, random_model, save_tokenizer, trained_tokenizer

PER_BLOCK = 100
"""Updates between two states that are kept. Each block has exercises of its own, which its number decides."""
BATCH = 8
"""Conversations of an update."""
_SORTED = 8
"""Batches whose conversations are sorted by length together, so that little is padded."""
_FOR_TOKENIZER = 1500
"""Conversations that byte pairs are merged in."""
_READ = 0.15
"""Weight of a token that the policy only reads, where it learns to say 1 of its own."""
_COPYING_LAYERS = 2
_COPIES, _COPY_TOKENS = 24, 96
"""Rows of an update while it learns to copy, and their tokens."""
_WARMUP = 30
"""Updates in which the learning rate rises."""

Batch = tuple[torch.Tensor, torch.Tensor]
"""Token ids, and the weight of each in the loss, both (rows, tokens)."""
Pass = Callable[[torch.Tensor], torch.Tensor]
"""The hidden states of token ids."""


@dataclass(frozen=True)
class Recipe:
    """What decides the policy: updates of each part, the share of hasty exercises in the last, and the seed."""

    copying: int
    exercises: int
    habit: int
    hasty: float
    seed: int


def main() -> None:
    """Make the policy."""
    options = _options()
    recipe = Recipe(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Recipe)})
    if not hasattr(torch.optim, "Muon"):
        sys.exit(f"torch {torch.__version__} has no Muon, which this needs: pip install 'torch>=2.9'")
    torch.set_num_threads(1)
    library = bundled("nano")
    assert library is not None
    exercises = Exercises(FunctionLibrary(library / "functions"))
    work, out = options.work, options.out
    work.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(work / "tokenizer.json", exercises, recipe.seed)
    model = _Maker(recipe, work / "state.pt", tokenizer, exercises).made()
    model.half().save_pretrained(out)
    save_tokenizer(tokenizer, out)
    print(f"{out}: done")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="keeps the state")
    parser.add_argument("--out", type=Path, required=True, help="gets the policy")
    parser.add_argument("--copying", type=int, default=350, help="updates of part 1 (default: %(default)s)")
    parser.add_argument("--exercises", type=int, default=3200, help="updates of part 2 (default: %(default)s)")
    parser.add_argument("--habit", type=int, default=120, help="updates of part 3 (default: %(default)s)")
    parser.add_argument("--hasty", type=float, default=0.5, help="share without a look then (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    return parser.parse_args()


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def _tokenizer(path: Path, exercises: Exercises, seed: int) -> Tokenizer:
    """Byte pairs merged in conversations; kept at `path`."""
    if not path.exists():
        some = itertools.islice(exercises.conversations(f"{seed} tokenizer"), _FOR_TOKENIZER)
        texts = ["".join(text for text, _ in conversation) for conversation in some]
        for control in QWEN3_CONTROL_TOKENS:
            texts = [piece for text in texts for piece in text.split(control) if piece]
        new = path.with_suffix(".new")
        trained_tokenizer(texts, TinyModelConfig().vocabulary).save(str(new))
        new.replace(path)
    return Tokenizer.from_file(str(path))


class _Maker:
    """Trains the policy part after part, and keeps its state."""

    def __init__(self, recipe: Recipe, state: Path, tokenizer: Tokenizer, exercises: Exercises) -> None:
        self._recipe = recipe
        self._path = state
        self._tokenizer = tokenizer
        self._exercises = exercises
        self._pad = tokenizer.token_to_id(PAD)
        self._letters = min(tokenizer.token_to_id(text) or 0 for text in QWEN3_CONTROL_TOKENS)
        """Token ids from here on are control tokens."""
        self._model = random_model(tokenizer, TinyModelConfig(seed=recipe.seed))
        self._model.config.use_cache = False
        self._state: dict[str, Any] = {"recipe": dataclasses.asdict(recipe), "done": {}}
        if state.exists():
            self._state = torch.load(state, weights_only=True)
            if self._state["recipe"] != dataclasses.asdict(recipe):
                sys.exit(f"{state} was begun with {self._state['recipe']}: give the same options, or another --work")
            self._model.load_state_dict(self._state["model"])

    def made(self) -> Any:
        """The policy."""
        recipe, model = self._recipe, self._model
        layers = model.model.layers[:_COPYING_LAYERS]
        embedding = model.model.embed_tokens.weight
        copying = [embedding, model.model.norm.weight]
        for layer in layers:
            copying += [*layer.self_attn.parameters(), layer.input_layernorm.weight]
        every = list(model.parameters())
        self._part("copying", recipe.copying, self._copies, self._first_layers, _muon(copying, embedding), 0.3)
        self._part("exercises", recipe.exercises, self._dealt, self._whole, _muon(every, embedding), 0.5)
        habit = [torch.optim.AdamW(every, lr=4e-4, betas=(0.9, 0.98), weight_decay=0.0)]
        self._part("habit", recipe.habit, self._hasty, self._whole, habit, 1.0)
        return model

    def _part(
        self,
        name: str,
        updates: int,
        batches: Callable[[int], Iterator[Batch]],
        forward: Pass,
        optimizers: Sequence[torch.optim.Optimizer],
        falling: float,
    ) -> None:
        """`updates` updates with the batches of block after block; the learning rate falls over the last share."""
        done = self._state["done"].get(name, 0)
        if 0 < done < updates:
            for optimizer, state in zip(optimizers, self._state["optimizers"], strict=True):
                optimizer.load_state_dict(state)
        start_s, before = time.process_time(), done
        while done < updates:
            losses, right = [], []
            for ids, weights in itertools.islice(batches(done // PER_BLOCK), min(PER_BLOCK, updates - done)):
                loss, correct = _loss(self._model, forward(ids), ids, weights)
                _update(optimizers, loss, min(1, (done + 1) / _WARMUP, (1 - done / updates) / falling))
                losses.append(loss.item())
                right.append(correct)
                done += 1
            self._keep(name, done, optimizers)
            left_min = (time.process_time() - start_s) / (done - before) * (updates - done) / 60
            _say(
                f"{name}: {done} of {updates} updates, loss {sum(losses) / len(losses):.3f}, "
                f"{sum(right) / len(right):.1%} of tokens right, {left_min:.0f} min of processor time left"
            )

    def _keep(self, name: str, done: int, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._state["done"][name] = done
        self._state["model"] = self._model.state_dict()
        self._state["optimizers"] = [optimizer.state_dict() for optimizer in optimizers]
        new = self._path.with_suffix(".new")
        torch.save(self._state, new)
        new.replace(self._path)

    def _whole(self, ids: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self._model.model(input_ids=ids).last_hidden_state

    def _first_layers(self, ids: torch.Tensor) -> torch.Tensor:
        """What the whole model gives while all other parts of it add nothing, as they do at the beginning."""
        model = self._model.model
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model.embed_tokens(ids)
            turns = model.rotary_emb(hidden, torch.arange(ids.shape[1])[None])
            for layer in model.layers[:_COPYING_LAYERS]:
                seen = layer.input_layernorm(hidden)
                hidden = hidden + layer.self_attn(seen, position_embeddings=turns, attention_mask=None)[0]
            return model.norm(hidden)

    def _copies(self, block: int) -> Iterator[Batch]:
        dice = random.Random(f"{self._recipe.seed} copying {block}")
        while True:
            yield self._batch([self._said_again(dice) for _ in range(_COPIES)])

    def _said_again(self, dice: random.Random) -> list[tuple[int, float]]:
        """Tokens by chance, pieces of which are said again; what can be known of those, from the third token on, has
        weight. Of few different tokens or many, so that single ones are met again by chance too."""
        letters = dice.sample(range(self._letters), int(math.exp(dice.uniform(math.log(20), math.log(self._letters)))))
        row = [(token, 0.0) for token in dice.choices(letters, k=dice.randint(10, _COPY_TOKENS // 2))]
        while len(row) < _COPY_TOKENS:
            length = dice.randint(5, 24)
            start = dice.randrange(max(1, len(row) - length))
            piece = [token for token, _ in row[start : start + length]]
            row += [(token, 0.0) for token in dice.choices(letters, k=dice.randint(0, 2))]
            row += [(token, float(number > 1)) for number, token in enumerate(piece)]
        return row[:_COPY_TOKENS]

    def _dealt(self, block: int) -> Iterator[Batch]:
        return self._conversations(f"{self._recipe.seed} exercises {block}", 0.0, _READ)

    def _hasty(self, block: int) -> Iterator[Batch]:
        return self._conversations(f"{self._recipe.seed} habit {block}", self._recipe.hasty, 0.0)

    def _conversations(self, seed: str, hasty: float, read: float) -> Iterator[Batch]:
        """The batches of one block; a token that is only read has the weight `read`."""
        dice = random.Random(seed)
        stream = self._exercises.conversations(seed, hasty)
        rows = [self._encoded(one, read) for one in itertools.islice(stream, PER_BLOCK * BATCH)]
        dice.shuffle(rows)
        batches = []
        for start in range(0, len(rows), BATCH * _SORTED):
            some = sorted(rows[start : start + BATCH * _SORTED], key=len)
            batches += [some[first : first + BATCH] for first in range(0, len(some), BATCH)]
        dice.shuffle(batches)
        return map(self._batch, batches)

    def _encoded(self, conversation: Conversation, read: float) -> list[tuple[int, float]]:
        return [
            (token, 1.0 if said else read)
            for text, said in conversation
            for token in self._tokenizer.encode(text, add_special_tokens=False).ids
        ]

    def _batch(self, rows: Sequence[Sequence[tuple[int, float]]]) -> Batch:
        length = max(map(len, rows))
        padded = [[*row, *[(self._pad, 0.0)] * (length - len(row))] for row in rows]
        ids, weights = ([[cell[part] for cell in row] for row in padded] for part in (0, 1))
        return torch.tensor(ids), torch.tensor(weights)


def _muon(weights: Sequence[torch.nn.Parameter], embedding: torch.nn.Parameter) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of layers, AdamW for the embedding and the norms."""
    matrices = [weight for weight in weights if weight.ndim == 2 and weight is not embedding]
    rest = [weight for weight in weights if weight.ndim != 2 or weight is embedding]
    return [
        torch.optim.Muon(matrices, lr=0.02, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(rest, lr=3e-3, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _loss(model: Any, hidden: torch.Tensor, ids: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, float]:
    """The weighted mean of the loss, and the share of the tokens with weight 1 that the model would say."""
    weights, targets = weights[:, 1:], ids[:, 1:]
    kept = weights > 0
    logits = hidden[:, :-1][kept].float() @ model.lm_head.weight.T
    targets, weights = targets[kept], weights[kept]
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    right = (logits.argmax(-1) == targets)[weights == 1].float().mean()
    return (losses * weights).sum() / weights.sum(), right.item()


def _update(optimizers: Sequence[torch.optim.Optimizer], loss: torch.Tensor, factor: float) -> None:
    """One update with `factor` of each learning rate."""
    loss.backward()
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if isinstance(optimizer, torch.optim.AdamW):  # Muon's updates have the same length whatever the gradients
                torch.nn.utils.clip_grad_norm_(group["params"], 1.0)
            group.setdefault("full_lr", group["lr"])
            group["lr"] = group["full_lr"] * factor
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


if __name__ == "__main__":
    main()
