"""The small network whose gradients stand in for the language model's."""

from typing import Literal

from pydantic import Field

from dealrec_core.settings.section import Section

NetworkName = Literal["sasrec", "bert4rec", "gru4rec", "dcrec"]


class SurrogateConfig(Section):
    """The small network whose gradients stand in for the language model's."""

    network: NetworkName = Field(default="sasrec", title="Network")
    """Which network is trained."""
    width: int = Field(default=64, ge=2, le=1024, title="Width")
    """Length of an item's vector."""
    layers: int = Field(default=2, ge=1, le=24, title="Layers")
    """Blocks of the network."""
    heads: int = Field(default=2, ge=1, le=32, title="Attention heads")
    """Must divide the width."""
    history_length: int = Field(default=50, ge=1, le=1000, title="History length")
    """Items of a history that the network reads, the latest ones."""
    dropout: float = Field(default=0.2, ge=0, lt=1, title="Dropout")
    """Share of values dropped in training; the paper has 0.5."""
    learning_rate: float = Field(default=3e-3, gt=0, le=1, title="Learning rate")
    """Of Adam."""
    weight_decay: float = Field(default=1e-4, ge=0, le=1, title="Weight decay")
    """Of AdamW; also what keeps the influence's curvature away from zero."""
    epochs: int = Field(default=40, ge=1, le=10000, title="Most epochs")
    """Passes over the log, fewer when validation stops improving."""
    patience: int = Field(default=4, ge=1, le=1000, title="Patience")
    """Epochs without a better validation NDCG@10 before training stops."""
    batch_tokens: int = Field(default=2048, ge=1, title="Batch size in items")
    """Items of histories in one training step."""
    negatives: int = Field(default=4096, ge=1, title="Sampled negatives")
    """Random items in the softmax of a training step; a catalogue no larger than this is used whole."""
    validation_samples: int = Field(default=5000, ge=1, title="Most validation samples")
    """A larger validation slice is sampled once."""
    drift_tolerance: float = Field(default=0.2, ge=0, le=1, title="Drift tolerance")
    """Share of the validation NDCG@10 that a warm start may lose, since the last full training, before another is forced."""


class EarlyConfig(Section):
    """Which early models are asked."""

    initialisations: int = Field(default=2, ge=1, le=20, title="Initialisations")
    """Ten in the paper."""
    epochs: int = Field(default=2, ge=1, le=100, title="Early epochs")
    """After each of which every sample is scored."""
