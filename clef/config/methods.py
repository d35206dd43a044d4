"""The typed config of each method. What CLEF's paper leaves open is a switch here; `docs/method.md` discusses each."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from clef.config.base import Strict, tag
from clef.config.inputs import FrameName, InputConfig, InputName

Network = Literal["resnet18", "resnet50", "resnet152", "vgg16"]


class EncoderConfig(Strict):
    """A network that reads a frame."""

    network: Network = "resnet50"
    width: Annotated[float, Field(gt=0, le=4)] = 1.0
    weights: str = "places365"
    """places365, imagenet, a file's path, or none (random)."""


class ContextBranchConfig(EncoderConfig):
    """N_C, the extra branch that captures context bias (CLEF section 3.3)."""

    input: FrameName = "context"
    """The frame that it reads: with the subject's box black, or as another reading of the mask has it."""
    trainable: bool = True
    """False freezes the encoder's parameters and its batch-norm statistics; the last layer is always trained."""
    lr_multiplier: Annotated[float, Field(ge=0)] = 1.0
    """The rate of the whole branch, its new last layer included, relative to the base rate."""


class MethodBase(Strict):
    """What every method says of itself."""

    name: str

    @property
    def branch(self) -> ContextBranchConfig | None:
        """Its context branch, where it has one."""
        return None

    @property
    def parent(self) -> str | None:
        """The folder of the trained cell that it starts from, if it does."""
        return None

    @property
    def reads(self) -> tuple[InputName, ...]:
        """The inputs that it reads besides the backbone's."""
        return (self.branch.input,) if self.branch else ()


class VanillaConfig(MethodBase):
    """The backbone alone."""

    name: Literal["vanilla"] = "vanilla"
    output: Literal["logits", "linear"] = "logits"
    """linear: weighted L2 takes the outputs as they are, as ports of EMOT-Net do, not sigmoid(outputs)."""


class ContextOnlyConfig(MethodBase):
    """The context branch alone, trained and scored by itself: what the scene says of the label."""

    name: Literal["context_only"] = "context_only"
    context_branch: ContextBranchConfig = ContextBranchConfig()

    @property
    def branch(self) -> ContextBranchConfig:
        """The only network there is."""
        return self.context_branch


class CounterfactualConfig(Strict):
    """Y_e*, what the backbone is taken to say when no subject is seen."""

    initial: Literal["scalar", "vector", "prior", "random"] = "scalar"
    """One logit for all classes; one a class, all equal; each class's log odds in train; a draw from N(0, 1)."""
    trainable: bool = True


class KlConfig(Strict):
    """The divergence between the factual and the counterfactual prediction (equation 13)."""

    weight: Annotated[float, Field(ge=0)] = 1.0
    trains: Literal["counterfactual", "everything"] = "counterfactual"
    """Y_e* alone (the branches' logits are constants in it), or everything."""
    direction: Literal["factual_from_counterfactual", "counterfactual_from_factual"] = "factual_from_counterfactual"
    """KL(factual || counterfactual), or the reverse."""


class ClefConfig(MethodBase):
    """Counterfactual emotion inference around the backbone (CLEF, CVPR 2024)."""

    name: Literal["clef"] = "clef"
    context_branch: ContextBranchConfig | None = ContextBranchConfig()
    """None leaves the branch out: Y_c = 0, and the score is log sigmoid(Y_e) - log sigmoid(Y_e*)."""
    counterfactual: CounterfactualConfig = CounterfactualConfig()
    kl: KlConfig = KlConfig()
    counterfactual_loss_trains: Literal["both", "context_branch"] = "both"
    """What the task loss of the counterfactual prediction reaches: N_C and Y_e*, or N_C alone."""
    single_label: Literal["log_sigmoid", "sum"] = "log_sigmoid"
    """What the softmax takes for one label: log sigmoid(z), or z = Y_c + Y_e itself."""
    multi_label: Literal["sigmoid", "softmax"] = "sigmoid"
    """Several labels: a logit for each class, or one softmax over all of them, the labels sharing the target."""
    start_from: str | None = None
    """The folder of a trained vanilla cell whose backbone this one starts from; None trains jointly from the start."""
    backbone_trainable: bool = True
    """False keeps the backbone as `start_from` trained it, batch-norm statistics included."""

    @model_validator(mode="after")
    def _frozen_was_trained(self) -> "ClefConfig":
        if not self.backbone_trainable and self.start_from is None:
            raise ValueError("backbone_trainable: false needs start_from, the trained vanilla cell")
        if self.counterfactual_loss_trains == "context_branch" and self.context_branch is None:
            raise ValueError("counterfactual_loss_trains: context_branch needs a context branch")
        if not (self.backbone_trainable or self.context_branch or self.counterfactual.trainable):
            raise ValueError("backbone, context branch and Y_e*: one of them has to be trained")
        return self

    @property
    def branch(self) -> ContextBranchConfig | None:
        """N_C."""
        return self.context_branch

    @property
    def parent(self) -> str | None:
        """The vanilla cell."""
        return self.start_from


class DictionaryConfig(EncoderConfig):
    """CCIM's confounders: features of the masked train frames, reduced and clustered (CCIM section 3.3)."""

    size: Annotated[int, Field(ge=2)] = 256
    """N: clusters, each a confounder z with the prior P(z) = its share of the samples."""
    components: Annotated[int, Field(ge=1)] | None = 256
    """The dimensions that PCA leaves; None clusters the features as they are."""
    input: InputConfig = InputConfig()
    """How the frames reach the network."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of PCA and k-means++, and of the network's own weights where they are random. One for all cells of a grid."""


class CcimConfig(MethodBase):
    """Contextual causal intervention: backdoor adjustment over a dictionary of contexts (CCIM, CVPR 2023)."""

    name: Literal["ccim"] = "ccim"
    attention: Literal["dot_product", "additive"] = "dot_product"
    key_dim: Annotated[int, Field(ge=1)] = 256
    """d_n, of the queries and keys."""
    hidden_dim: Annotated[int, Field(ge=1)] = 128
    """d_m, in which the feature and the expected confounder are added."""
    dictionary: DictionaryConfig = DictionaryConfig()


class CustomMethodConfig(MethodBase):
    """A method of your own, `module:Class`."""

    options: dict[str, Any] = {}
    """Whatever it takes."""
    probabilities: bool = False
    """Whether its logits state probabilities, a softmax of one label or a sigmoid of each of several. No identity."""


MethodConfig = Annotated[
    Annotated[VanillaConfig, Tag("vanilla")]
    | Annotated[ClefConfig, Tag("clef")]
    | Annotated[CcimConfig, Tag("ccim")]
    | Annotated[ContextOnlyConfig, Tag("context_only")]
    | Annotated[CustomMethodConfig, Tag("custom")],
    Discriminator(tag),
]
