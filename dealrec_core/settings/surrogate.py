"""The small network whose gradients stand in for the language model's."""

from typing import Literal

from pydantic import Field

from dealrec_core.settings.section import Section

NetworkName = Literal["sasrec", "bert4rec", "gru4rec", "dcrec"]


class NightlySurrogate(Section):
    """The small network whose gradients stand in for the language model's."""

    network: NetworkName = Field(default="sasrec", title="Network")
    """Architecture of the surrogate. Compare the architectures with `dealrec study` before you change it."""
    width: int = Field(default=64, ge=2, le=1024, title="Width")
    """Length of an item's vector, an even number. Raise it for a large catalogue; the memory and time of influence grow with it."""
    epochs: int = Field(default=40, ge=1, le=10000, title="Most epochs")
    """Largest number of passes over the log; training stops earlier when validation stops improving."""
    learning_rate: float = Field(default=3e-3, gt=0, le=1, title="Learning rate")
    """Step size of Adam. Lower it when a message about the surrogate's weights or loss says so."""
    most_new: float = Field(default=0.1, ge=0, lt=1, title="Most new samples")
    """Share of the train samples that may be new before the influence of all samples is computed again. Below this share, a night scores
    only new samples, with the weights of an earlier surrogate; and if there are more than 100,000 samples, the surrogate learns from new
    samples and as many others. 0 computes everything every night."""
    drift_tolerance: float = Field(default=0.2, ge=0, le=1, title="Drift tolerance")
    """Share of the validation NDCG@10 that may be lost by warm starts before a night trains the surrogate from scratch. Lower it to train
    from scratch more often."""


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
    """Weight decay of AdamW. It also keeps the eigenvalues of the curvature away from zero."""
    patience: int = Field(default=4, ge=1, le=1000, title="Patience")
    """Epochs without a better validation NDCG@10 before training stops."""
    batch_tokens: int = Field(default=2048, ge=1, title="Batch size in items")
    """Items of histories in one training step."""
    negatives: int = Field(default=4096, ge=1, title="Sampled negatives")
    """Number of random items in the softmax of a training step. A smaller catalogue is used as a whole."""
    validation_samples: int = Field(default=5000, ge=1, title="Most validation samples")
    """Largest number of validation samples; from a larger slice this many are drawn once."""


class EarlyConfig(Section):
    """Surrogates with a short training, with which the methods el2n and grand score samples."""

    initialisations: int = Field(default=2, ge=1, le=20, title="Initialisations")
    """Number of surrogates; ten in the paper."""
    epochs: int = Field(default=2, ge=1, le=100, title="Early epochs")
    """Number of epochs of each surrogate; every sample is scored after each epoch."""
