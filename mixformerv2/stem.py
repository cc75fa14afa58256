"""The convolutional stem that may stand in place of the patch embedding.

Stages of inverted residual blocks without squeeze-and-excitation, as EfficientNet-lite has them
(Tan and Le, "EfficientNet", ICML 2019; the lite variant of TensorFlow's model zoo). Parameter names
are those of the package `efficientnet-lite-pytorch`, so its weights load unchanged. The stem's
output at stride 16 is projected to the transformer's width; with `ConvStem.fine`, features at
stride 8 are mixed in, four of them to a token.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_tracker.bundle.spec import ConvStem
from edge_tracker.rules.normalise import MEAN_RGB, STD_RGB

#: What the stem was trained on: (pixel - CENTRE) / SCALE, the same for each channel.
PIXEL_CENTRE = 127.0
PIXEL_SCALE = 128.0
BATCH_NORM_EPS = 1e-3
TOKEN_NORM_EPS = 1e-6
FINE_STRIDE = 8
#: Parts that lead from the stem to the transformer; all others are pre-trained.
OWN_PARTS = ("proj.", "fine.", "norm.")


class FixedBatchNorm(nn.Module):
    """Batch normalisation by the statistics it was trained with, in training too: batches of crops
    are no sample of what they were.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.running_mean: Tensor
        self.running_var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=BATCH_NORM_EPS
        )


class SamePadConv(nn.Conv2d):
    """Padded as TensorFlow does: at stride 2 a pixel more on the right and below.

    Exact for sizes that the stride divides, which those of stems are.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        padding = self.kernel_size[0] - self.stride[0]
        low, high = padding // 2, padding - padding // 2
        return super().forward(F.pad(x, (low, high, low, high)) if padding else x)


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self._expand_conv = SamePadConv(inputs, hidden, 1, 1) if expansion > 1 else None
        self._bn0 = FixedBatchNorm(hidden) if expansion > 1 else None
        self._depthwise_conv = SamePadConv(hidden, hidden, kernel, stride, groups=hidden)
        self._bn1 = FixedBatchNorm(hidden)
        self._project_conv = SamePadConv(hidden, outputs, 1, 1)
        self._bn2 = FixedBatchNorm(outputs)
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self._expand_conv is not None and self._bn0 is not None:
            y = F.relu6(self._bn0(self._expand_conv(y)))
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.skips else y

    @property
    def normalised(self) -> list[tuple[str, str]]:
        """Names of the convolutions, and of the normalisation behind each."""
        last = [("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
        return last if self._expand_conv is None else [("_expand_conv", "_bn0"), *last]


class StemEmbed(nn.Module):
    """(B, 3, height, width) normalised RGB -> (B, tokens in row-major order, C)."""

    def __init__(self, stem: ConvStem, width: int) -> None:
        super().__init__()
        self.stem = SamePadConv(3, stem.channels, 3, 2)
        self.bn0 = FixedBatchNorm(stem.channels)
        blocks = []
        channels, stride = stem.channels, 2
        self._fine_after = -1
        for stage in stem.stages:
            stride *= stage.stride
            for number in range(stage.blocks):
                blocks.append(
                    InvertedResidual(
                        channels,
                        stage.channels,
                        stage.expansion,
                        stage.kernel_px,
                        stage.stride if number == 0 else 1,
                    )
                )
                channels = stage.channels
            if stride == FINE_STRIDE:
                self._fine_after = len(blocks) - 1
        self.blocks = nn.ModuleList(blocks)
        self.proj = nn.Conv2d(channels, width, 1)
        self.fine = nn.Conv2d(stem.fine_channels, width, 2, 2, bias=False) if stem.fine else None
        if self.fine is not None:
            # Weights trained without it start as what they were.
            nn.init.zeros_(self.fine.weight)
        self.norm = nn.LayerNorm(width, eps=TOKEN_NORM_EPS)
        # On the CPU also where a network is only outlined: arithmetic on "meta" loads TorchDynamo.
        mean, std = (torch.tensor(v, device="cpu").view(3, 1, 1) for v in (MEAN_RGB, STD_RGB))
        self.register_buffer("_gain", std * 255 / PIXEL_SCALE, persistent=False)
        self.register_buffer("_shift", (mean * 255 - PIXEL_CENTRE) / PIXEL_SCALE, persistent=False)
        self._gain: Tensor | None
        self._shift: Tensor

    def forward(self, image: Tensor) -> Tensor:
        x, fine = self._stages(image)
        x = self.proj(x)
        if fine is not None and self.fine is not None:
            x = x + self.fine(fine)
        return self.norm(_as_tokens(x))

    def features(self, image: Tensor) -> Tensor:
        """What the pre-trained stages say of an image, (B, tokens, F): all that `from_features`
        needs. F holds the channels at stride 16, then those of the four places at stride 8.
        """
        x, fine = self._stages(image)
        features = [x] if fine is None else [x, F.pixel_unshuffle(fine, 2)]
        return _as_tokens(torch.cat(features, dim=1))

    def from_features(self, features: Tensor) -> Tensor:
        """(B, tokens, F) -> (B, tokens, C), as `forward` of the image."""
        weights = [conv.weight.flatten(1) for conv in (self.proj, self.fine) if conv is not None]
        return self.norm(F.linear(features, torch.cat(weights, dim=1), self.proj.bias))

    def pretrained_state(self) -> dict[str, Tensor]:
        """Weights and statistics of the pre-trained stages, by their names in here."""
        state = self.state_dict()
        return {name: t for name, t in state.items() if not name.startswith(OWN_PARTS)}

    def _stages(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """-> channels at stride 16, and at stride 8 where they are mixed in."""
        x = image if self._gain is None else image * self._gain
        x = F.relu6(self.bn0(self.stem(x + self._shift)))
        fine = None
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number == self._fine_after:
                fine = x
        return x, fine if self.fine is not None else None

    def fold(self) -> None:
        """In place, exact: batch normalisation into the convolution before it, and the first one
        takes pixels 0..255 in BGR order.
        """
        followed_by: list[tuple[nn.Module, str, str]] = [(self, "stem", "bn0")]
        for block in self.blocks:
            assert isinstance(block, InvertedResidual)
            followed_by += [(block, conv, norm) for conv, norm in block.normalised]
        for owner, conv, norm in followed_by:
            _fuse(getattr(owner, conv), getattr(owner, norm))
            setattr(owner, norm, nn.Identity())
        with torch.no_grad():
            self.stem.weight.copy_(self.stem.weight.flip(1) / PIXEL_SCALE)
        # The stem pads with zeros behind this shift, so it cannot go into the bias.
        self._gain = None
        self._shift = self._shift.new_tensor(-PIXEL_CENTRE)


def _fuse(conv: nn.Conv2d, norm: FixedBatchNorm) -> None:
    with torch.no_grad():
        gain = norm.weight.double() / (norm.running_var.double() + BATCH_NORM_EPS).sqrt()
        bias = norm.bias.double() - norm.running_mean.double() * gain
        conv.weight.copy_(conv.weight.double() * gain.view(-1, 1, 1, 1))
        conv.bias = nn.Parameter(bias.to(conv.weight.dtype))


def _as_tokens(maps: Tensor) -> Tensor:
    """(B, C, height, width) -> (B, tokens in row-major order, C)."""
    return maps.reshape(-1, maps.shape[1], maps.shape[2] * maps.shape[3]).transpose(1, 2)
