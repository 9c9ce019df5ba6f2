"""The control: the bare trunk, without attention."""

from attnviz.models.mechanism import MODELS, Mechanism

MODELS.register("none")(
    Mechanism(
        summary="the bare trunk, EfficientNet-Lite0: the control, without attention",
        source="Tan and Le, ICML 2019",
        install=lambda trunk: trunk,
        first_stage=6,
        attends=False,
    )
)
