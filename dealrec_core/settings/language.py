"""The language model: which one, its prompt, how it is tuned, and how effort is computed."""

from typing import Literal

from pydantic import Field

from dealrec_core.settings.section import Section


class PromptConfig(Section):
    """Words and bounds of the prompt."""

    frame: Literal["auto", "alpaca"] = Field(default="auto", title="Frame")
    """auto: the chat template of the tokenizer where it has one, else Alpaca's headings, as in the paper."""
    items: str = Field(default="products", min_length=1, title="Items, plural")
    """What the items are called, for instance game products or movies."""
    item: str = Field(default="product", min_length=1, title="Item, singular")
    """What one item is called, for instance game product or movie."""
    chosen: str = Field(default="purchased", min_length=1, title="What users do with items")
    """Past participle, for instance purchased or watched."""
    most_tokens: int = Field(default=512, ge=64, title="Most tokens of a prompt")
    """The oldest titles are left out until the prompt fits. No title is ever cut by this; the newest always stays."""
    title_characters: int = Field(default=200, ge=8, title="Most characters of a title")
    """A longer title is known by its beginning, everywhere; items whose titles begin alike are then one title."""


EMBEDDED = "embedded"


class LanguageModelConfig(Section):
    """The model that is tuned."""

    base_model: str = Field(default=EMBEDDED, min_length=1, title="Base model")
    """A causal model of Hugging Face by name or folder, or 'embedded' for a small one built on the spot."""
    four_bit: bool = Field(default=False, title="Four bits")
    """QLoRA: the base model is held in 4-bit NF4 while it is scored and tuned; needs a CUDA GPU and the extra 'qlora'."""
    vocabulary: int = Field(default=4096, ge=512, le=65536, title="Embedded: vocabulary")
    width: int = Field(default=256, ge=32, le=2048, title="Embedded: width")
    layers: int = Field(default=4, ge=1, le=32, title="Embedded: layers")
    heads: int = Field(default=4, ge=1, le=32, title="Embedded: attention heads")
    steps: int = Field(default=600, ge=1, title="Embedded: pretraining steps")
    batch_size: int = Field(default=16, ge=1, title="Embedded: histories in a step")
    history_length: int = Field(default=10, ge=1, title="Embedded: titles in a history")
    learning_rate: float = Field(default=3e-3, gt=0, title="Embedded: learning rate")

    @property
    def embedded(self) -> bool:
        """Whether the model is built on the spot."""
        return self.base_model == EMBEDDED


class LoraConfig(Section):
    """Which weights learn, and how many."""

    rank: int = Field(default=8, ge=1, le=1024, title="LoRA rank")
    alpha: int = Field(default=16, ge=1, title="LoRA alpha")
    dropout: float = Field(default=0.05, ge=0, lt=1, title="LoRA dropout")
    modules: Literal["attention", "all"] = Field(default="attention", title="LoRA modules")
    """attention: query and value projections, as in the paper; all: every linear layer of the blocks."""


class FineTuneConfig(Section):
    """How the language model is tuned."""

    lora: LoraConfig = LoraConfig()
    start: Literal["base", "champion"] = Field(default="base", title="Start")
    """base: a fresh adapter on the base model; champion: on from the model in charge, where it has the same base."""
    replay_nights: int = Field(default=0, ge=0, le=1000, title="Nights replayed")
    """The coresets of so many earlier nights are learnt again beside tonight's."""
    epochs: int = Field(default=10, ge=1, le=1000, title="Most epochs")
    """50 in the paper."""
    patience: int = Field(default=2, ge=1, title="Patience")
    """Epochs without a better one on the validation examples before tuning stops; the best epoch is kept."""
    best_epoch_by: Literal["recall", "loss"] = Field(default="recall", title="Measure of the best epoch")
    """recall: of the validation targets among the ten most probable titles, equals by loss; loss: of the answer tokens."""
    learning_rate: float = Field(default=1e-4, gt=0, title="Learning rate")
    """At the start; it falls to zero along a cosine."""
    batch_size: int = Field(default=16, ge=1, title="Examples in a step")
    batch_tokens: int = Field(default=16384, ge=1, title="Most tokens computed at once")
    """A step of more tokens is computed in parts, whose gradients are added: bounds the memory."""
    gradient_checkpointing: bool = Field(default=False, title="Gradient checkpointing")
    """Computes activations twice instead of keeping them: for models that would not fit otherwise."""
    checkpoint_steps: int = Field(default=100, ge=1, title="Steps between checkpoints")
    """Where checkpoints are kept, a killed run goes on from the last one with the same result."""
    validation_examples: int = Field(default=256, ge=1, title="Validation examples")
    """The newest validation samples, on which the best epoch is chosen."""


class EffortConfig(Section):
    """How effort is computed."""

    parameters: Literal["all", "last"] = Field(default="all", title="Parameters")
    """all: every LoRA matrix; last: the last LoRA-B alone, as in the released code (it ranks differently)."""
    tokens: Literal["answer", "all"] = Field(default="answer", title="Tokens of the loss")
    """answer: what fine-tuning learns; all: the prompt's tokens too, as in the released code."""
    model: Literal["base", "champion"] = Field(default="base", title="Model")
    """base: the base model with a fresh adapter, one scale for all nights; champion: the model in charge."""
    refresh: float = Field(default=0.1, ge=0, le=1, title="Share refreshed")
    """Of the samples scored by an earlier champion, those scored longest ago are scored again, at most this share a night."""
    shard_samples: int = Field(default=10_000, ge=1, title="Samples in a shard")
    """A killed night goes on after the last whole shard."""
    batch_tokens: int = Field(default=4096, ge=1, title="Most tokens in a batch")
    """Bounds the memory; changes no score."""
