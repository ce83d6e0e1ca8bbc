"""The small network whose gradients stand in for the language model's."""

from typing import Literal

from pydantic import Field

from dealrec_core.settings.section import Section

NetworkName = Literal["sasrec", "bert4rec", "gru4rec", "dcrec"]


class NightlySurrogate(Section):
    """The small network whose gradients stand in for the language model's."""

    network: NetworkName = Field(default="sasrec", title="Network")
    """Architecture of the surrogate. Compare them with `dealrec study` before you change it."""
    width: int = Field(default=64, ge=2, le=1024, title="Width")
    """Length of an item's vector, an even number. Raise it for a large catalogue; influence costs memory and time with it."""
    epochs: int = Field(default=40, ge=1, le=10000, title="Most epochs")
    """Largest number of passes over the log; training stops earlier when validation stops improving."""
    learning_rate: float = Field(default=3e-3, gt=0, le=1, title="Learning rate")
    """Step size of Adam. Lower it when a message about the surrogate's weights or loss says so."""
    most_new: float = Field(default=0.1, ge=0, lt=1, title="Most new samples")
    """Share of the train samples that may be new before all influence is scored again. Up to it, a night scores new samples alone, at the
    weights of an earlier surrogate, and a surrogate of more than 100,000 samples learns new ones alone. 0 computes all every night."""
    drift_tolerance: float = Field(default=0.2, ge=0, le=1, title="Drift tolerance")
    """Share of the validation NDCG@10 that warm starts may lose before a full training. Lower it to train from scratch more often."""


class SurrogateConfig(NightlySurrogate):
    """All settings of the surrogate; a study sets those that a night does not have."""

    layers: int = Field(default=2, ge=1, le=24, title="Layers")
    """Number of blocks of the network."""
    heads: int = Field(default=2, ge=1, le=32, title="Attention heads")
    """Number of attention heads; it must divide the width."""
    history_length: int = Field(default=50, ge=1, le=1000, title="History length")
    """Number of items of a history that the network reads, the latest ones. A night uses `samples.history_length`."""
    dropout: float = Field(default=0.2, ge=0, lt=1, title="Dropout")
    """Share of values dropped in training; the paper has 0.5."""
    weight_decay: float = Field(default=1e-4, ge=0, le=1, title="Weight decay")
    """Weight decay of AdamW, which also keeps the influence's curvature away from zero."""
    patience: int = Field(default=4, ge=1, le=1000, title="Patience")
    """Epochs without a better validation NDCG@10 before training stops."""
    batch_tokens: int = Field(default=2048, ge=1, title="Batch size in items")
    """Items of histories in one training step."""
    negatives: int = Field(default=4096, ge=1, title="Sampled negatives")
    """Random items in the softmax of a training step; a catalogue no larger than this is used whole."""
    validation_samples: int = Field(default=5000, ge=1, title="Most validation samples")
    """Number of validation samples above which the slice is sampled once."""


class EarlyConfig(Section):
    """Briefly trained surrogates that the methods el2n and grand score samples with."""

    initialisations: int = Field(default=2, ge=1, le=20, title="Initialisations")
    """Number of surrogates; ten in the paper."""
    epochs: int = Field(default=2, ge=1, le=100, title="Early epochs")
    """Number of epochs of each surrogate; every sample is scored after each epoch."""
