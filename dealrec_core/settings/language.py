"""The language model: which one, its prompt, how it is tuned, and how effort is computed."""

from typing import Annotated, Literal

from pydantic import Field

from dealrec_core.settings.section import Section

BatchTokens = Annotated[int, Field(ge=1)] | Literal["auto"]
"""A number of tokens, or auto."""


class PromptConfig(Section):
    """Words and bounds of the prompt."""

    frame: Literal["auto", "alpaca", "plain"] = Field(default="auto", title="Frame")
    """Form of the prompt. auto: the tokenizer's chat template where it has one, else Alpaca's headings; alpaca: those always (paper);
    plain: one short line, then one title a line. It needs about half the tokens, and suits a model that was not trained on the frame."""
    items: str = Field(default="products", min_length=1, title="Items, plural")
    """Word for several items in the prompt, for instance game products or movies. Set it, `item` and `chosen` to your domain."""
    item: str = Field(default="product", min_length=1, title="Item, singular")
    """Word for one item, for instance game product or movie."""
    chosen: str = Field(default="purchased", min_length=1, title="What users do with items")
    """Past participle of what users do with items, for instance purchased or watched."""
    most_tokens: int = Field(default=512, ge=64, title="Most tokens of a prompt")
    """Largest length of a prompt in tokens. The oldest titles are dropped until it fits. Lower it to save memory and time."""
    title_characters: int = Field(default=200, ge=8, title="Most characters of a title")
    """Characters at which titles are cut, everywhere; equal beginnings then share one title. Lower it when titles hold descriptions."""


EMBEDDED = "embedded"


class NightlyLanguageModel(Section):
    """The language model that is tuned."""

    base_model: str = Field(default=EMBEDDED, min_length=1, title="Base model")
    """Model that is tuned: 'embedded' for a small one built on the spot, 'smollm2-135m' once `dealrec get-model smollm2-135m` has run,
    or a causal model of Hugging Face by folder or by name. A commit pins a name: Qwen/Qwen3-0.6B@c1899de2."""
    four_bit: bool = Field(default=False, title="Four bits")
    """Whether the base model is held in 4-bit NF4 (QLoRA). Set it when the GPU is too small; it needs CUDA and the extra 'qlora'."""
    vocabulary: int = Field(default=4096, ge=512, le=65536, title="Embedded: vocabulary")
    """Number of tokens of the embedded model's tokenizer."""
    width: int = Field(default=128, ge=32, le=2048, title="Embedded: width")
    """Width of the embedded model, a multiple of 8. 128 learns more in the same time from a log of some ten thousand events than 256."""
    layers: int = Field(default=2, ge=1, le=32, title="Embedded: layers")
    """Number of layers of the embedded model."""
    steps: int = Field(default=1500, ge=1, title="Embedded: pretraining steps")
    """Number of steps of pretraining of the embedded model, which is done once a lake. Lower it for a quick trial."""

    @property
    def embedded(self) -> bool:
        """Whether the model is built on the spot."""
        return self.base_model == EMBEDDED


class LanguageModelConfig(NightlyLanguageModel):
    """All settings of the embedded model; a study sets those that a night does not have."""

    heads: int = Field(default=4, ge=1, le=32, title="Embedded: attention heads")
    """Number of attention heads; it must divide the width."""
    batch_size: int = Field(default=16, ge=1, title="Embedded: histories in a step")
    """Number of histories in a step of pretraining."""
    history_length: int = Field(default=10, ge=1, title="Embedded: titles in a history")
    """Largest number of titles in a history of pretraining."""
    learning_rate: float = Field(default=3e-3, gt=0, title="Embedded: learning rate")
    """Step size of pretraining."""


Modules = Literal["auto", "attention", "all"]


class NightlyLora(Section):
    """Which weights of the language model learn, and how many."""

    rank: int = Field(default=8, ge=1, le=1024, title="LoRA rank")
    """Rank of the matrices that learn; what they add is doubled. Raise it when more epochs no longer help and there is memory."""
    modules: Modules = Field(default="auto", title="LoRA modules")
    """Layers that learn. auto: all below a billion weights, else attention; all: every linear layer, which small models need;
    attention: query and value projections, as in the paper, which needs less memory."""


class LoraConfig(NightlyLora):
    """All settings of LoRA; a study sets those that a night does not have."""

    alpha: int | None = Field(default=None, ge=1, title="LoRA alpha")
    """Scale of what the matrices add: alpha / rank. None is twice the rank."""
    dropout: float = Field(default=0.05, ge=0, lt=1, title="LoRA dropout")
    """Share of the adapter's inputs dropped in training."""


class NightlyFineTune(Section):
    """How the language model is tuned on the coreset."""

    lora: NightlyLora = NightlyLora()
    start: Literal["base", "champion"] = Field(default="champion", title="Start")
    """Weights that tuning starts from. champion: those of the model in charge (the base where there is none), so that nights add
    up; base: a fresh adapter every night, with a larger `memory`."""
    memory: float = Field(default=1.0, ge=0, le=1000, title="Memory")
    """Samples of earlier coresets that are learnt again, newest nights first, at most this many for each of tonight's. Raise it
    when the model forgets; the time of tuning grows with it. 0 learns tonight's coreset alone."""
    refit: float = Field(default=1.0, ge=0, le=1000, title="Refit")
    """Samples of the held-out slices that the model learns once the gate has promoted it, at most this many for each of tonight's
    coreset: its recipe is repeated with them, and that model is served. 0 serves the model that the gate has judged."""
    epochs: int = Field(default=3, ge=1, le=1000, title="Most epochs")
    """Largest number of passes over the samples; 50 in the paper. More samples in fewer passes teach more in the same time, so raise
    `coreset.least` first."""
    patience: int | None = Field(default=None, ge=1, title="Patience")
    """Epochs without a better one on the validation examples before tuning stops; the best epoch is used. None never stops
    early below a billion weights, and after 2 such epochs above."""
    learning_rate: float | None = Field(default=None, gt=0, title="Learning rate")
    """Step size at the start; it falls to zero along a cosine. None follows the base model: 1e-3 up to ten million weights, less
    with more (1e-4 at ten billion). Lower it when the loss rises."""
    batch_size: int = Field(default=16, ge=1, title="Examples in a step")
    """Number of examples in one step of the optimiser."""
    batch_tokens: BatchTokens = Field(default="auto", title="Most tokens computed at once")
    """Largest number of tokens computed at once; gradients of a larger step are added in parts. auto: 16,384 below 20 million weights,
    else what a part of the free memory holds. Set a number when memory runs out, or where results must be equal on all machines."""
    gradient_checkpointing: bool = Field(default=False, title="Gradient checkpointing")
    """Whether activations are computed twice instead of stored. Set it for models that would not fit otherwise."""


class FineTuneConfig(NightlyFineTune):
    """All settings of fine-tuning; a study sets those that a night does not have."""

    lora: LoraConfig = LoraConfig()
    best_epoch_by: Literal["recall", "loss"] = Field(default="recall", title="Measure of the best epoch")
    """Measure of the best epoch. recall: of validation targets among the ten most probable titles, then by loss; loss: of answer tokens."""
    checkpoint_steps: int = Field(default=100, ge=1, title="Steps between checkpoints")
    """Number of steps between checkpoints, from which a killed run continues with an equal result."""
    validation_examples: int = Field(default=256, ge=1, title="Validation examples")
    """Number of the newest validation samples on which the best epoch is chosen."""


class NightlyEffort(Section):
    """How effort, the gradient norm of a sample, is computed."""

    model: Literal["base", "champion"] = Field(default="base", title="Model")
    """Model whose gradients are measured. base: the base model with a fresh adapter, one scale for all; champion: the one in charge."""
    share: float = Field(default=1.0, gt=0, le=1, title="Share scored")
    """Share of the samples, those of the highest influence, for which effort is computed; the coreset is then chosen
    among them. It applies to methods that use influence and effort. Lower it, for instance to 0.25, if scoring takes
    longer than tuning."""
    refresh: float = Field(default=0.1, ge=0, le=1, title="Share refreshed")
    """Share of the samples, scored longest ago, that a night scores again after a new champion. Raise it for fresher scores."""
    shard_samples: int = Field(default=10_000, ge=1, title="Samples in a shard")
    """Number of samples in a shard, after each of which a killed night can continue. Lower it on machines that stop often."""
    batch_tokens: BatchTokens = Field(default="auto", title="Most tokens in a batch")
    """Largest number of tokens in a batch. It bounds the memory and changes no score. auto: 4,096 below 20 million weights, else what
    a part of the free memory holds. Set a number when memory runs out."""


class EffortConfig(NightlyEffort):
    """All settings of effort; a study sets those that a night does not have."""

    parameters: Literal["all", "last"] = Field(default="all", title="Parameters")
    """Weights whose gradient is measured. all: every LoRA matrix; last: the last LoRA-B, as in the released code (it ranks differently)."""
    tokens: Literal["answer", "all"] = Field(default="answer", title="Tokens of the loss")
    """Tokens whose loss is differentiated. answer: what fine-tuning learns; all: the prompt's tokens too, as in the released code."""
