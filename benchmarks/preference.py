# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
# (TRL and what it needs are a user's to install; flax adds `replace` to its dataclasses)
"""How fast a composer is tuned and composes, beside TRL's PPO and Hugging Face's generate.

    python -m benchmarks.preference [--trl] [--json FILE]

The peers' model, batch and lengths: 6 layers of 256 units over 512 tokens, 64 melodies of 96 notes, 4 epochs
of one minibatch; a reward model of the same size, and a value that has either a head on the policy's trunk or
a network of its own, as TRL's has. A peer's prompt is 32 tokens, which all of its networks read again in each
pass; ours is a vector. So ours is also timed at 128 notes, of which 96 are counted ("prompt of 32 notes").
`--trl` needs `pip install torch transformers "trl<1.16"` (the last versions with a PPO), runs both in turn,
round after round, and gives the ratio of the medians. Compilation is timed apart.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.environment import seconds
from benchmarks.theory import gflops
from mammadai_jax.agents import preference, prompted, reward_model
from mammadai_jax.networks.composer import Composer

TOKENS, WIDTH, LAYERS, HEADS = 512, 256, 6, 8
MELODIES, NOTES, PROMPT, EPOCHS = 64, 96, 32, 4
JUDGE = reward_model.Config(heads=1)


def composer_of(steps: int) -> Composer:
    """A Transformer of the peers' size."""
    return Composer(TOKENS, "transformer", WIDTH, LAYERS, HEADS, context=steps, lookback=())


def tuning(steps: int, separate: bool) -> tuple[Callable[[], Any], float]:
    """A function that makes the next update of PPO, and the seconds of its compilation."""
    composer = composer_of(steps)
    config = preference.Config(melodies=MELODIES, steps=steps, epochs=EPOCHS, separate=separate)
    prompts = {"condition": jax.random.normal(jax.random.key(0), (256, WIDTH))}

    def reward(judge, rows, tokens):
        return reward_model.score(judge, JUDGE, composer, rows["condition"], tokens)[0]

    def begin(key):
        blank = jnp.zeros((1, 1), jnp.int32)
        params = composer.init(key, blank, blank, prompts["condition"][:1])
        judge = reward_model.init(key, JUDGE, composer, WIDTH, params).params
        return preference.init(key, config, composer, params), judge

    state, judge = jax.jit(begin)(jax.random.key(1))
    begun = time.perf_counter()
    step = jax.jit(
        lambda state, judge: preference.step(state, config, composer, prompts, reward, judge)[0],
        donate_argnums=0,
    )
    step = step.lower(state, judge).compile()
    compiling = time.perf_counter() - begun
    held = [state]

    def advance():
        held[0] = step(held[0], judge)
        return held[0]

    return advance, compiling


def composing(steps: int) -> Callable[[], Any]:
    """A function that composes a batch."""
    composer, blank = composer_of(steps), jnp.zeros((1, 1), jnp.int32)
    condition = jax.random.normal(jax.random.key(0), (MELODIES, WIDTH))
    params = jax.jit(composer.init)(jax.random.key(1), blank, blank, condition[:1])
    write = jax.jit(lambda params, key: prompted.compose(composer, params, key, condition, steps))
    return lambda: write(params, jax.random.key(2))


def peer_model() -> Any:
    """Hugging Face's GPT-2 of that size, and the configuration that others like it are made by."""
    import transformers

    config = transformers.GPT2Config(
        vocab_size=TOKENS,
        n_positions=NOTES + PROMPT,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=HEADS,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config), config


def peer_composing() -> Callable[[], Any]:
    """As `composing`, by Hugging Face's generate."""
    import torch

    model, _ = peer_model()
    model.eval()
    prompt = torch.randint(2, TOKENS, (MELODIES, PROMPT))
    lengths = {"max_new_tokens": NOTES, "min_new_tokens": NOTES, "do_sample": True, "top_k": 0}

    def write():
        with torch.no_grad():
            return model.generate(prompt, attention_mask=torch.ones_like(prompt), **lengths)

    return write


def peer_tuning(updates: int) -> list[float]:
    """Seconds of each of some updates of TRL's PPO."""
    import datasets
    import tokenizers
    import torch
    import transformers
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    words = {f"<{i}>": i for i in range(TOKENS)}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<2>")),
        pad_token="<0>",
        eos_token="<1>",
        padding_side="left",
    )
    policy, config = peer_model()
    config.num_labels = 1
    judge, value = (transformers.GPT2ForSequenceClassification(config) for _ in range(2))
    rows = torch.randint(2, TOKENS, (MELODIES * (updates + 1), PROMPT)).tolist()
    ends = [time.perf_counter()]

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, *args, **kwargs):
            ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as out:
        trainer = PPOTrainer(
            args=PPOConfig(
                output_dir=out,
                per_device_train_batch_size=MELODIES,
                gradient_accumulation_steps=1,
                num_mini_batches=1,
                num_ppo_epochs=EPOCHS,
                response_length=NOTES,
                local_rollout_forward_batch_size=MELODIES,
                total_episodes=MELODIES * updates,
                num_sample_generations=0,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
            ),
            processing_class=tokenizer,
            model=policy,
            ref_model=None,
            reward_model=judge,
            value_model=value,
            train_dataset=datasets.Dataset.from_dict({"input_ids": rows}),
            eval_dataset=datasets.Dataset.from_dict({"input_ids": rows[:MELODIES]}),
            callbacks=[Clock()],
        )
        ends[0] = time.perf_counter()
        trainer.train()
    return [after - before for before, after in itertools.pairwise(ends)]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trl", action="store_true", help="run TRL and generate in turn with ours")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    ours: dict[str, Callable[[], Any]] = {}
    compiling: dict[str, float] = {}
    for value, separate in (("shared trunk", False), ("separate networks", True)):
        for prompt, steps in (("", NOTES), (", prompt of 32 notes", NOTES + PROMPT)):
            name = f"PPO, {value}{prompt}"
            ours[name], compiling[name] = tuning(steps, separate)
    ours["composing"], ours["composing, prompt of 32 notes"] = composing(NOTES), composing(NOTES + PROMPT)
    if args.trl:
        ours["Hugging Face generate"] = peer_composing()
    for run in ours.values():
        seconds(run)
    taken: dict[str, list[float]] = {name: [] for name in ours}
    for _ in range(args.rounds):
        for name, run in ours.items():
            taken[name].append(seconds(run))
        if args.trl:
            taken.setdefault("TRL PPO", []).extend(peer_tuning(2)[1:])
    peak = gflops(7)
    print(f"matrix product: {peak:.0f} GFLOP/s")
    found: dict[str, Any] = {"gflops": peak}
    for name, times in taken.items():
        rate = MELODIES * NOTES / statistics.median(times)
        found[name] = {"notes_per_second": rate, "seconds": times, "compilation": compiling.get(name)}
        peer = "TRL PPO" if name.startswith("PPO") else "Hugging Face generate"
        line = f"{name}: {rate:,.0f} new notes/s"
        if args.trl and name != peer and name != "TRL PPO":
            ratio = statistics.median(taken[peer]) / statistics.median(times)
            found[name]["ratio"] = ratio
            line += f", {ratio:.2f} x {peer}'s"
        print(line)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
