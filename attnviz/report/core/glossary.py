"""Meaning of each measure, method and kind of attention in a report, and what it does not mean."""

from __future__ import annotations

from typing import NamedTuple


class Meaning(NamedTuple):
    """How to interpret a number or a map.

    Attributes:
        title: Display name.
        means: What it says.
        not_means: What it is often taken for but does not say.
    """

    title: str
    means: str
    not_means: str


MEASURES: dict[str, Meaning] = {
    "spearman": Meaning(
        "Spearman correlation",
        "Whether two maps rank the positions alike by strength: 1 for the same order, 0 for unrelated maps, −1 for the "
        "reverse order. Scale does not matter. For a map with both signs, absolute values are ranked.",
        "That either map is right, since both can follow the contrast of the image; or that signs agree.",
    ),
    "ssim": Meaning(
        "SSIM",
        "Whether the strengths of two maps, each scaled to [0, 1], have the same local structure: 1 if identical, "
        "about 0 if unrelated.",
        "That they agree on what matters most: two maps that are flat almost everywhere are similar already.",
    ),
    "topk_iou": Meaning(
        "Overlap of the top 20 %",
        "Intersection over union of the 20 % strongest positions of each map, regardless of sign: 1 for the same "
        "positions, about 0.11 by chance, 0 for none in common.",
        "That the object was found. It compares two maps with each other, never with the object.",
    ),
    "hoyer": Meaning(
        "Hoyer",
        "Sparsity from the ratio of the L1 to the L2 norm: 0 if all entries have the same size, 1 for a single entry.",
        "That the zeros are at sensible positions, or that pruning them is harmless.",
    ),
    "gini": Meaning(
        "Gini",
        "Inequality of the sizes of the entries: 0 if all are equal, close to 1 if a few hold everything.",
        "A share of zeros: a map without any zero can have a high Gini index.",
    ),
    "normalised_entropy": Meaning(
        "Entropy",
        "How evenly the sizes of the entries are spread, as a share of the maximum: 1 if even, 0 for one entry.",
        "Uncertainty of the model about its prediction.",
    ),
    "near_zero_share": Meaning(
        "Near zero",
        "Share of entries that are small compared with the largest.",
        "Computation saved: the model computes these entries all the same.",
    ),
    "top_mass": Meaning(
        "Mass of the top tenth",
        "Share of the strength that the strongest tenth of the entries holds: 0.1 if all are equal, 1 if they hold "
        "everything.",
        "That the other entries can be removed without harm.",
    ),
    "margin": Meaning(
        "Margin",
        "Difference between the probabilities of the most probable class and the second.",
        "That the prediction is right. A confident prediction can be wrong.",
    ),
    "entropy": Meaning(
        "Entropy of the prediction",
        "How evenly the probabilities are spread over all classes: 0 if one class has all, 1 if all are equal.",
        "How often the model is right at this entropy: probabilities need not be calibrated.",
    ),
    "insertion": Meaning(
        "Insertion",
        "Mean probability of the class while the map's strongest pixels appear in a blurred image. High is better.",
        "That the map is the only good one. A confident prediction has a high value with any map.",
    ),
    "deletion": Meaning(
        "Deletion",
        "Mean probability of the class while the map's strongest pixels are removed first. Low is better.",
        "Importance only: images with holes were not in the training data, which can change the prediction by itself.",
    ),
    "average_drop": Meaning(
        "Average drop",
        "Share of the probability that is lost when the image is masked by its map. Low is better.",
        "That the map is small: one that shows everything loses nothing.",
    ),
    "average_increase": Meaning(
        "Increase of confidence",
        "How often the predicted class is more probable when the image is masked by its map. High is better.",
        "How much it gains.",
    ),
    "comprehensiveness": Meaning(
        "Comprehensiveness",
        "How much of the probability is lost with the strongest pixels. High is better.",
        "That the remaining pixels are not sufficient: there can be two reasons for one prediction.",
    ),
    "sufficiency": Meaning(
        "Sufficiency",
        "How much of the probability is lost when only the strongest pixels remain. Low is better.",
        "That they are needed.",
    ),
    "pointing": Meaning(
        "Pointing game",
        "Whether the map's strongest position is on the object.",
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
        "Where the last feature maps support the target class: the positive part of their channels weighted by the "
        "gradient of the class.",
        "Fine detail: it has the resolution of those feature maps, and is enlarged.",
    ),
    "saliency": Meaning(
        "Saliency",
        "Where a small change of a pixel changes the target's score most: the absolute gradient.",
        "Which pixels the prediction depends on. It is a local slope, noisy, and often follows edges.",
    ),
    "integrated_gradients": Meaning(
        "Integrated Gradients",
        "How much each pixel adds to the target's score on a straight path from a baseline to the image. Negative "
        "values are evidence against the target.",
        "Independence of the baseline: pixels that equal the baseline get nothing, however important they are.",
    ),
    "smoothgrad": Meaning(
        "SmoothGrad",
        "The gradient averaged over noisy copies of the image: saliency with less noise.",
        "An explanation of exactly this image: it describes its noisy neighbourhood.",
    ),
    "cam": Meaning(
        "CAM",
        "Where the last feature maps match the classifier's weights of the class.",
        "Fine detail: it has the resolution of those feature maps.",
    ),
    "gradcam++": Meaning(
        "Grad-CAM++",
        "As Grad-CAM, with positions weighted so that several or small objects count as much as one large object.",
        "A count of objects, or fine detail.",
    ),
    "hirescam": Meaning(
        "HiResCAM",
        "Features times the gradient of the class, position by position: only positions that contribute to the score.",
        "Fine detail: it has the resolution of the feature maps.",
    ),
    "xgradcam": Meaning(
        "XGrad-CAM",
        "Where the last feature maps support the class, each channel weighted by its gradient where it is active.",
        "Fine detail: it has the resolution of the feature maps.",
    ),
    "layercam": Meaning(
        "Layer-CAM",
        "Features times the positive gradient of the class, position by position. It also suits earlier, finer layers.",
        "Evidence against the class: negative gradients are left out.",
    ),
    "eigencam": Meaning(
        "EigenCAM",
        "The first principal component of a layer's feature maps.",
        "Anything about the class: it is the same for every target.",
    ),
    "scorecam": Meaning(
        "Score-CAM",
        "Feature maps weighted by the probability of the class when the image is masked by each of them.",
        "Independence of the masking: masked images were not in the training data.",
    ),
    "ablationcam": Meaning(
        "Ablation-CAM",
        "Feature maps weighted by how far the score falls when each is set to 0.",
        "Joint effects of channels: each is removed separately.",
    ),
    "vargrad": Meaning(
        "VarGrad",
        "How much the gradient varies between noisy copies of the image.",
        "Direction: a high value says that the slope varies there, for or against the class.",
    ),
    "input_x_gradient": Meaning(
        "Input × gradient",
        "The gradient times the pixel: a first-order estimate of each pixel's share of the score.",
        "The importance of all pixels: a pixel of the mean colour gets nothing.",
    ),
    "gradient_shap": Meaning(
        "GradientSHAP",
        "Each pixel's expected share of the score, over noisy images and blank ones.",
        "Exact Shapley values: it assumes that pixels add up.",
    ),
    "deeplift": Meaning(
        "DeepLIFT",
        "Each pixel's share of the score's difference to a blank image, from differences of activations.",
        "Independence of the blank image. It is not defined for every network.",
    ),
    "guided_backprop": Meaning(
        "Guided Backprop",
        "The gradient, with only positive gradients passed through active ReLUs.",
        "Evidence for this class: it is similar for every class and follows edges.",
    ),
    "guided_gradcam": Meaning(
        "Guided Grad-CAM",
        "Guided Backprop multiplied by Grad-CAM.",
        "Fine evidence: the detail comes from Guided Backprop, which hardly depends on the class.",
    ),
    "deconvolution": Meaning(
        "Deconvnet",
        "The gradient, with only positive gradients passed through each ReLU.",
        "Evidence for this class: it mostly reconstructs the image.",
    ),
    "occlusion": Meaning(
        "Occlusion",
        "How far the score falls when a patch is covered.",
        "Joint effects of patches. Images with covered patches were not in the training data.",
    ),
    "feature_ablation": Meaning(
        "Feature ablation",
        "How far the score falls when a region is covered.",
        "Joint effects of regions, or anything finer than a region.",
    ),
    "lime": Meaning(
        "LIME",
        "Coefficients of a linear surrogate model, fitted to images with regions covered.",
        "The model itself: it describes a surrogate, and depends on the segmentation into regions.",
    ),
    "kernel_shap": Meaning(
        "KernelSHAP",
        "Each region's Shapley value, estimated from images with regions covered.",
        "Exact values: they are estimated from a sample of the possible coverings.",
    ),
    "lrp": Meaning(
        "LRP",
        "The score propagated back from layer to layer in proportion to the contribution of each unit.",
        "A unique result: other propagation rules give other maps.",
    ),
    "rise": Meaning(
        "RISE",
        "Mean probability of the class over the random masks that leave a position uncovered.",
        "Fine detail: it has the resolution of the masks, and is noisy with few of them.",
    ),
    "gradient_rollout": Meaning(
        "Gradient rollout",
        "How much evidence for the target class reaches the class token through the attention of all layers.",
        "Everything that determines the prediction: values, MLPs and normalisation are left out.",
    ),
    "legrad": Meaning(
        "LeGrad",
        "Where the target's score would rise if the position received more attention, over all layers.",
        "Where attention is strong: it is a slope, and can be high where there is little attention.",
    ),
    "attention of all layers together": Meaning(
        "rollout",
        "How much of each position reaches the class token, or all tokens, if layers had only attention and shortcuts.",
        "Importance for the target class; values, MLPs and normalisation are left out.",
    ),
    "sampling of all layers together": Meaning(
        "receptive field",
        "How often each position is sampled through all sampling layers; 1 if all positions are sampled equally.",
        "Importance: weights, shortcuts and the layers in between are left out.",
    ),
    "spatial gates together": Meaning(
        "spatial gates together",
        "The sum of the log-odds of all spatial gates at each position. Above 0, the gates are more open than closed.",
        "Importance for the target class, or the share of features that passes: it is a sum, not a product.",
    ),
}

JOINED = {"joint-log-odds": "spatial", "rollout": "pairwise", "receptive-field": "sampling"}
"""Projection of several sites -> the kind of attention that its map is grouped with."""

KINDS: dict[str, Meaning] = {
    "channel": Meaning(
        "channel gate",
        "One weight for each channel. The map shows where the channels with large weights are active.",
        "That the module attends to a position: every position is multiplied by the same weights.",
    ),
    "spatial": Meaning(
        "spatial gate",
        "One weight for each position: where features pass.",
        "Importance for the target class: the gate does not depend on the target.",
    ),
    "dense": Meaning(
        "dense gate",
        "One weight for each channel and position; the map shows how strongly each position is changed.",
        "A single position of attention: channels can attend to different positions.",
    ),
    "branch": Meaning("branch weights", "The weights of the branches, for each channel.", "A position in the image."),
    "temporal": Meaning("temporal weights", "The weights of the frames.", "A position in a frame."),
    "pairwise": Meaning(
        "pairwise attention",
        "How much each position takes from every other position.",
        "Flow through the whole network: values and residual paths are left out.",
    ),
    "pooling": Meaning(
        "attention pooling",
        "How much each position contributes to the pooled context.",
        "That each position is changed differently.",
    ),
    "sampling": Meaning("sampling", "Where features are sampled.", "How important each of them is."),
}


def measure(name: str, higher_is: str) -> Meaning:
    """Return the meaning of a measure; for one without an entry, its direction only."""
    return MEASURES.get(name) or Meaning(_title(name), f"Higher is {higher_is}.", "Anything else.")


def method(name: str) -> Meaning:
    """Return the meaning of an attribution method or a projection."""
    return METHODS.get(name) or Meaning(_title(name), "", "")


def kind(name: str) -> Meaning:
    """Return the meaning of a kind of attention."""
    return KINDS.get(name) or Meaning(_title(name), "", "")


def _title(name: str) -> str:
    return name.replace("_", " ").replace("-", " ")
