"""What each number, map and kind of attention means, and what it does not mean: the words of every report."""

from __future__ import annotations

from typing import NamedTuple


class Meaning(NamedTuple):
    """How to read something.

    Attributes:
        title: What people call it.
        means: What it says.
        not_means: What it is often taken for, and does not say.
    """

    title: str
    means: str
    not_means: str


MEASURES: dict[str, Meaning] = {
    "spearman": Meaning(
        "Spearman correlation",
        "Whether two maps rank the places alike, by strength: 1 the same order, 0 unrelated, −1 reversed. Scale does "
        "not matter, and of a map with both signs the sizes count.",
        "That either map is right, as both may follow the contrast of the photograph; or that signs agree.",
    ),
    "ssim": Meaning(
        "SSIM",
        "Whether the strengths of two maps, each scaled to [0, 1], have the same local structure: 1 identical, about 0 "
        "unrelated.",
        "That they agree on what matters most: two maps that are flat almost everywhere are already similar.",
    ),
    "topk_iou": Meaning(
        "Overlap of the top 20 %",
        "Intersection over union of the 20 % strongest places of each map, whatever their sign: 1 the same places, "
        "about 0.11 by chance, 0 none in common.",
        "That the object was found. It compares two maps with each other, never with the object.",
    ),
    "hoyer": Meaning(
        "Hoyer",
        "Sparsity from the ratio of the L1 to the L2 norm: 0 all entries equal in size, 1 a single entry.",
        "That the zeros are in sensible places, or that pruning them is harmless.",
    ),
    "gini": Meaning(
        "Gini",
        "Inequality of the sizes of the entries: 0 all equal, towards 1 a few hold everything.",
        "A share of zeros: a map without any zero can have a high Gini index.",
    ),
    "normalised_entropy": Meaning(
        "Entropy",
        "How evenly the sizes of the entries are spread, as a share of the most that is possible: 1 even, 0 one entry.",
        "Uncertainty of the model about its answer.",
    ),
    "near_zero_share": Meaning(
        "Near zero",
        "Share of entries that are small beside the largest.",
        "Computation saved: the model computes these entries all the same.",
    ),
}

METHODS: dict[str, Meaning] = {
    "gradcam": Meaning(
        "Grad-CAM",
        "Where the last feature maps speak for the target class: their channels weighted by the class's gradient, "
        "positive part.",
        "Fine detail: it is as coarse as those feature maps, and enlarged.",
    ),
    "saliency": Meaning(
        "Saliency",
        "Where the smallest change of a pixel changes the target's score most: absolute gradient.",
        "Which pixels the answer rests on. It is a local slope, noisy, and often follows edges.",
    ),
    "integrated_gradients": Meaning(
        "Integrated Gradients",
        "How much each pixel adds to the target's score on a straight path from a baseline to the photograph; "
        "negative values speak against the target.",
        "Independent of the baseline: pixels that look like the baseline get nothing, however much they matter.",
    ),
    "smoothgrad": Meaning(
        "SmoothGrad",
        "The gradient averaged over noisy copies of the photograph: saliency with its noise smoothed away.",
        "An explanation of this exact photograph alone: it describes its noisy neighbourhood.",
    ),
    "gradient_rollout": Meaning(
        "Gradient rollout",
        "How much of what speaks for the target class reaches the class token through the attention of all layers.",
        "Everything that carries the answer: values, MLPs and normalisation are left out.",
    ),
    "legrad": Meaning(
        "LeGrad",
        "Where the target's score would rise if the place received more attention, over all layers.",
        "What the model attends to: it is a slope, and may be high where there is little attention.",
    ),
    "attention of all layers together": Meaning(
        "rollout",
        "How much of each place reaches the class token, or all tokens, if layers were attention and shortcuts alone.",
        "Importance for the target class; values, MLPs and normalisation are left out.",
    ),
    "spatial gates together": Meaning(
        "spatial gates together",
        "All spatial gates as votes: at each place, the sum of their log-odds. Above 0 they are rather open together.",
        "Importance for the target class, or the share of features that passes: it is a vote, not a product.",
    ),
}

JOINED = {"joint-log-odds": "spatial", "rollout": "pairwise"}
"""Maps of several sites at once, and the kind that they are shown with."""

KINDS: dict[str, Meaning] = {
    "channel": Meaning(
        "channel gate",
        "One weight for each channel. It cannot look at a place: the map shows where the channels that it lets "
        "through are active.",
        "That the module looks there: every position is multiplied by the same weights.",
    ),
    "spatial": Meaning(
        "spatial gate",
        "One weight for each position, shown as it is: where features are let through.",
        "Importance for the target class: the gate does not know which class is asked about.",
    ),
    "dense": Meaning(
        "dense gate",
        "One weight for each channel and position; the map shows how strongly each position is changed.",
        "A single place of attention: channels may attend to different places.",
    ),
    "branch": Meaning("branch weights", "How branches are mixed, for each channel.", "A place in the picture."),
    "temporal": Meaning("temporal weights", "How frames are weighed.", "A place in a frame."),
    "pairwise": Meaning(
        "pairwise attention",
        "How much each position takes from each other one.",
        "Flow through the whole network: values and residual paths are not in it.",
    ),
    "pooling": Meaning(
        "attention pooling", "Which positions make up the pooled context.", "That each position is changed differently."
    ),
    "sampling": Meaning("sampling", "Where features are read from.", "How much each of them matters."),
}


def measure(name: str, higher_is: str) -> Meaning:
    """The meaning of a measure; of one that registered itself later, what it says of itself."""
    return MEASURES.get(name) or Meaning(_title(name), f"Higher is {higher_is}.", "Anything that it was not made for.")


def method(name: str) -> Meaning:
    """The meaning of an attribution method or of a projection."""
    return METHODS.get(name) or Meaning(_title(name), "", "")


def kind(name: str) -> Meaning:
    """The meaning of a kind of attention."""
    return KINDS.get(name) or Meaning(_title(name), "", "")


def _title(name: str) -> str:
    return name.replace("_", " ").replace("-", " ")
