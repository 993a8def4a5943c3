"""Networks of the paper's size for the benchmarks, untrained: what they cost is real, what they say is not."""

from __future__ import annotations

from diga.models.deeplab import DeepLab


class PaperSize(DeepLab):
    """The authors' DeepLab on ResNet-101, 65 M weights: D = 256 at output stride 8."""

    def __init__(self, classes: int = 19) -> None:
        super().__init__(classes, dropped=True)
