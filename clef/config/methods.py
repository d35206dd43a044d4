"""The typed config of each method, and the table of those that ship with the package.

What CLEF's paper leaves open is a switch here; `docs/method.md` discusses each. To add a method: its line in METHODS,
with a config class above it; docs/extending.md says what else it takes.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import Field, model_validator

from clef.config.encoders import EncoderConfig
from clef.config.inputs import FrameName, InputConfig, InputName
from clef.yaml_config import Strict, tagged_union


class ContextBranchConfig(EncoderConfig):
    """N_C, the extra branch that captures context bias (CLEF section 3.3)."""

    input: FrameName = "context"
    """The frame that it reads: with the subject's box black, or as another reading of the mask has it."""
    trainable: bool = True
    """False freezes the encoder's parameters and its batch-norm statistics; the last layer is always trained."""
    lr_multiplier: Annotated[float, Field(ge=0)] = 1.0
    """The rate of the whole branch, its new last layer included, relative to the base rate."""


Activation = Literal["softmax", "softmax_of_log_sigmoid", "sigmoid", "linear"]
"""How logits state probabilities."""


class MethodConfig(Strict):
    """What the rest of the code may ask of any method. A method overrides the answers that differ."""

    name: str

    @property
    def builds_backbone(self) -> bool:
        """Return whether the cell's backbone is part of the model."""
        return True

    @property
    def branch(self) -> ContextBranchConfig | None:
        """Return its context branch, where it has one."""
        return None

    @property
    def encoders(self) -> Mapping[str, EncoderConfig]:
        """Return the configs of the encoders that it has besides the backbone's, by the key that holds each."""
        return {"context_branch": self.branch} if self.branch else {}

    @property
    def parent(self) -> str | None:
        """Return the folder of the trained cell that it starts from, if it does."""
        return None

    @property
    def reads(self) -> tuple[InputName, ...]:
        """Return the inputs that it reads besides the backbone's."""
        return (self.branch.input,) if self.branch else ()

    @property
    def prepared_from(self) -> tuple[InputName, ...]:
        """Return the inputs of the dataset that it reads before training, to prepare something of its own."""
        return ()

    def blanks_subject(self, training: bool) -> bool:
        """Return whether it asks the backbone a second time, with the subject blanked: in training, or after it."""
        return False

    @property
    def is_fitted(self) -> bool:
        """Return whether it trains nothing, and is fitted to the predictions for val instead (`Method.fit`)."""
        return False

    def activation(self, single_label: bool) -> Activation | None:
        """Return how its scores state probabilities, of one label or of several; None: they state none."""
        return "softmax" if single_label else "sigmoid"


class VanillaConfig(MethodConfig):
    """The backbone alone."""

    name: Literal["vanilla"] = "vanilla"
    output: Literal["logits", "linear"] = "logits"
    """linear: weighted L2 takes the outputs as they are, as ports of EMOT-Net do, not sigmoid(outputs)."""

    def activation(self, single_label: bool) -> Activation | None:
        """Return how its outputs state probabilities: linear ones are taken as they are."""
        return "linear" if self.output == "linear" else super().activation(single_label)


class BranchedMethodConfig(MethodConfig):
    """A method that trains a context branch."""

    context_branch: ContextBranchConfig = ContextBranchConfig()

    @property
    def branch(self) -> ContextBranchConfig:
        """Return N_C."""
        return self.context_branch


class ContextOnlyConfig(BranchedMethodConfig):
    """The context branch alone, trained and scored by itself: what the scene says of the label."""

    name: Literal["context_only"] = "context_only"

    @property
    def builds_backbone(self) -> bool:
        """Return False: the backbone's recipe only lends its loss and schedule."""
        return False


class ProductOfExpertsConfig(BranchedMethodConfig):
    """Product of experts (Clark et al., EMNLP 2019)."""

    name: Literal["product_of_experts"] = "product_of_experts"
    stop_gradient: bool = True
    """Whether the product's loss leaves the branch alone, which its own loss trains in any case."""


class LearnedMixinConfig(BranchedMethodConfig):
    """Learned-mixin (Clark et al., EMNLP 2019)."""

    name: Literal["learned_mixin"] = "learned_mixin"
    entropy_weight: Annotated[float, Field(ge=0)] = 0.03
    """Of the entropy of the biased distribution: the paper's on MNLI; 0 leaves it out."""


class BiasReweightConfig(BranchedMethodConfig):
    """Reweighting by the biased model (Clark et al., EMNLP 2019)."""

    name: Literal["bias_reweight"] = "bias_reweight"


class RubiConfig(BranchedMethodConfig):
    """RUBi (Cadene et al., NeurIPS 2019)."""

    name: Literal["rubi"] = "rubi"
    context_weight: Annotated[float, Field(ge=0)] = 1.0
    """Of the branch's own loss."""


class LearningFromFailureConfig(BranchedMethodConfig):
    """Learning from failure (Nam et al., NeurIPS 2020)."""

    name: Literal["learning_from_failure"] = "learning_from_failure"
    q: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Of the generalized cross-entropy: towards 0 it is the cross-entropy, at 1 the mean absolute error."""


class SubjectOnlyConfig(MethodConfig):
    """The backbone with every input blanked that shows the context."""

    name: Literal["subject_only"] = "subject_only"


class ContextSwapConfig(MethodConfig):
    """The backbone, in training with another's context for some of the people."""

    name: Literal["context_swap"] = "context_swap"
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    """With which a person's context is not his own."""
    mode: Literal["exchange", "drop"] = "exchange"
    """exchange: it is another's of the batch; drop: there is none."""


class MaskConfusionConfig(MethodConfig):
    """The human-mask confusion of SDN (Choi et al., NeurIPS 2019)."""

    name: Literal["mask_confusion"] = "mask_confusion"
    weight: Annotated[float, Field(ge=0)] = 1.0
    """Of the entropy of the prediction without the subject, which is maximized."""

    def blanks_subject(self, training: bool) -> bool:
        """Return True in training."""
        return training


class ClefAtTestConfig(MethodConfig):
    """The subtraction of a counterfactual from a trained vanilla cell, without any training."""

    name: Literal["clef_at_test"] = "clef_at_test"
    start_from: str = "@vanilla"
    """The folder of the trained vanilla cell; in a grid, @ and the name of its vanilla method."""
    candidates: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        default=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0), min_length=1
    )
    """The weights of the subtraction, of which the one is taken that scores best on val; of equal ones the first."""

    @property
    def parent(self) -> str:
        """Return the folder of the vanilla cell."""
        return self.start_from

    def blanks_subject(self, training: bool) -> bool:
        """Return True."""
        return True

    @property
    def is_fitted(self) -> bool:
        """Return True: the weight of the subtraction is."""
        return True

    def activation(self, single_label: bool) -> Activation | None:
        """Return None: a difference of logits states no probabilities."""
        return None


class CounterfactualConfig(Strict):
    """Y_e*, the logits that stand for a backbone that sees no subject."""

    initial: Literal["scalar", "vector", "prior", "random"] = "scalar"
    """scalar: one logit for all classes, 0; vector: one for each class, all 0; prior: each class's log odds in train;
    random: drawn from N(0, 1) for each class.
    """
    trainable: bool = True
    """False keeps them as they are initialized."""


class KlConfig(Strict):
    """The divergence between the factual and the counterfactual prediction (equation 13)."""

    weight: Annotated[float, Field(ge=0)] = 1.0
    trains: Literal["counterfactual", "everything"] = "counterfactual"
    """What its gradient reaches: Y_e* alone (the logits of backbone and context branch are constants), or all."""
    direction: Literal["factual_from_counterfactual", "counterfactual_from_factual"] = "factual_from_counterfactual"
    """KL(factual || counterfactual), or the reverse."""


class ClefConfig(MethodConfig):
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
    fusion: Literal["sum", "rubi", "hm", "product"] = "sum"
    """The fused logit z of Y_c and Y: Y_c + Y; Y sigmoid(Y_c); log p_c + log p; the log odds of p_c p, where p is the
    sigmoid. The first three are CF-VQA's (CVPR 2021); the paper takes the first (equation 11).
    """
    start_from: str | None = None
    """The folder of a trained vanilla cell whose backbone this one starts from; None trains jointly from the start."""
    backbone_trainable: bool = True
    """False keeps the backbone as `start_from` trained it, batch-norm statistics included."""

    @model_validator(mode="after")
    def _switches_agree(self) -> "ClefConfig":
        if not self.backbone_trainable and self.start_from is None:
            raise ValueError("backbone_trainable: false needs start_from, the trained vanilla cell")
        if self.counterfactual_loss_trains == "context_branch" and self.context_branch is None:
            raise ValueError("counterfactual_loss_trains: context_branch needs a context branch")
        if self.context_branch is None and self.fusion != "sum":
            raise ValueError(f"fusion: {self.fusion} needs a context branch")
        if not (self.backbone_trainable or self.context_branch or self.counterfactual.trainable):
            raise ValueError("backbone, context branch and Y_e*: one of them has to be trained")
        return self

    @property
    def branch(self) -> ContextBranchConfig | None:
        """Return N_C."""
        return self.context_branch

    @property
    def parent(self) -> str | None:
        """Return the folder of the vanilla cell that it starts from, if it does."""
        return self.start_from

    def activation(self, single_label: bool) -> Activation | None:
        """Return how the factual logits (Y_c + Y_e) state probabilities, as its loss takes them."""
        if single_label or self.multi_label == "softmax":
            squashed = self.single_label == "log_sigmoid" and self.fusion != "rubi"
            return "softmax_of_log_sigmoid" if squashed else "softmax"
        return "sigmoid"


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


class DictionaryMethodConfig(MethodConfig):
    """A method that clusters the masked train frames before it trains."""

    dictionary: DictionaryConfig = DictionaryConfig()

    @property
    def encoders(self) -> Mapping[str, EncoderConfig]:
        """Return the network whose features the dictionary is made of."""
        return {"dictionary": self.dictionary}

    @property
    def prepared_from(self) -> tuple[InputName, ...]:
        """Return the masked frame, of which the dictionary is made."""
        return ("context",)


class SceneAdversaryConfig(DictionaryMethodConfig):
    """The scene adversary of SDN (Choi et al., NeurIPS 2019), on clusters of contexts."""

    name: Literal["scene_adversary"] = "scene_adversary"
    alpha: Annotated[float, Field(ge=0)] = 1.0
    """What the reversed gradient is multiplied by; 0: the adversary only watches."""
    hidden_layers: Annotated[int, Field(ge=0)] = 3
    """Of the adversary, as wide as the joint feature."""


class CcimConfig(DictionaryMethodConfig):
    """Contextual causal intervention: backdoor adjustment over a dictionary of contexts (CCIM, CVPR 2023)."""

    name: Literal["ccim"] = "ccim"
    attention: Literal["dot_product", "additive"] = "dot_product"
    key_dim: Annotated[int, Field(ge=1)] = 256
    """d_n, of the queries and keys."""
    hidden_dim: Annotated[int, Field(ge=1)] = 128
    """d_m, the dimension in which the feature and the expected confounder are added."""


class CustomMethodConfig(MethodConfig):
    """A method of your own, `module:Class`."""

    options: dict[str, Any] = {}
    """Whatever it takes."""
    probabilities: bool = False
    """Whether its scores state probabilities: a softmax of one label, or a sigmoid of each of several labels. It
    changes no result, so it is no part of the signature.
    """

    def activation(self, single_label: bool) -> Activation | None:
        """Return how its scores state probabilities, if its config says that they do."""
        return super().activation(single_label) if self.probabilities else None


class MethodEntry(NamedTuple):
    """A method that ships with the package: its class as `module:Class`, and its config."""

    method: str
    config: type[MethodConfig] = MethodConfig


METHODS = {
    "vanilla": MethodEntry("clef.methods.baselines:Vanilla", VanillaConfig),
    "clef": MethodEntry("clef.methods.clef:Clef", ClefConfig),
    "ccim": MethodEntry("clef.methods.ccim:Ccim", CcimConfig),
    "product_of_experts": MethodEntry("clef.methods.product_of_experts:ProductOfExperts", ProductOfExpertsConfig),
    "learned_mixin": MethodEntry("clef.methods.learned_mixin:LearnedMixin", LearnedMixinConfig),
    "bias_reweight": MethodEntry("clef.methods.bias_reweight:BiasReweight", BiasReweightConfig),
    "rubi": MethodEntry("clef.methods.rubi:Rubi", RubiConfig),
    "learning_from_failure": MethodEntry(
        "clef.methods.learning_from_failure:LearningFromFailure", LearningFromFailureConfig
    ),
    "scene_adversary": MethodEntry("clef.methods.scene_adversary:SceneAdversary", SceneAdversaryConfig),
    "mask_confusion": MethodEntry("clef.methods.blanked_subject:MaskConfusion", MaskConfusionConfig),
    "clef_at_test": MethodEntry("clef.methods.blanked_subject:ClefAtTest", ClefAtTestConfig),
    "context_swap": MethodEntry("clef.methods.inputs:ContextSwap", ContextSwapConfig),
    "subject_only": MethodEntry("clef.methods.inputs:SubjectOnly", SubjectOnlyConfig),
    "context_only": MethodEntry("clef.methods.baselines:ContextOnly", ContextOnlyConfig),
}
"""The shipped methods by name."""

if TYPE_CHECKING:
    AnyMethodConfig = MethodConfig
else:
    AnyMethodConfig = tagged_union({name: entry.config for name, entry in METHODS.items()}, CustomMethodConfig)
