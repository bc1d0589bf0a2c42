"""PixelCNN: section 3.3 and figure 5 of Pixel Recurrent Neural Networks (arXiv 1601.06759).

The feed-forward baseline: masked convolutions with a bounded field of view instead of a recurrent state. Stacked 3x3
convolutions never see a region to the upper right, the "blind spot" (van den Oord et al. 2016, arXiv 1606.05328, figure
1).
"""

from torch import Tensor, nn

from pixelrnn.layers.masked_convolution import MaskedConv2d


class BottleneckConvolution(nn.Module):
    """The residual block of figure 5 without its last convolution: 1x1 to half the width, then 3x3, both with mask B.

    Args:
        features: Number of input features, divided into one group per channel of the image.
        hidden_channels: Number of output features h.
        channels: Number of channels of the image.
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
