"""Content vectors by a sentence model: the mean of its last hidden states, of length 1 (Reimers & Gurevych 2019)."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

from dealrec_core.errors import SettingsError
from dealrec_core.language.language_model import INERT
from dealrec_core.samples.items import Catalogue


@dataclass(frozen=True)
class SentenceContent:
    """Embeds "title; category; category" by an encoder of Hugging Face (sentence-transformers models are such)."""

    location: str
    """Name or folder; it must still be there when new items are coded."""
    batch_size: int = 64

    @torch.no_grad()
    def vectors(self, catalogue: Catalogue) -> np.ndarray:
        """The vectors of all items, float64 (V, D).

        Raises:
            SettingsError: the model cannot be loaded.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.location, trust_remote_code=False)
            model = AutoModel.from_pretrained(self.location, **INERT)
        except (OSError, ValueError) as error:
            line = str(error).splitlines()[0]
            raise SettingsError(f"embedding '{self.location}' cannot be loaded: {line}; use 'tfidf'") from error
        pairs = zip(catalogue.titles, catalogue.categories, strict=True)
        texts = ["; ".join([title, *names]) for title, names in pairs]
        vectors = []
        for start in range(0, len(texts), self.batch_size):
            part = texts[start : start + self.batch_size]
            batch = tokenizer(part, padding=True, truncation=True, max_length=256, return_tensors="pt")
            hidden = model.eval()(**batch).last_hidden_state.double()  # (B, L, D)
            mask = batch["attention_mask"][:, :, None]
            vectors.append(functional.normalize((hidden * mask).sum(1) / mask.sum(1).clamp(min=1), dim=1).numpy())
        return np.concatenate(vectors)
