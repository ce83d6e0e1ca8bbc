"""The recommenders that a night can tune."""

from typing import Literal

from pydantic import Field

from dealrec_core.settings.language import LoraConfig, PromptConfig
from dealrec_core.settings.section import Section


class _Answer(Section):
    prompt: PromptConfig = PromptConfig()
    decoding: Literal["trie", "ground"] = Field(default="trie", title="Decoding")
    """How BIGRec makes a list. trie: beam search over the titles of the catalogue; ground: free generation, then the nearest titles."""
    beams: int = Field(default=20, ge=1, le=1000, title="Beams")
    """Number of beams of the search over titles or codes; it must be at least the length of the list. More beams miss fewer items and cost
    time."""
    batch_size: int = Field(default=32, ge=1, title="Histories decoded at once")
    """Number of histories decoded at once. It limits the memory; lower it if memory runs out."""


class NightlyRecommender(_Answer):
    """Which recommender a night tunes, and how it answers; only BIGRec uses prompt and decoding."""

    backend: Literal["bigrec", "tiger"] = Field(default="bigrec", title="Backend")
    """Kind of model. bigrec: a language model that writes titles; tiger: an encoder-decoder that writes semantic ids. Use tiger if you have
    no GPU for a language model, and compare both with `dealrec study`."""
    titles: int = Field(default=10, ge=1, le=1000, title="Titles in a prompt")
    """Number of the newest titles in a prompt of BIGRec. Every title costs tokens; raise it if a night has time left."""


class BIGRecConfig(_Answer):
    """All settings of BIGRec; a study sets those that a night does not have."""

    history_length: int = Field(default=10, ge=1, le=1000, title="Titles in a prompt")
    """Number of titles in a prompt, the newest of the history. A night uses `recommender.titles`."""
    ground_beams: int = Field(default=4, ge=1, le=100, title="Beams of ground decoding")
    """Number of beams of free generation."""
    gamma: float = Field(default=0.0, ge=0, le=100, title="Weight of ground decoding")
    """For ground: distances are multiplied by (1 + weight of the item) to the power of -gamma, as in the paper; 0 leaves
    weights out. A night uses 0 and calibrates (`evaluation.calibration_users`)."""
    weight: Literal["popularity", "neighbours"] = Field(default="popularity", title="What gamma weighs")
    """For ground: weight of an item. popularity: its interactions; neighbours: its score by ItemKNN for the history."""


class RQVAEConfig(Section):
    """The network that learns semantic ids, and how it is trained."""

    inner_widths: tuple[int, ...] = Field(default=(512, 256, 128), title="Inner widths of the encoder")
    """Widths of the encoder's inner layers; the decoder has them in reverse."""
    width: int = Field(default=32, ge=1, le=4096, title="Width of the quantised vectors")
    """Length of the vectors that are quantised."""
    commitment: float = Field(default=0.25, ge=0, title="Commitment beta")
    """Weight of the loss that pulls the encoder towards its codes."""
    epochs: int = Field(default=500, ge=1, le=100_000, title="Epochs")
    """Number of passes over the items."""
    learning_rate: float = Field(default=1e-3, gt=0, title="Learning rate")
    """Step size of Adam."""
    batch_size: int = Field(default=1024, ge=1, title="Items in a step")
    """Number of items in a training step."""


TF_IDF = "tfidf"


class NightlySemanticIds(Section):
    """How TIGER's items get codes."""

    embedding: str = Field(default=TF_IDF, min_length=1, title="Content vectors")
    """Vectors of the items' content. 'tfidf': words of titles and categories; any other value names a sentence model of Hugging Face, by
    name or folder."""


class SemanticIdsConfig(NightlySemanticIds):
    """All settings of semantic ids; a study sets those that a night does not have."""

    levels: int = Field(default=3, ge=1, le=8, title="Levels")
    """Number of codes of an item, one for each level, without the code that distinguishes items with equal codes."""
    codes: int = Field(default=256, ge=2, le=65536, title="Codes of a level")
    """Number of codes of each level."""
    width: int = Field(default=64, ge=1, le=4096, title="Width of the TF-IDF vectors")
    """Length of the TF-IDF vectors after truncation."""
    quantiser: Literal["kmeans", "rqvae"] = Field(default="kmeans", title="Quantiser")
    """How vectors become codes. kmeans: residual k-means, which cannot collapse; rqvae: learned with an encoder, as published."""
    rqvae: RQVAEConfig = RQVAEConfig()
    iterations: int = Field(default=30, ge=1, le=1000, title="Most k-means iterations")
    """Largest number of iterations of k-means."""


class NightlyTiger(Section):
    """TIGER's network (T5) and how it is trained."""

    width: int = Field(default=128, ge=8, le=4096, title="Width")
    """Width of the network."""
    layers: int = Field(default=4, ge=1, le=48, title="Layers of the encoder and of the decoder")
    """Number of layers of the encoder, and of the decoder."""
    tuning: Literal["full", "lora"] = Field(default="full", title="Tuning")
    """Weights that a night tunes. full: all; lora: a low-rank adapter, merged at the end, so that a night changes the model little."""
    epochs: int = Field(default=50, ge=1, le=10_000, title="Most epochs")
    """Largest number of passes over the coreset. Training stops earlier if the validation loss no longer falls."""
    pretraining_epochs: int = Field(default=10, ge=1, le=10_000, title="Epochs of pretraining")
    """Number of passes over the older half of the train samples, on which the first night trains a model to start later nights from."""
    learning_rate: float = Field(default=1e-3, gt=0, title="Learning rate")
    """Step size of training and tuning."""


class TigerConfig(NightlyTiger):
    """All settings of TIGER; a study sets those that a night does not have."""

    heads: int = Field(default=6, ge=1, le=64, title="Attention heads")
    """Number of attention heads."""
    head_width: int = Field(default=64, ge=4, le=512, title="Width of a head")
    """Width of an attention head."""
    inner_width: int = Field(default=1024, ge=8, le=65536, title="Width of the feed-forward layers")
    """Width of the feed-forward layers."""
    dropout: float = Field(default=0.1, ge=0, lt=1, title="Dropout")
    """Share of values dropped in training."""
    history_length: int = Field(default=20, ge=1, le=1000, title="Items in a history")
    """Number of items of a history that the network reads, the newest ones. A night uses `samples.history_length`."""
    lora: LoraConfig = LoraConfig(modules="attention")
    patience: int = Field(default=3, ge=1, title="Patience")
    """Epochs without a lower validation loss before training stops. The best epoch is used."""
    batch_size: int = Field(default=64, ge=1, title="Histories in a step")
    """Number of histories in a training step."""
    beams: int = Field(default=20, ge=1, le=1000, title="Beams")
    """Number of beams; at least the length of the list is used. A night uses `recommender.beams`."""
