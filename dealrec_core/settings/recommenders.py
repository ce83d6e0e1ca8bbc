"""The recommenders that a night can tune."""

from typing import Annotated, Literal

from pydantic import Field

from dealrec_core.settings.language import LoraConfig, PromptConfig
from dealrec_core.settings.section import Section


class BIGRecConfig(Section):
    """How the tuned model recommends."""

    prompt: PromptConfig = PromptConfig()
    history_length: int = Field(default=10, ge=1, le=1000, title="Titles in a prompt")
    """The newest ones."""
    decoding: Literal["trie", "ground"] = Field(default="trie", title="Decoding")
    """trie: beam search over the catalogue's titles; ground: free generation, then the nearest titles, as published."""
    beams: int = Field(default=20, ge=1, le=1000, title="Beams of trie decoding")
    """At least the length of the list is used."""
    ground_beams: int = Field(default=4, ge=1, le=100, title="Beams of ground decoding")
    gamma: Annotated[float, Field(ge=0, le=100)] | Literal["validation"] = Field(
        default=0.0, title="Weight of ground decoding"
    )
    """Distances are multiplied by (1 + weight of the item) to the power of -gamma; 0 leaves weights out; validation: a
    night takes the one of 0, 0.5, 1, 2, ... 64 with the best recall on the validation slice."""
    weight: Literal["popularity", "neighbours"] = Field(default="popularity", title="What gamma weighs")
    """popularity: interactions of the item; neighbours: its score by ItemKNN for the history (collaborative filtering)."""
    batch_size: int = Field(default=32, ge=1, title="Histories decoded at once")


class RQVAEConfig(Section):
    """The network and how it is trained."""

    inner_widths: tuple[int, ...] = Field(default=(512, 256, 128), title="Inner widths of the encoder")
    """The decoder has them in reverse."""
    width: int = Field(default=32, ge=1, le=4096, title="Width of the quantised vectors")
    commitment: float = Field(default=0.25, ge=0, title="Commitment beta")
    """Weight of pulling the encoder towards its codes."""
    epochs: int = Field(default=500, ge=1, le=100_000, title="Epochs")
    learning_rate: float = Field(default=1e-3, gt=0, title="Learning rate")
    batch_size: int = Field(default=1024, ge=1, title="Items in a step")


TF_IDF = "tfidf"


class SemanticIdsConfig(Section):
    """How items become codes."""

    levels: int = Field(default=3, ge=1, le=8, title="Levels")
    """Codes of an item, not counting the one that tells equals apart."""
    codes: int = Field(default=256, ge=2, le=65536, title="Codes of a level")
    embedding: str = Field(default=TF_IDF, min_length=1, title="Content vectors")
    """'tfidf': words of titles and categories; else a sentence model of Hugging Face, by name or folder."""
    width: int = Field(default=64, ge=1, le=4096, title="Width of the TF-IDF vectors")
    quantiser: Literal["kmeans", "rqvae"] = Field(default="kmeans", title="Quantiser")
    """kmeans: residual k-means, which cannot collapse; rqvae: learnt with an encoder, as published."""
    rqvae: RQVAEConfig = RQVAEConfig()
    iterations: int = Field(default=30, ge=1, le=1000, title="Most k-means iterations")


class TigerConfig(Section):
    """The network (T5) and how it is trained."""

    width: int = Field(default=128, ge=8, le=4096, title="Width")
    layers: int = Field(default=4, ge=1, le=48, title="Layers of the encoder and of the decoder")
    heads: int = Field(default=6, ge=1, le=64, title="Attention heads")
    head_width: int = Field(default=64, ge=4, le=512, title="Width of a head")
    inner_width: int = Field(default=1024, ge=8, le=65536, title="Width of the feed-forward layers")
    dropout: float = Field(default=0.1, ge=0, lt=1, title="Dropout")
    history_length: int = Field(default=20, ge=1, le=1000, title="Items in a history")
    """The newest ones."""
    tuning: Literal["full", "lora"] = Field(default="full", title="Tuning")
    """lora: only a low-rank adapter learns, on a model to start from; it is merged at the end."""
    lora: LoraConfig = LoraConfig()
    epochs: int = Field(default=50, ge=1, le=10_000, title="Most epochs")
    patience: int = Field(default=3, ge=1, title="Patience")
    """Epochs without a lower validation loss before training stops; the best epoch is kept."""
    pretraining_epochs: int = Field(default=10, ge=1, le=10_000, title="Epochs of pretraining")
    """The first night trains a model on the older half of the train samples; every later night finds it there."""
    learning_rate: float = Field(default=1e-3, gt=0, title="Learning rate")
    batch_size: int = Field(default=64, ge=1, title="Histories in a step")
    beams: int = Field(default=20, ge=1, le=1000, title="Beams")
    """At least the length of the list is used."""


class RecommenderConfig(BIGRecConfig):
    """Which recommender a night tunes; the rest is about BIGRec, for TIGER see [tiger] and [semantic_ids]."""

    backend: Literal["bigrec", "tiger"] = Field(default="bigrec", title="Backend")
    """bigrec: a language model that writes titles; tiger: an encoder-decoder that writes semantic ids."""

    @property
    def bigrec(self) -> BIGRecConfig:
        """BIGRec's part alone, as bundles keep it."""
        return BIGRecConfig.model_validate(self.model_dump(exclude={"backend"}))
