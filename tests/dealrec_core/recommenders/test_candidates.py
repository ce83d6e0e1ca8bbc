"""Candidates by teacher forcing against the loss of each alone."""

import numpy as np
import torch

from dealrec_core.language import lora
from dealrec_core.language.answer_loss import answer_losses
from dealrec_core.language.prompts import Prompter
from dealrec_core.recommenders import candidates
from dealrec_core.settings.language import LoraConfig
from tests.dealrec_core.conftest import CPU, SeriesWorld


def test_each_candidate_has_the_probability_it_has_alone(series_world: SeriesWorld) -> None:
    model, tokenizer = series_world.load()
    prompter = Prompter(tokenizer, series_world.prompt)
    answers = [prompter.answer(title) for title in series_world.catalogue.titles]
    prompts = [prompter.prompt(["Crimson Harbor 1"]), prompter.prompt(["Silent Garden 2", "Hidden Circuit 1"])]
    asked = [answers[:7], answers[3:5]]  # numbers of candidates differ, and so do the lengths of titles
    with lora.borrowed(model, LoraConfig(), seed=0, device=CPU) as tuned:
        for weight in tuned.parameters():
            torch.nn.init.normal_(weight, std=0.05) if weight.requires_grad else None
        scores = candidates.log_probabilities(tuned, prompts, asked, pad=0)
        for prompt, titles, sums in zip(prompts, asked, scores, strict=True):
            with torch.no_grad():
                means = answer_losses(tuned, [(prompt, title) for title in titles], device=CPU).numpy()
            np.testing.assert_allclose(sums, -means * [len(title) for title in titles], rtol=1e-4)


def test_many_tokens_are_computed_in_parts_with_the_same_result(series_world: SeriesWorld, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    model, tokenizer = series_world.load()
    prompter = Prompter(tokenizer, series_world.prompt)
    answers = [prompter.answer(title) for title in series_world.catalogue.titles]
    prompts = [prompter.prompt(["Crimson Harbor 1"])]
    whole = candidates.log_probabilities(model, prompts, [answers], pad=0)[0]
    monkeypatch.setattr(candidates, "LOGITS", 5)
    np.testing.assert_allclose(candidates.log_probabilities(model, prompts, [answers], pad=0)[0], whole, rtol=1e-6)
