"""A small random BERT in a folder, as sentence encoders are published, and what it says in plain NumPy."""

import json
import math

import numpy as np

from mammadai_jax.networks.bert import Config
from mammadai_jax.text.sentences import CONFIG, TOKENIZER, WEIGHTS

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, "a", "calm", "busy", "slow", "tune", "in", "minor", "music", "##ly", ",", "?"]
SIZES = Config(
    vocab_size=len(WORDS),
    max_length=32,
    num_types=2,
    width=12,
    num_layers=2,
    num_heads=3,
    inner_width=20,
    epsilon=1e-12,
)
ABOUT = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "vocab_size": SIZES.vocab_size,
    "max_position_embeddings": SIZES.max_length,
    "type_vocab_size": SIZES.num_types,
    "hidden_size": SIZES.width,
    "num_hidden_layers": SIZES.num_layers,
    "num_attention_heads": SIZES.num_heads,
    "intermediate_size": SIZES.inner_width,
    "layer_norm_eps": SIZES.epsilon,
}


def tensors(seed=0):
    """Random numbers under the published names; those of the head that sentence encoders do not need, too."""
    random = np.random.default_rng(seed)
    shapes = SIZES.shapes | {"pooler.dense.weight": (SIZES.width, SIZES.width)}
    return {name: random.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}


def write(folder, seed=0):
    """A folder with the three files -> the folder."""
    from safetensors.numpy import save_file
    from tokenizers import BertWordPieceTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors(seed), folder / WEIGHTS)
    tokenizer = BertWordPieceTokenizer({word: number for number, word in enumerate(WORDS)})
    tokenizer.enable_padding(length=24)  # as published ones do, which is not to be minded
    tokenizer.enable_truncation(8)
    tokenizer.save(str(folder / TOKENIZER))
    (folder / CONFIG).write_text(json.dumps(ABOUT))
    return folder


def sentence(tensors, ids):
    """The vector of a text's token ids, in float64."""
    at = lambda name: tensors[name].astype(np.float64)
    linear = lambda rows, place: rows @ at(f"{place}.weight").T + at(f"{place}.bias")

    def norm(rows, place):
        deviation = np.sqrt(rows.var(axis=1, keepdims=True) + SIZES.epsilon)
        scaled = (rows - rows.mean(axis=1, keepdims=True)) / deviation
        return scaled * at(f"{place}.weight") + at(f"{place}.bias")

    def attention(rows, place):
        size = SIZES.width // SIZES.num_heads
        heads = []
        for head in range(SIZES.num_heads):
            query, key, value = (
                linear(rows, f"{place}.self.{name}")[:, head * size : (head + 1) * size]
                for name in ("query", "key", "value")
            )
            weights = np.exp(query @ key.T / math.sqrt(size))
            heads.append(weights / weights.sum(axis=1, keepdims=True) @ value)
        return linear(np.concatenate(heads, axis=1), f"{place}.output.dense")

    tables = ("word_embeddings", "position_embeddings", "token_type_embeddings")
    word, position, kind = (at(f"embeddings.{name}.weight") for name in tables)
    rows = norm(word[ids] + position[: len(ids)] + kind[0], "embeddings.LayerNorm")
    for layer in range(SIZES.num_layers):
        place = f"encoder.layer.{layer}"
        rows = norm(rows + attention(rows, f"{place}.attention"), f"{place}.attention.output.LayerNorm")
        inner = linear(rows, f"{place}.intermediate.dense")
        inner = inner * (1 + np.vectorize(math.erf)(inner / math.sqrt(2))) / 2
        rows = norm(rows + linear(inner, f"{place}.output.dense"), f"{place}.output.LayerNorm")
    mean = rows.mean(axis=0)
    return mean / np.linalg.norm(mean)
