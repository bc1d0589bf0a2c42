"""PixelCNN: section 3.3 and figure 5 of Pixel Recurrent Neural Networks (arXiv 1601.06759).

The feed-forward baseline: masked convolutions with a bounded field of view in place of a recurrent state. Stacked 3x3
convolutions never see a region to the upper right, the "blind spot" (van den Oord et al. 2016, arXiv 1606.05328, figure
1).
"""

from torch import Tensor, nn

from pixelrnn.layers.masked_convolution import MaskedConv2d


class BottleneckConvolution(nn.Module):
    """The residual block of figure 5 up to its last convolution: 1x1 to half the width, then 3x3, all with mask B.

    Args:
        features: Input features, in one group for each channel of the image.
        hidden_channels: h, the width of the output.
        channels: Of the image.
    """

    def __init__(self, features: int, hidden_channels: int, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            MaskedConv2d(features, hidden_channels, 1, "B", channels),
            nn.ReLU(),
            MaskedConv2d(hidden_channels, hidden_channels, 3, "B", channels),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, features, H, W) to (B, h, H, W)."""
        return self.layers(x)
