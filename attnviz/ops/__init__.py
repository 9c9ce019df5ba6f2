"""The native deformable sampler.

One set of operators, with kernels for CPUs (C++) and GPUs (Triton) and a reference in plain torch. See
``docs/explanation/sampler.md``.
"""

from attnviz.ops.functional import bilinear_splat, deform_conv2d, deform_sample, ms_deform_attn
from attnviz.ops.kernel_status import kernels, self_test
from attnviz.ops.modules import DeformConv2d, MSDeformAttn
from attnviz.ops.native import use_kernel
from attnviz.ops.replace import replace_deform_conv

__all__ = [
    "DeformConv2d",
    "MSDeformAttn",
    "bilinear_splat",
    "deform_conv2d",
    "deform_sample",
    "kernels",
    "ms_deform_attn",
    "replace_deform_conv",
    "self_test",
    "use_kernel",
]
