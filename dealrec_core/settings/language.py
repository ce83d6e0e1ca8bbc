"""The language model: which one, its prompt, how it is tuned, and how effort is computed."""

from typing import Annotated, Literal

from pydantic import Field

from dealrec_core.settings.section import Section

BatchTokens = Annotated[int, Field(ge=1)] | Literal["auto"]
"""A number of tokens, or auto."""


class PromptConfig(Section):
    """Words and limits of the prompt."""

    frame: Literal["auto", "alpaca", "plain"] = Field(default="auto", title="Frame")
    """Form of the prompt. auto: the tokenizer's chat template if it has one, otherwise Alpaca's headings; alpaca: always Alpaca's headings
    (paper); plain: one short line, then one title in each line. plain needs about half the tokens; use it for a model that was not trained
    on another form."""
    items: str = Field(default="products", min_length=1, title="Items, plural")
    """Word for several items in the prompt, for instance game products or movies. Set it, `item` and `chosen` to your domain."""
    item: str = Field(default="product", min_length=1, title="Item, singular")
    """Word for one item, for instance game product or movie."""
    chosen: str = Field(default="purchased", min_length=1, title="What users do with items")
    """Past participle of what users do with items, for instance purchased or watched."""
    most_tokens: int = Field(default=512, ge=64, title="Most tokens of a prompt")
    """Largest length of a prompt in tokens. The oldest titles are dropped until it fits. Lower it to save memory and time."""
    title_characters: int = Field(default=200, ge=8, title="Most characters of a title")
    """Number of characters after which titles are cut, everywhere; items with equal beginnings then have one title. Lower it if titles
    contain descriptions."""


EMBEDDED = "embedded"


class NightlyLanguageModel(Section):
    """The language model that is tuned."""

    base_model: str = Field(default=EMBEDDED, min_length=1, title="Base model")
    """Model that is tuned: 'embedded' for a small model that the first night builds; 'smollm2-135m' after `dealrec get-model smollm2-135m`;
    or a causal model of Hugging Face, by folder or by name. Add a commit to fix the version: Qwen/Qwen3-0.6B@c1899de2."""
    four_bit: bool = Field(default=False, title="Four bits")
    """Whether the base model is held in 4-bit NF4 (QLoRA). Set it if the memory of the GPU is too small; it needs CUDA and the extra
    'qlora'."""
    vocabulary: int = Field(default=4096, ge=512, le=65536, title="Embedded: vocabulary")
    """Number of tokens of the embedded model's tokenizer."""
    width: int = Field(default=128, ge=32, le=2048, title="Embedded: width")
    """Width of the embedded model, a multiple of 8. 128 learns more in the same time from a log of some ten thousand events than 256."""
    layers: int = Field(default=2, ge=1, le=32, title="Embedded: layers")
    """Number of layers of the embedded model."""
    steps: int = Field(default=1500, ge=1, title="Embedded: pretraining steps")
    """Number of steps of the embedded model's pretraining, which each lake does once. Lower it for a quick trial."""

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
    """Rank of the matrices that learn; their product is multiplied by two. Raise it if more epochs no longer help and memory is left."""
    modules: Modules = Field(default="auto", title="LoRA modules")
    """Layers that learn. auto: all for a base model below a billion weights, otherwise attention; all: every linear layer, which small
    models need; attention: query and value projections, as in the paper, which needs less memory."""


class LoraConfig(NightlyLora):
    """All settings of LoRA; a study sets those that a night does not have."""

    alpha: int | None = Field(default=None, ge=1, title="LoRA alpha")
    """Scale of what the matrices add: alpha / rank. None is twice the rank."""
    dropout: float | None = Field(default=None, ge=0, lt=1, title="LoRA dropout")
    """Share of the adapter's inputs dropped in training. None is 0 for a base model below 20 million weights, and 0.05 for larger ones."""


class NightlyFineTune(Section):
    """How the language model is tuned on the coreset."""

    lora: NightlyLora = NightlyLora()
    start: Literal["base", "champion"] = Field(default="champion", title="Start")
    """Weights that tuning starts from. champion: those of the model in charge, so that each night adds to the one before (the base if there
    is no champion); base: a fresh adapter every night, which needs a larger `memory`."""
    memory: float = Field(default=1.0, ge=0, le=1000, title="Memory")
    """Samples of earlier coresets that are learnt again, those of the newest nights first: at most this many for each sample of tonight.
    Raise it if the model forgets; the time of tuning grows with it. With 0 the model learns only tonight's coreset."""
    refit: float = Field(default=1.0, ge=0, le=1000, title="Newest samples")
    """Number of newest samples that the model learns for each sample of tonight's coreset, at most: of the validation slice in tuning,
    and of the held-out slice too when a promoted model is tuned on to be served. 0 learns the train slice alone and serves the
    model that the gate has judged."""
    epochs: int = Field(default=3, ge=1, le=1000, title="Most epochs")
    """Largest number of passes over the samples; 50 in the paper. More samples in fewer passes teach a model more in equal time, so raise
    `coreset.least` first."""
    patience: int | None = Field(default=None, ge=1, title="Patience")
    """Number of epochs without an improvement on the validation examples after which tuning stops; the best epoch is used. None: a model
    below a billion weights never stops early, a larger one after 2 such epochs."""
    learning_rate: float | None = Field(default=None, gt=0, title="Learning rate")
    """Step size at the start; it falls to zero along a cosine. None depends on the base model: 1e-3 up to ten million weights, and less for
    larger models (1e-4 at ten billion). Lower it if the loss rises."""
    batch_size: int = Field(default=16, ge=1, title="Examples in a step")
    """Number of examples in one step of the optimiser."""
    batch_tokens: BatchTokens = Field(default="auto", title="Most tokens computed at once")
    """Largest number of tokens computed at once; a larger step is computed in parts. auto: 16,384 for a model below 20 million weights,
    otherwise as many as fit into a part of the free memory. Set a number if memory runs out, or if results must be equal on all
    machines."""
    gradient_checkpointing: bool = Field(default=False, title="Gradient checkpointing")
    """Whether activations are computed twice instead of stored. Set it for a model that would not fit into memory otherwise."""


class FineTuneConfig(NightlyFineTune):
    """All settings of fine-tuning; a study sets those that a night does not have."""

    lora: LoraConfig = LoraConfig()
    best_epoch_by: Literal["ndcg", "loss"] = Field(default="ndcg", title="Measure of the best epoch")
    """Measure of the best epoch. ndcg: that of validation targets among the ten most probable titles, then the loss; loss: the loss of
    answer tokens."""
    checkpoint_steps: int = Field(default=100, ge=1, title="Steps between checkpoints")
    """Number of steps between checkpoints, from which a killed run continues with an equal result."""
    validation_examples: int = Field(default=256, ge=1, title="Validation examples")
    """Number of the newest validation samples on which the best epoch is chosen."""


class NightlyEffort(Section):
    """How effort, the gradient norm of a sample, is computed."""

    model: Literal["base", "champion"] = Field(default="base", title="Model")
    """Model whose gradients are measured. base: the base model with a fresh adapter, so that all scores have one scale; champion: the model
    in charge."""
    share: float = Field(default=1.0, gt=0, le=1, title="Share scored")
    """Share of the samples for which effort is computed: those with the highest influence. The coreset is then chosen among them. This
    applies to methods that use influence and effort. Lower it, for instance to 0.25, if scoring takes longer than tuning."""
    refresh: float = Field(default=0.1, ge=0, le=1, title="Share refreshed")
    """For model champion: share of the samples that a night scores again after a new champion, beginning with the oldest scores. Raise it
    for fresher scores."""
    shard_samples: int = Field(default=10_000, ge=1, title="Samples in a shard")
    """Number of samples that are scored and stored together (a shard). A killed night continues after the last stored shard. Lower it on
    machines that stop often."""
    batch_tokens: BatchTokens = Field(default="auto", title="Most tokens in a batch")
    """Largest number of tokens in a batch. It limits the memory and changes no score. auto: 4,096 for a model below 20 million weights,
    otherwise as many as fit into a part of the free memory. Set a number if memory runs out."""


class EffortConfig(NightlyEffort):
    """All settings of effort; a study sets those that a night does not have."""

    parameters: Literal["all", "last"] = Field(default="all", title="Parameters")
    """Weights whose gradient is measured. all: every LoRA matrix; last: the last LoRA-B, as in the released code (it ranks differently)."""
    tokens: Literal["answer", "all"] = Field(default="answer", title="Tokens of the loss")
    """Tokens whose loss is differentiated. answer: those that fine-tuning learns; all: also the tokens of the prompt, as in the released
    code."""
