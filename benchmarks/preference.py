# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
# (TRL and what it needs are a user's to install; flax adds `replace` to its dataclasses)
"""How fast a composer is tuned and composes, beside TRL's PPO and Hugging Face's generate.

    python -m benchmarks.preference [--trl] [--only composing] [--json FILE]

The peers' model, batch and lengths: 6 layers of 256 units over 512 tokens, 64 melodies of 96 notes, 4 epochs
of one minibatch; a reward model of the same size, and a value that has either a head on the policy's trunk or
a network of its own, as TRL's has. A peer's prompt is 32 tokens, which all of its networks read again in each
pass; ours is a vector. So ours is also timed at 128 notes, of which 96 are counted ("prompt of 32 notes").
`--trl` needs `pip install torch transformers "trl<1.13"` (the last versions with a PPO), runs both in turn,
round after round, and gives the ratio of the medians. Compilation is timed apart.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import measure, operations
from benchmarks.measure import Contest, Job
from benchmarks.operations import ADAM, LEARNING
from mammadai_jax.agents import preference, prompted, reward_model
from mammadai_jax.networks.composer import Composer

TOKENS, WIDTH, LAYERS, HEADS = 512, 256, 6, 8
MELODIES, NOTES, PROMPT, EPOCHS = 64, 96, 32, 4
PROMPTS = {"": NOTES, ", prompt of 32 notes": NOTES + PROMPT}
REWARD_MODEL = reward_model.Config(ensemble_size=1)


def composer_of(steps: int) -> Composer:
    """A Transformer of the peers' size."""
    return Composer(TOKENS, "transformer", WIDTH, LAYERS, HEADS, attention_window=steps, lookback=())


def tuning(steps: int = NOTES, separate: bool = False) -> Contest:
    """An update of PPO, end to end."""
    composer = composer_of(steps)
    config = preference.Config(num_envs=MELODIES, num_steps=steps, num_epochs=EPOCHS, separate_value=separate)
    prompts = {"condition": jax.random.normal(jax.random.key(0), (256, WIDTH))}

    def reward(reward_params, rows, tokens):
        return reward_model.rewards(reward_params, REWARD_MODEL, composer, rows["condition"], tokens).mean(
            axis=0
        )

    def begin(key):
        blank = jnp.zeros((1, 1), jnp.int32)
        params = composer.init(key, blank, blank, prompts["condition"][:1])
        reward_params = reward_model.init(key, REWARD_MODEL, composer, WIDTH, params=params).params
        return preference.init(key, config, composer, params), reward_params

    state, reward_params = jax.jit(begin)(jax.random.key(1))
    params = operations.size(state.params)
    ours = measure.job(
        lambda state, reward_params: preference.step(
            state, config, composer, prompts, reward_fn=reward, reward_params=reward_params
        )[0],
        state,
        reward_params,
        updates=True,
        units=MELODIES * NOTES,
        operations=MELODIES * melody_operations(composer, steps, separate),
        bytes=operations.composing(composer, state.params["policy"], MELODIES, steps)
        + EPOCHS * ADAM * params,
    )
    return Contest(ours, optional={"TRL PPO": peer_tuning})


def melody_operations(composer: Composer, steps: int, separate: bool) -> float:
    """Of a melody in an update: written, judged, read by the reference and, in each epoch, learned from."""
    heads = functools.partial(operations.heads, composer)
    read = functools.partial(operations.read, composer, condition=WIDTH)
    learned = read(steps, head=heads(value=not separate))
    seen = read(steps + 1, head=0.0) + read(steps, head=heads(value=False))
    if separate:
        value = read(steps, head=heads() - heads(value=False))
        learned, seen = learned + value, seen + value
    written = operations.compose(composer, steps, WIDTH, value=not separate)
    return written + seen + EPOCHS * LEARNING * learned


def composing(steps: int = NOTES, melodies: int = MELODIES) -> Contest:
    """A batch of melodies for prompts."""
    composer, blank = composer_of(steps), jnp.zeros((1, 1), jnp.int32)
    condition = jax.random.normal(jax.random.key(0), (melodies, WIDTH))
    params = jax.jit(composer.init)(jax.random.key(1), blank, blank, condition[:1])
    ours = measure.job(
        lambda params, key, condition: prompted.compose(composer, params, key, condition, steps),
        params,
        jax.random.key(2),
        condition,
        units=melodies * NOTES,
        operations=melodies * operations.compose(composer, steps, WIDTH),
        bytes=operations.composing(composer, params, melodies, steps),
    )
    like_the_peers = {"Hugging Face generate": peer_composing} if melodies == MELODIES else {}
    return Contest(ours, optional=like_the_peers)


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


def peer_composing() -> Job:
    """As `composing`, by Hugging Face's generate."""
    import torch

    model, _ = peer_model()
    model.eval()
    prompt = torch.randint(2, TOKENS, (MELODIES, PROMPT))
    lengths = {"max_new_tokens": NOTES, "min_new_tokens": NOTES, "do_sample": True, "top_k": 0}

    def write():
        with torch.no_grad():
            return model.generate(prompt, attention_mask=torch.ones_like(prompt), **lengths)

    return Job(lambda: measure.seconds(write), MELODIES * NOTES)


def peer_tuning() -> Job:
    """As `tuning` with separate networks, by TRL: of two updates the second."""
    import trl.experimental.ppo  # noqa: F401

    return Job(lambda: peer_updates(2)[1], MELODIES * NOTES)


def peer_updates(updates: int) -> list[float]:
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
    reward_net, value = (transformers.GPT2ForSequenceClassification(config) for _ in range(2))
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
            reward_model=reward_net,
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
    parser.add_argument("--only", choices=("PPO", "composing"), help="the one of the two")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    contests: dict[str, Contest] = {}
    for prompt, steps in PROMPTS.items() if args.only != "composing" else ():
        for value, separate in (("shared trunk", False), ("separate networks", True)):
            contests[f"PPO, {value}{prompt}"] = tuning(steps, separate)
    for prompt, steps in PROMPTS.items() if args.only != "PPO" else ():
        contests[f"composing{prompt}"] = composing(steps)
    jobs = {name: contest.ours for name, contest in contests.items()}
    if args.trl:
        peers = {name: peer for contest in contests.values() for name, peer in contest.optional.items()}
        jobs |= {name: peer() for name, peer in peers.items()}
    taken = measure.in_turn({name: job.clock for name, job in jobs.items()}, args.rounds)
    peak = measure.gflops(7)
    print(f"matrix product: {peak:.0f} GFLOP/s")
    found: dict[str, Any] = {"gflops": peak}
    for name, times in taken.items():
        rate = jobs[name].units / float(np.median(times))
        found[name] = {
            "notes_per_second": rate,
            "seconds": times.tolist(),
            "compilation": jobs[name].compiling,
        }
        line = f"{name}: {rate:,.0f} new notes/s"
        if args.trl and name in contests:
            (peer,) = contests[name].optional
            ratio = float(np.median(taken[peer] / times))
            found[name]["ratio"] = ratio
            line += f", {ratio:.2f} x {peer}'s"
        print(line)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
