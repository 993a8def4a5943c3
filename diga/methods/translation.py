"""Painting source images in the target's style: the adversarial cycle of DiGA, and three closed forms.

Each leaves a painter: a function of a source batch and chance that gives its images (B, 3, H, W) translated.

Departures of the translator from the authors': images are RGB in [0, 1], not BGR around zero, so that
tanh became a sigmoid and L1 terms are about half as large; VGG19 is given images normalised as ImageNet's,
unless `perceptual_inputs` says otherwise; its term, theirs with a weight of 0.1, is off without its weights.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from diga import ops
from diga.errors import ConfigError
from diga.settings import Count, Plan, Weight
from diga.stage import Draws, Painting, Training

if TYPE_CHECKING:
    from torch import Tensor, nn

    from diga.engine.run import Run
    from diga.models.translator import Generator
    from diga.ops.chance import Chance
    from diga.recipe import Recipe
    from diga.stage import Painter
    from diga.types import Batch, Losses, Pair, Updates

STEP = 4  # a generator halves its images twice: sides are multiples of this
JUDGED = 16  # pixels a side that the smallest of a judge's scales needs: it halves them four times


class Translator(Training, Painting):
    """Two encoders, two decoders, two judges: least-squares adversarial, cycle, self, edge and perceptual terms."""

    adversarial: Weight = 0.5
    cycle: Weight = 10.0
    own: Weight = Field(0.001, description="of same-domain reconstruction; 0.025 for SYNTHIA")
    edge: Weight = Field(20.0, description="of keeping a source image along the edges of its label")
    perceptual: Weight = Field(0.0, description="of keeping what VGG19 sees in an image; the authors: 0.1")
    perceptual_weights: str = Field(
        "", max_length=400, validate_default=True, description="file of VGG19's ImageNet weights under the data root"
    )
    perceptual_inputs: Literal["imagenet", "legacy"] = Field(
        "imagenet", description="what VGG19 is given: what its weights were trained on, or BGR values as the authors'"
    )
    width: Count = Field(64, description="channels of the first layer")
    blocks: Count = Field(4, description="residual blocks of an encoder, and of a decoder")
    scales: Annotated[int, Field(ge=1, le=12)] = Field(3, description="of each judge; each needs crops twice as large")
    plan: Plan = Plan(steps=50_000, optimizer="adam", lr=1e-4, momentum=0.5, weight_decay=0.0, head=1.0, snapshots=1)

    @field_validator("perceptual_weights")
    @classmethod
    def _named(cls, file: str, others: ValidationInfo) -> str:
        if others.data.get("perceptual") and not file:
            weight = others.data["perceptual"]
            raise ValueError(f"found none with perceptual={weight:g}, expected a file of VGG19's ImageNet weights")
        return file

    def files(self, recipe: Recipe) -> tuple[str, ...]:
        """The weights of the perceptual term, if it counts; those of a segmenter's backbone are not read."""
        return (self.perceptual_weights,) if self.perceptual else ()

    def draws(self, recipe: Recipe) -> Draws:
        """As every training.  Raises ConfigError for crops that the judges or the generator cannot take."""
        name = next((k for k, stage in recipe.stages.items() if stage is self), type(self).__name__)
        crop = "a crop of {} x {} pixels".format(*recipe.crop)
        if min(recipe.crop) < (least := least_side(self.scales)):
            raise ConfigError(f"{name}.scales", f"{self.scales} for {crop}", f"fewer, or sides of {least} at least")
        if any(side % STEP for side in recipe.crop):
            raise ConfigError("crop", f"{crop}, which {name!r} cannot give back", f"multiples of {STEP}")
        return super().draws(recipe)

    def __call__(self, run: Run) -> None:
        """Leaves `generator` and `judge`."""
        from torch.nn import ModuleDict

        from diga.models.translator import Judge

        G = self.generator(run)
        D = ModuleDict({k: Judge(self.width, self.scales) for k in ("s", "t")}).to(run.device)
        see = self.sight(run)

        def step(pair: Pair, t: int) -> Updates:
            x_s, x_t = pair.source.image, pair.target
            z_s, z_t = G.from_s(x_s), G.from_t(x_t)
            fake_t, fake_s = G.to_t(z_s), G.to_s(z_t)
            run.picture(t, "translation", lambda: {"source": x_s, "in target style": fake_t, "target": x_t})
            D.requires_grad_(True)
            yield "judge", judge_losses(dict(D.items()), x_s, x_t, fake_s.detach(), fake_t.detach())
            D.requires_grad_(False)
            fooled = adversarial(D["s"](fake_s), True) + adversarial(D["t"](fake_t), True)
            rebuilt = self.reconstruction(G, pair, (z_s, z_t), (fake_s, fake_t))
            kept = self.kept(pair, fake_s, fake_t, see)
            yield "generator", {"fool": self.adversarial * fooled} | rebuilt | kept

        run.fit({"generator": G, "judge": D}, step, self.plan, keep="generator")

    def generator(self, run: Run) -> Generator:
        """An untrained generator, the same for one seed."""
        import torch

        from diga.models.translator import Generator

        torch.manual_seed(run.recipe.seed)
        return Generator(self.width, self.blocks).to(run.device)

    def sight(self, run: Run) -> nn.Module | None:
        """What the perceptual term looks through; None where it does not count."""
        if not self.perceptual:
            return None
        from diga.models import pretrained
        from diga.models.vgg import VGG19

        net = VGG19(self.perceptual_inputs)
        pretrained.load(net, run.data_root / self.perceptual_weights)
        return net.to(run.device)

    def reconstruction(
        self, G: Generator, pair: Pair, codes: tuple[Tensor, Tensor], fakes: tuple[Tensor, Tensor]
    ) -> Losses:
        """L1 of x against G_ts(G_st(x)), both ways, and against its own style."""
        from torch.nn.functional import l1_loss

        x_s, x_t = pair.source.image, pair.target
        (z_s, z_t), (fake_s, fake_t) = codes, fakes
        round_trip = l1_loss(G.to_s(G.from_t(fake_t)), x_s) + l1_loss(G.to_t(G.from_s(fake_s)), x_t)
        same_style = l1_loss(G.to_s(z_s), x_s) + l1_loss(G.to_t(z_t), x_t)
        return {"cycle": self.cycle * round_trip, "own": self.own * same_style}

    def kept(self, pair: Pair, fake_s: Tensor, fake_t: Tensor, see: nn.Module | None) -> Losses:
        """What painting must keep: a source image along the edges of its label, and what VGG19 sees, both ways."""
        (x_s, y_s, _), x_t, _ = pair
        losses: Losses = {}
        if self.edge:
            losses["edge"] = self.edge * ops.losses.edge(x_s, fake_t, ops.losses.edge_mask(y_s))
        if see is not None:
            forth = ops.losses.perceptual(see(x_s), see(fake_t))
            losses["perceptual"] = self.perceptual * (forth + ops.losses.perceptual(see(x_t), see(fake_s)))
        return losses

    def painter(self, run: Run, ref: str) -> Painter:
        """x_s -> G(x_s): one translation an image, without chance; of any size, reflected where it is no multiple."""
        G = self.generator(run).requires_grad_(False).eval()
        G.load_state_dict(run.read(ref)["generator"])
        return lambda source, chance: of_any_size(G, source.image)


def least_side(scales: int) -> int:
    """The smallest side of a crop that a judge of so many scales can read: each scale but the first halves it."""
    return int((JUDGED - 1) * 2 ** (scales - 1) + 1)


def of_any_size(G: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    """G(image) (B, 3, H, W), reflected at its lower and right edges to multiples of 4 and cut again."""
    from torch.nn.functional import pad

    H, W = image.shape[-2:]
    return G(pad(image, (0, -W % STEP, 0, -H % STEP), mode="reflect"))[..., :H, :W]


def adversarial(scores: list[Tensor], real: bool) -> Tensor:
    """(D(x) - 1)^2 for real, D(x)^2 for translated, summed over the judge's scales."""
    total: Tensor = sum(ops.losses.lsgan(score, real) for score in scores)  # type: ignore[assignment]
    return total


def judge_losses(D: Mapping[str, nn.Module], x_s: Tensor, x_t: Tensor, fake_s: Tensor, fake_t: Tensor) -> Losses:
    """Each style's judge tells real images from translated ones."""
    return {
        "judge_s": adversarial(D["s"](x_s), True) + adversarial(D["s"](fake_s), False),
        "judge_t": adversarial(D["t"](x_t), True) + adversarial(D["t"](fake_t), False),
    }


# --- closed forms --------------------------------------------------------------------------


class Borrowed(Painting):
    """No training: each source image takes something of a target image that is drawn for it."""

    def reads(self) -> frozenset[Literal["source", "target"]]:
        """Target images alone."""
        return frozenset({"target"})

    def files(self, recipe: Recipe) -> tuple[str, ...]:
        """None: no segmenter is made."""
        return ()

    @abstractmethod
    def lent(self, run: Run, image: Tensor) -> Mapping[str, Tensor]:
        """What target images (B, 3, H, W) have to lend: tensors of B rows."""

    @abstractmethod
    def give(self, image: Tensor, lent: Mapping[str, Tensor]) -> Tensor:
        """Source images (B, 3, H, W), each painted with its row of what was lent."""

    def __call__(self, run: Run) -> None:
        """Leaves `colours`: what every target training image has to lend, a row each."""
        import torch

        found = [self.lent(run, image) for d in run.recipe.targets for _, image in run.images(d, "train")]
        bank = torch.nn.Module()
        for name in found[0]:
            bank.register_buffer(name, torch.cat([rows[name] for rows in found]))
        run.save({"colours": bank})

    def painter(self, run: Run, ref: str) -> Painter:
        """Each image of a batch is painted with a target image of its own draw."""
        bank = run.read(ref)["colours"]
        images = min(map(len, bank.values()))

        def paint(source: Batch, chance: Chance) -> Tensor:
            drawn = (chance.uniform() * images).long()
            return self.give(source.image, {name: rows[drawn] for name, rows in bank.items()})

        return paint


class ColourTransfer(Borrowed):
    """No training: each source image takes mean colour and colour covariance of a random target image."""

    def lent(self, run: Run, image: Tensor) -> Mapping[str, Tensor]:
        """`mean` (B, 3) and `covariance` (B, 3, 3)."""
        mean, covariance = ops.colour.statistics(image)
        return {"mean": mean, "covariance": covariance}

    def give(self, image: Tensor, lent: Mapping[str, Tensor]) -> Tensor:
        """By the map between Gaussians that moves colours least."""
        return ops.colour.transfer(image, lent["mean"], lent["covariance"])


class ChannelStatistics(Borrowed):
    """No training: each colour channel of a source image takes mean and deviation of a random target image's."""

    def lent(self, run: Run, image: Tensor) -> Mapping[str, Tensor]:
        """`mean` and `std` (B, 3)."""
        mean, covariance = ops.colour.statistics(image)
        return {"mean": mean, "std": covariance.diagonal(dim1=1, dim2=2).sqrt()}

    def give(self, image: Tensor, lent: Mapping[str, Tensor]) -> Tensor:
        """Channel by channel, whatever the others do."""
        return ops.colour.channel_statistics(image, lent["mean"], lent["std"])


class Fourier(Borrowed):
    """No training: each source image takes the low frequencies' amplitudes of a random target image (FDA).

    A target image counts as resized to the crop, and only the amplitudes that are swapped are kept: 2 b + 1 by
    b + 1 frequencies with b = floor(beta min(H, W)) of the crop.  An image of another size takes the same ones,
    in periods an image.
    """

    beta: Annotated[float, Field(gt=0, lt=0.5)] = Field(0.01, description="highest frequency, periods a crop's pixel")

    def lent(self, run: Run, image: Tensor) -> Mapping[str, Tensor]:
        """`amplitude` (B, 3, 2 b + 1, b + 1), a pixel's; rows in the order of a transform: 0 … b, -b … -1."""
        import torch

        b = int(self.beta * min(run.recipe.crop) + 1e-9)
        small = torch.nn.functional.interpolate(image, run.recipe.crop, mode="bilinear", antialias=True)
        waves = torch.fft.rfft2(small, norm="forward")
        return {"amplitude": waves[..., [*range(b + 1), *range(-b, 0)], : b + 1].abs()}

    def give(self, image: Tensor, lent: Mapping[str, Tensor]) -> Tensor:
        """By an image that has these amplitudes, and no others."""
        import torch

        B, C, H, W = image.shape
        b = min(lent["amplitude"].shape[-1] - 1, (min(H, W) - 1) // 2)
        waves = torch.zeros(B, C, H, W // 2 + 1, dtype=torch.complex64, device=image.device)
        for rows in (slice(0, b + 1), slice(-b or H, None)):
            waves[..., rows, : b + 1] = lent["amplitude"][..., rows, : b + 1].to(waves)
        return ops.colour.fourier(image, torch.fft.irfft2(waves, (H, W), norm="forward"), b / min(H, W))
