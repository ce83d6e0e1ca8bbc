"""DEALRec: choose the few samples worth fine-tuning a language model on. Numerics and domain, no orchestration.

Influence and effort of three samples, and the better one of them as coreset:

>>> import tempfile
>>> import numpy as np, polars as pl, torch
>>> from dealrec_core import coreset, effort, influence
>>> from dealrec_core.language import language_model
>>> from dealrec_core.language.prompts import Example
>>> from dealrec_core.samples.sequences import Sequences
>>> from dealrec_core.settings.language import EffortConfig, LanguageModelConfig, LoraConfig, PromptConfig
>>> from dealrec_core.surrogate import networks
>>> from dealrec_core.surrogate.sasrec import Shape
>>> titles = ["Chess", "Go", "Shogi", "Hex", "Nim"]
>>> train = Sequences(np.array([0, 1, 2, 3, 4, 0]), np.array([0, 2, 4, 6]), np.array([2, 4, 1]))
>>> risk = train.take(np.array([0]))  # the risk is the loss of this sample: leaving it out would raise the risk
>>> surrogate = networks.build("sasrec", Shape(item_count=5, width=8, history_length=2), seed=0)
>>> influences = influence.score(surrogate, train, risk, config=influence.InfluenceConfig(), seed=0).scores
>>> examples = [Example([titles[i] for i in row], titles[y]) for row, y in (([0, 1], 2), ([2, 3], 4), ([4, 0], 1))]
>>> tiny, prompt = LanguageModelConfig(vocabulary=512, width=32, layers=1, heads=1, steps=1), PromptConfig()
>>> with tempfile.TemporaryDirectory() as folder:
...     _ = language_model.build(folder, titles, [titles], config=tiny, prompt=prompt, seed=0)
...     model, tokenizer = language_model.load(folder, device=torch.device("cpu"))
>>> given = {"prompt": prompt, "config": EffortConfig(), "lora": LoraConfig(), "seed": 0, "device": torch.device("cpu")}
>>> efforts = effort.score(model, tokenizer, examples, **given)
>>> scores = pl.DataFrame({"sample_id": ["s", "t", "u"], "influence": influences, "effort": efforts})
>>> config = coreset.CoresetConfig(method="greedy", count=1)
>>> coreset.select(scores, config, seed=0).frame["sample_id"].to_list()
['s']
"""

import importlib
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    """`dealrec_core.effort`, loaded at first use: it imports torch and transformers."""
    if name == "effort":
        return importlib.import_module("dealrec_core.language.effort")
    raise AttributeError(f"module 'dealrec_core' has no attribute '{name}'")
