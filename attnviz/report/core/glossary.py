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
    "top_mass": Meaning(
        "Mass of the top tenth",
        "Share of the strength that the strongest tenth of the entries holds: 0.1 all alike, 1 they hold everything.",
        "That the other entries can be left out without harm.",
    ),
    "margin": Meaning(
        "Margin",
        "How far the most probable answer leads: its probability less that of the second.",
        "That the answer is right. A model may be sure and wrong.",
    ),
    "entropy": Meaning(
        "Entropy of the answer",
        "How evenly the probabilities are spread over all classes: 0 one class has all, 1 all classes the same.",
        "How often the model is right when it looks so: probabilities need not be calibrated.",
    ),
    "insertion": Meaning(
        "Insertion",
        "Mean probability of the class while the map's strongest pixels appear in a blurred image. High is better.",
        "That the map is the only good one; and a sure answer has a high value whatever the map.",
    ),
    "deletion": Meaning(
        "Deletion",
        "Mean probability of the class while the map's strongest pixels are taken out first. Low is better.",
        "Importance alone: holes are something that the model never saw, and may mislead it.",
    ),
    "average_drop": Meaning(
        "Average drop",
        "Share of the probability that is lost when the image is seen through its map. Low is better.",
        "That the map is small: one that shows everything loses nothing.",
    ),
    "average_increase": Meaning(
        "Increase of confidence",
        "How often the answer is more probable when the image is seen through its map. High is better.",
        "How much it gains.",
    ),
    "comprehensiveness": Meaning(
        "Comprehensiveness",
        "How much of the probability goes with the strongest pixels. High is better.",
        "That what is left would not do: there may be two reasons for one answer.",
    ),
    "sufficiency": Meaning(
        "Sufficiency",
        "How much of the probability is missing when the strongest pixels are all that is left. Low is better.",
        "That they are needed.",
    ),
    "pointing": Meaning(
        "Pointing game",
        "Whether the map's strongest place is on the object.",
        "That the rest of the map is.",
    ),
    "energy": Meaning(
        "Energy on the object",
        "Share of the map's positive values that is on the object: by chance as large as the object.",
        "That the model uses it.",
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
    "cam": Meaning(
        "CAM",
        "Where the last feature maps hold what the class's own weights look for.",
        "Fine detail: it is as coarse as those feature maps.",
    ),
    "gradcam++": Meaning(
        "Grad-CAM++",
        "As Grad-CAM, with places weighted so that several or small objects count as much as one large one.",
        "A count of objects, or fine detail.",
    ),
    "hirescam": Meaning(
        "HiResCAM",
        "Features times the class's gradient, place by place: only places that the score used are shown.",
        "Fine detail: it is as coarse as the feature maps.",
    ),
    "xgradcam": Meaning(
        "XGrad-CAM",
        "Where the last feature maps speak for the class, each channel weighted by its gradient where it is active.",
        "Fine detail: it is as coarse as the feature maps.",
    ),
    "layercam": Meaning(
        "Layer-CAM",
        "Features times the class's positive gradient, place by place; also fit for earlier, finer layers.",
        "What speaks against the class: negative gradients are left out.",
    ),
    "eigencam": Meaning(
        "EigenCAM",
        "What the feature maps of a layer have most in common.",
        "Anything about the class: it is the same for every target.",
    ),
    "scorecam": Meaning(
        "Score-CAM",
        "Feature maps weighted by how probable the class stays when only what each shows is left.",
        "A map free of the hiding: what is hidden is something that the model never saw in training.",
    ),
    "ablationcam": Meaning(
        "Ablation-CAM",
        "Feature maps weighted by how far the score falls when each is switched off.",
        "What several channels do together: each is switched off alone.",
    ),
    "vargrad": Meaning(
        "VarGrad",
        "How much the gradient varies between noisy copies of the photograph.",
        "Direction: a high value says that the slope is unsteady there, for or against the class.",
    ),
    "input_x_gradient": Meaning(
        "Input × gradient",
        "The gradient times the pixel: a first guess of each pixel's share of the score.",
        "A share of the answer for dark pixels: what is at the mean colour gets nothing.",
    ),
    "gradient_shap": Meaning(
        "GradientSHAP",
        "Each pixel's expected share of the score, over noisy photographs and blank ones.",
        "Exact Shapley values: it assumes that pixels add up.",
    ),
    "deeplift": Meaning(
        "DeepLIFT",
        "Each pixel's share of the difference to a blank image, by differences of activations.",
        "Independent of the blank image, or defined for every network.",
    ),
    "guided_backprop": Meaning(
        "Guided Backprop",
        "The gradient, with only positive slopes of open ReLUs going on: what excites the class.",
        "Evidence for this class: it looks much alike for every class and follows edges.",
    ),
    "guided_gradcam": Meaning(
        "Guided Grad-CAM",
        "Guided Backprop inside the places of Grad-CAM.",
        "Fine evidence: the detail comes from Guided Backprop, which hardly depends on the class.",
    ),
    "deconvolution": Meaning(
        "Deconvnet",
        "The gradient, with only positive slopes going on through each ReLU.",
        "Evidence for this class: it is mostly a picture of what the network can see.",
    ),
    "occlusion": Meaning(
        "Occlusion",
        "How far the score falls when a patch is covered.",
        "What patches do together; and a covered patch is something that the model never saw.",
    ),
    "feature_ablation": Meaning(
        "Feature ablation",
        "How far the score falls when a region is covered.",
        "What regions do together, or anything finer than a region.",
    ),
    "lime": Meaning(
        "LIME",
        "Which regions a linear stand-in for the model finds important, fitted to photographs with regions covered.",
        "The model itself: it is a stand-in, and depends on how regions are cut.",
    ),
    "kernel_shap": Meaning(
        "KernelSHAP",
        "Each region's Shapley value, estimated from photographs with regions covered.",
        "Exact values: they are estimated from few of the many coverings.",
    ),
    "lrp": Meaning(
        "LRP",
        "The score handed back from layer to layer, by what each unit contributed.",
        "Unique: other rules hand it back otherwise.",
    ),
    "rise": Meaning(
        "RISE",
        "How probable the class is on average while a place is left uncovered by random masks.",
        "Fine detail: it is as coarse as the masks, and noisy with few of them.",
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
    "sampling of all layers together": Meaning(
        "receptive field",
        "How often each place is read through all sampling layers; 1 is what it would be were all places read alike.",
        "What was made of what was read; weights, shortcuts and the layers between are left out.",
    ),
    "spatial gates together": Meaning(
        "spatial gates together",
        "All spatial gates as votes: at each place, the sum of their log-odds. Above 0 they are rather open together.",
        "Importance for the target class, or the share of features that passes: it is a vote, not a product.",
    ),
}

JOINED = {"joint-log-odds": "spatial", "rollout": "pairwise", "receptive-field": "sampling"}
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
