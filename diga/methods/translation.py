"""Painting source images in the target's style: the adversarial cycle of DiGA, and a closed form.

Both leave a painter: a function of source images (B, 3, H, W) and chance that gives them translated.

Departures: (1) images are RGB in [0, 1], not BGR tensors around zero; tanh became a sigmoid.
(2) The edge and perceptual terms of the authors' translator are not in this version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from diga import ops
from diga.recipe import Stage
from diga.settings import Count, Plan, Weight

if TYPE_CHECKING:
    from torch import Tensor, nn

    from diga.engine.run import Run
    from diga.models.translator import Generator
    from diga.ops.chance import Chance
    from diga.types import Losses, Pair, Updates

    Painter = Callable[[Tensor, Chance], Tensor]


class Translator(Stage):
    """Two encoders, two decoders, two judges: least-squares adversarial, cycle and self terms."""

    shared: ClassVar[bool] = True
    adversarial: Weight = 0.5
    cycle: Weight = 10.0
    own: Weight = Field(0.001, description="of same-domain reconstruction; 0.025 for SYNTHIA")
    width: Count = Field(64, description="channels of the first layer")
    blocks: Count = Field(4, description="residual blocks of an encoder, and of a decoder")
    scales: Count = Field(3, description="of each judge")
    plan: Plan = Plan(steps=50_000, optimizer="adam", lr=1e-4, momentum=0.5, weight_decay=0.0, head=1.0, snapshots=1)

    def __call__(self, run: Run) -> None:
        """Leaves `generator` and `judge`."""
        from torch.nn import ModuleDict

        from diga.models.translator import Judge

        G = self.generator(run)
        D = ModuleDict({k: Judge(self.width, self.scales) for k in ("s", "t")}).to(run.device)

        def step(pair: Pair, t: int) -> Updates:
            (x_s, _), x_t, _ = pair
            z_s, z_t = G.from_s(x_s), G.from_t(x_t)
            fake_t, fake_s = G.to_t(z_s), G.to_s(z_t)
            run.picture(t, "translation", lambda: {"source": x_s, "in target style": fake_t, "target": x_t})
            D.requires_grad_(True)
            yield "judge", judge_losses(dict(D.items()), x_s, x_t, fake_s.detach(), fake_t.detach())
            D.requires_grad_(False)
            fooled = adversarial(D["s"](fake_s), True) + adversarial(D["t"](fake_t), True)
            rebuilt = self.reconstruction(G, pair, (z_s, z_t), (fake_s, fake_t))
            yield "generator", {"fool": self.adversarial * fooled} | rebuilt

        run.fit({"generator": G, "judge": D}, step, self.plan, keep="generator")

    def generator(self, run: Run) -> Generator:
        """An untrained generator, the same for one seed."""
        import torch

        from diga.models.translator import Generator

        torch.manual_seed(run.recipe.seed)
        return Generator(self.width, self.blocks).to(run.device)

    def reconstruction(
        self, G: Generator, pair: Pair, codes: tuple[Tensor, Tensor], fakes: tuple[Tensor, Tensor]
    ) -> Losses:
        """L1 of x against G_ts(G_st(x)), both ways, and against its own style."""
        from torch.nn.functional import l1_loss

        (x_s, _), x_t, _ = pair
        (z_s, z_t), (fake_s, fake_t) = codes, fakes
        round_trip = l1_loss(G.to_s(G.from_t(fake_t)), x_s) + l1_loss(G.to_t(G.from_s(fake_s)), x_t)
        same_style = l1_loss(G.to_s(z_s), x_s) + l1_loss(G.to_t(z_t), x_t)
        return {"cycle": self.cycle * round_trip, "own": self.own * same_style}

    def painter(self, run: Run, ref: str) -> Painter:
        """x_s -> G(x_s): one translation an image, without chance."""
        G = self.generator(run).requires_grad_(False).eval()
        G.load_state_dict(run.read(ref)["generator"])
        return lambda x_s, chance: G(x_s)


class ColourTransfer(Stage):
    """No training: each source image takes mean colour and colour covariance of a random target image."""

    def reads(self) -> frozenset[Literal["source", "target"]]:
        """Target images alone."""
        return frozenset({"target"})

    def __call__(self, run: Run) -> None:
        """Leaves `colours`, the statistics of every target training image."""
        import torch

        from diga.models.translator import ColourBank

        names = run.recipe.targets
        found = [ops.colour.statistics(image) for d in names for _, image in run.images(d, "train")]
        mean, covariance = (torch.cat(parts) for parts in zip(*found, strict=True))
        bank = ColourBank(len(mean)).to(run.device)
        bank.load_state_dict({"mean": mean, "covariance": covariance})
        run.save({"colours": bank})

    def painter(self, run: Run, ref: str) -> Painter:
        """x_s -> x_s with the colours of a target image drawn for each."""
        colours = run.read(ref)["colours"]
        mean, covariance = colours["mean"], colours["covariance"]

        def paint(x_s: Tensor, chance: Chance) -> Tensor:
            drawn = (chance.uniform() * len(mean)).long()
            return ops.colour.transfer(x_s, mean[drawn], covariance[drawn])

        return paint


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
