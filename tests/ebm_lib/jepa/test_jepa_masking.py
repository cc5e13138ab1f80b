"""Masks by construction; the masked model against its formula written out; a masked auto-encoder as a special case."""

import functools

import pytest
import torch
from torch import nn

from ebm_lib import joint
from ebm_lib.jepa import (
    JEPA,
    MaskedJEPA,
    Masks,
    PatchEncoder,
    PatchPredictor,
    Pixels,
    Pooled,
    block_masks,
    from_patches,
    gaussianity,
    masked_views,
    place_free,
    positions,
    scattered_masks,
    to_patches,
    variance_covariance,
)

GRID, PATCH, D = 4, 2, 8


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def encoder(seed=0, **options):
    return PatchEncoder(GRID, PATCH, D, 2, 2, generator=seeded(seed), **options)


def predictor(seed=1, **options):
    return PatchPredictor(GRID, D, width=D, heads=2, generator=seeded(seed), **options)


def pictures(n=6, seed=2, **options):
    return torch.rand(n, 3, GRID * PATCH, GRID * PATCH, generator=seeded(seed), **options)


class TestPatches:
    def test_each_patch_is_a_square_of_the_picture(self):
        images = torch.rand(2, 3, 8, 12, generator=seeded())
        patches = to_patches(images, 4)
        assert patches.shape == (2, 6, 48)
        for k in range(6):
            row, column = 4 * (k // 3), 4 * (k % 3)
            square = images[:, :, row : row + 4, column : column + 4]
            assert torch.equal(patches[:, k], square.flatten(1))

    def test_they_can_be_put_together_again(self):
        for shape, width in (((8, 8), None), ((4, 12), 12), ((12, 4), 4)):
            images = torch.rand(2, 5, 3, *shape, generator=seeded(), dtype=torch.float64)
            assert torch.equal(from_patches(to_patches(images, 4), 4, width=width), images)

    @pytest.mark.parametrize(
        ("call", "named"),
        [
            (lambda: to_patches(torch.rand(3, 8, 8), 3), "size"),
            (lambda: to_patches(torch.rand(8, 8), 2), "images"),
            (lambda: from_patches(torch.rand(6, 4), 2), "patches"),
            (lambda: from_patches(torch.rand(6, 5), 2), "patches"),
            (lambda: from_patches(torch.rand(6, 4), 2, width=8), "patches"),
        ],
    )
    def test_what_does_not_tile_is_refused(self, call, named):
        with pytest.raises(ValueError, match=named):
            call()


class TestBlockMasks:
    grid, masks = 8, block_masks(500, 8, generator=seeded())

    def sides(self):
        """Height and width of each target's bounding box, and how many patches it has."""
        blocks = self.masks.targets.unflatten(-1, (self.grid, self.grid))
        return blocks.any(-1).sum(-1), blocks.any(-2).sum(-1), blocks.sum((-1, -2))

    def test_targets_are_rectangles(self):
        height, width, count = self.sides()
        assert torch.equal(height * width, count)
        rows = self.masks.targets.unflatten(-1, (self.grid, self.grid)).any(-1).long()
        assert (rows.diff(dim=-1).abs().sum(-1) <= 2).all()  # without gaps

    def test_their_sizes_are_those_asked_for_up_to_whole_patches(self):
        height, width, count = self.sides()
        low, high = 0.15 * self.grid**2, 0.2 * self.grid**2
        assert ((count >= low - height / 2) & (count <= high + height / 2)).all()
        # h is the square root of area times ratio, rounded, so it is within half a patch of its bounds
        assert ((height >= (low * 0.75) ** 0.5 - 0.5) & (height <= (high * 1.5) ** 0.5 + 0.5)).all()
        assert (width.double() / height).log().mean().abs() < 0.2
        large = block_masks(200, 40, generator=seeded()).targets.sum(-1) / 40**2
        assert large.min() > 0.14
        assert large.max() < 0.21
        assert abs(large.mean() - 0.175) < 0.002

    def test_they_reach_every_place_evenly_but_for_the_edges(self):
        covered = self.masks.targets.double().mean((0, 1)).unflatten(0, (8, 8))
        assert covered.min() > 0
        assert torch.allclose(covered, covered.flip(0), atol=0.05)
        assert torch.allclose(covered, covered.flip(1), atol=0.05)
        assert covered[3, 3] > 3 * covered[0, 0] > 0

    def test_context_is_a_square_block_less_the_targets(self):
        targets = self.masks.targets.any(1)
        assert not (targets & self.masks.context).any()
        assert (self.masks.context.sum(-1) >= 4).all()
        seen = self.masks.context.unflatten(-1, (8, 8))
        low, high = (seen.any(-1).long().argmax(-1)), (7 - seen.any(-1).flip(-1).long().argmax(-1))
        left, right = (seen.any(-2).long().argmax(-1)), (7 - seen.any(-2).flip(-1).long().argmax(-1))
        axis = torch.arange(8)
        box = ((axis >= low[:, None]) & (axis <= high[:, None]))[:, :, None] & (
            (axis >= left[:, None]) & (axis <= right[:, None])
        )[:, None]
        assert torch.equal(seen, box & ~targets.unflatten(-1, (8, 8)))  # nothing else is missing

    def test_a_seed_says_all(self):
        again = block_masks(500, 8, generator=seeded())
        assert torch.equal(again.context, self.masks.context)
        assert torch.equal(again.targets, self.masks.targets)
        assert not torch.equal(block_masks(500, 8, generator=seeded(1)).context, self.masks.context)

    def test_poor_contexts_are_drawn_anew_or_refused(self):
        masks = block_masks(300, 4, least=6, generator=seeded())
        assert masks.context.sum(-1).min() >= 6
        with pytest.raises(ValueError, match="blocks"):
            block_masks(3, 4, scale=(1.0, 1.0), generator=seeded())

    @pytest.mark.parametrize(
        "options",
        [{"scale": (0.0, 0.2)}, {"scale": (0.3, 0.2)}, {"context": (0.5, 1.1)}, {"aspect": (-1.0, 2.0)}, {"blocks": 0}],
    )
    def test_options_out_of_range_are_refused(self, options):
        with pytest.raises(ValueError, match=next(iter(options))):
            block_masks(2, 4, **options)

    def test_shapes_are_known_without_values(self):
        masks = block_masks(3, 4, device="meta")
        assert masks.context.shape == (3, 16)
        assert masks.targets.shape == (3, 4, 16)
        assert masks.targets.device.type == "meta"


class TestScatteredMasks:
    def test_so_many_are_hidden_and_the_rest_is_seen(self):
        masks = scattered_masks(50, 6, hidden=0.6, generator=seeded())
        assert masks.targets.shape == (50, 1, 36)
        assert (masks.targets.sum(-1) == 22).all()
        assert torch.equal(masks.targets[:, 0], ~masks.context)

    def test_every_patch_is_as_likely(self):
        share = scattered_masks(20000, 3, hidden=1 / 3, generator=seeded()).targets.double().mean((0, 1))
        assert torch.allclose(share, torch.full_like(share, 1 / 3), atol=0.015)

    def test_something_is_hidden_and_something_seen(self):
        for hidden in (0.001, 0.999):
            masks = scattered_masks(3, 3, hidden=hidden, generator=seeded())
            assert masks.context.any(-1).all()
            assert masks.targets.any(-1).all()

    def test_bad_shares_are_refused(self):
        with pytest.raises(ValueError, match="hidden"):
            scattered_masks(3, 3, hidden=1.0)


class TestPositions:
    def test_inner_products_depend_on_the_way_between_places_only(self):
        p = positions(5, 16, dtype=torch.float64).unflatten(0, (5, 5))
        assert torch.allclose(p[0, 0] @ p[1, 2], p[3, 1] @ p[4, 3])
        assert torch.allclose(p.square().sum(-1), torch.full((5, 5), 8.0, dtype=torch.float64))
        assert not torch.allclose(p[0, 0] @ p[1, 2], p[0, 0] @ p[2, 1] + 0.1)

    def test_rows_and_columns_can_be_told_apart(self):
        p = positions(4, 8, dtype=torch.float64)
        assert torch.linalg.matrix_rank(p) >= 6
        assert torch.cdist(p, p).add(torch.eye(16) * 9).min() > 0.1

    def test_widths_that_cannot_be_cut_in_four_are_refused(self):
        with pytest.raises(ValueError, match="multiple of 4"):
            positions(4, 6)


class TestPatchEncoder:
    def test_hidden_pixels_change_nothing(self):
        net, y, z = encoder(), pictures(), block_masks(6, GRID, blocks=2, generator=seeded())
        hidden = from_patches((~z.context).float().unsqueeze(-1).expand(-1, -1, 3 * PATCH**2), PATCH)
        other = torch.where(hidden > 0, torch.rand(y.shape, generator=seeded(5)), y)
        assert torch.equal(net(y, z.context), net(other, z.context))
        assert not torch.allclose(net(y), net(other), atol=1e-3)

    def test_hidden_patches_are_zero_and_seen_ones_as_if_alone(self):
        net, y = encoder(dtype=torch.float64), pictures(dtype=torch.float64)
        context = torch.zeros(6, GRID**2, dtype=torch.bool)
        rows = [torch.randperm(GRID**2, generator=seeded(i))[: 3 + i] for i in range(6)]
        for row, chosen in zip(context, rows, strict=True):
            row[chosen] = True
        s = net(y, context)
        assert (s[~context] == 0).all()
        tokens = net.embed(to_patches(y, PATCH)) + net.places
        for i, row in enumerate(context):
            assert torch.allclose(s[i, row], net.transformer(tokens[i : i + 1, row])[0])

    def test_everything_seen_is_no_mask(self):
        net, y = encoder(dtype=torch.float64), pictures(dtype=torch.float64)
        assert torch.allclose(net(y), net(y, torch.ones(6, GRID**2, dtype=torch.bool)))

    def test_places_matter(self):
        net, y = encoder(), pictures()
        moved = from_patches(to_patches(y, PATCH).flip(1), PATCH)
        assert not torch.allclose(net(y), net(moved).flip(1), atol=1e-3)

    def test_pooled_is_the_mean(self):
        net, y = encoder(), pictures()
        assert torch.allclose(Pooled(net)(y), net(y).mean(1))
        assert Pooled(net).width == D

    def test_bad_input_is_refused(self):
        net, y = encoder(), pictures()
        with pytest.raises(ValueError, match="images"):
            net(y[..., :4])
        with pytest.raises(ValueError, match="images"):
            net(y / 0)
        with pytest.raises(ValueError, match="at least one"):
            net(y, torch.zeros(6, GRID**2, dtype=torch.bool))
        with pytest.raises(ValueError, match="context"):
            net(y, torch.ones(6, GRID**2))


class TestPatchPredictor:
    def test_what_stands_where_nothing_was_seen_is_not_read(self):
        net, z = predictor(), block_masks(6, GRID, blocks=2, generator=seeded())
        s = torch.randn(6, GRID**2, D, generator=seeded())
        other = torch.where(z.context.unsqueeze(-1), s, 7.0)
        assert torch.equal(net(s, z.context), net(other, z.context))
        assert not torch.allclose(net(s, z.context), net(2 * s, z.context), atol=1e-3)

    def test_mask_tokens_know_their_place(self):
        net = predictor()
        context = torch.zeros(1, GRID**2, dtype=torch.bool)
        context[0, 0] = True
        predicted = net(torch.ones(1, GRID**2, D), context)[0]
        assert torch.cdist(predicted, predicted).add(torch.eye(GRID**2)).min() > 1e-3

    def test_bad_input_is_refused(self):
        with pytest.raises(ValueError, match="s_x"):
            predictor()(torch.zeros(2, 3, D), torch.ones(2, 3, dtype=torch.bool))


class TestMaskedJEPA:
    def setup_method(self):
        self.y = pictures(dtype=torch.float64)
        self.z = block_masks(6, GRID, blocks=3, generator=seeded(3))
        self.encoder, self.predictor = encoder(dtype=torch.float64), predictor(dtype=torch.float64)

    def test_its_energy_is_the_formula_patch_by_patch(self):
        model = MaskedJEPA(self.encoder, self.predictor)
        found = model.energy(self.y, self.y, self.z)
        s_x, s_y = self.encoder(self.y, self.z.context), self.encoder(self.y)
        predicted = self.predictor(s_x, self.z.context)
        for i in range(6):
            for m in range(3):
                errors = [
                    (predicted[i, k] - s_y[i, k]).square().sum() / D for k in self.z.targets[i, m].nonzero().flatten()
                ]
                assert torch.allclose(found[i, m], torch.stack(errors).mean())

    def test_it_is_a_jepa_and_trains_as_one(self):
        model = MaskedJEPA(encoder(), predictor(), information_y=variance_covariance)
        assert isinstance(model, JEPA)
        views = masked_views(functools.partial(block_masks, grid=GRID, blocks=2))
        history = joint.learn(model, pictures(32), views, epochs=4, batch_size=16, generator=seeded(), progress=False)
        assert history.loss[-1] < history.loss[0]

    def test_overlapping_targets_count_each(self):
        model = MaskedJEPA(self.encoder, self.predictor)
        once = model.energy(self.y, self.y, Masks(self.z.context, self.z.targets[:, :1]))
        twice = model.energy(self.y, self.y, Masks(self.z.context, self.z.targets[:, [0, 0]]))
        assert torch.allclose(twice, once.expand(-1, 2))

    def test_a_masked_autoencoder_is_a_masked_jepa_of_pixels(self):
        decoder = predictor(dtype=torch.float64, out=3 * PATCH**2)
        model = MaskedJEPA(self.encoder, decoder, target=Pixels(PATCH))
        masks = scattered_masks(6, GRID, hidden=0.5, generator=seeded())
        picture = from_patches(decoder(self.encoder(self.y, masks.context), masks.context), PATCH)
        hidden = from_patches(masks.targets.double().mT.expand(-1, -1, 3 * PATCH**2), PATCH)
        error = ((picture - self.y).square() * hidden).flatten(1).sum(1) / hidden.flatten(1).sum(1)
        assert torch.allclose(model.energy(self.y, self.y, masks)[:, 0], error)

    def test_normalised_pixels_forget_brightness_and_contrast(self):
        target = Pixels(PATCH, normalise=True)
        assert torch.allclose(target(self.y), target(0.3 * self.y + 0.5), atol=1e-3)
        assert torch.allclose(target(self.y).mean(-1), torch.zeros(6, 16, dtype=torch.float64), atol=1e-8)

    def test_terms_sum_to_the_loss_and_are_what_they_say(self):
        model = MaskedJEPA(
            self.encoder, self.predictor, information_x=variance_covariance, information_y=gaussianity, prediction=2.0
        )
        terms = model.criterion(self.y, self.y, self.z, seeded())
        assert torch.allclose(terms.loss, sum(terms[1:]))
        assert torch.allclose(terms.prediction, 2 * model.energy(self.y, self.y, self.z).mean())
        s = self.encoder(self.y)
        free = (s - s.mean(0, keepdim=True)).reshape(-1, D)
        assert torch.allclose(terms.information_y, gaussianity(free, generator=seeded()))
        s, seen = self.encoder(self.y, self.z.context), self.z.context
        rows = [s[i, k] - s[seen[:, k], k].mean(0) for i in range(6) for k in range(16) if seen[i, k]]
        assert torch.allclose(terms.information_x, variance_covariance(torch.stack(rows)))

    def test_place_alone_is_no_information(self):
        class Where(nn.Module):
            def forward(self, images, context=None):
                s = 3 * torch.randn(GRID**2, D, generator=seeded(), dtype=torch.float64)
                return s.expand(len(images), -1, -1)

        def price(by_place):
            model = MaskedJEPA(Where(), self.predictor, information_y=variance_covariance, by_place=by_place)
            return model.criterion(self.y, self.y, self.z).information_y

        assert torch.allclose(price(True), torch.tensor(0.495, dtype=torch.float64), atol=0.01)  # ½ (1 − √ε)
        assert price(False) < price(True) / 2 + 0.04 * 3**4

    def test_a_slow_target_gets_no_gradient_and_follows(self):
        slow = joint.Momentum(self.encoder, momentum=0.5)
        model = MaskedJEPA(self.encoder, self.predictor, target=slow)
        with torch.no_grad():
            self.encoder.embed.weight.add_(1.0)
        before = slow.copy.embed.weight.clone()
        model.criterion(self.y, self.y, self.z).loss.backward()
        assert all(p.grad is None for p in slow.parameters())
        assert self.encoder.embed.weight.grad.abs().sum() > 0
        model.finish_step(0.0)
        assert torch.allclose(slow.copy.embed.weight, before + 0.5)

    def test_stopping_the_gradient_leaves_values_alone(self):
        gradients = []
        for stop in (False, True):
            model = MaskedJEPA(self.encoder, self.predictor, stop_gradient=stop)
            loss = model.criterion(self.y, self.y, self.z).loss
            gradients.append((loss.detach(), torch.autograd.grad(loss, self.encoder.embed.weight)[0]))
        assert torch.equal(gradients[0][0], gradients[1][0])
        assert not torch.allclose(gradients[0][1], gradients[1][1])

    def test_energy_is_finite_and_differentiable_in_y(self):
        y = self.y.clone().requires_grad_()
        model = MaskedJEPA(self.encoder, self.predictor)
        slope = torch.autograd.grad(model.energy(self.y, y, self.z).sum(), y)[0]
        assert slope.isfinite().all()
        assert slope.abs().sum() > 0

    def test_bad_masks_are_refused(self):
        model = MaskedJEPA(self.encoder, self.predictor)
        with pytest.raises(ValueError, match="targets"):
            model.energy(self.y, self.y, Masks(self.z.context, self.z.targets[:, 0]))
        with pytest.raises(ValueError, match="context"):
            model.energy(self.y, self.y, Masks(self.z.context[:3], self.z.targets))

    def test_shapes_are_known_without_values(self):
        made = {"device": "meta"}
        net = PatchEncoder(GRID, PATCH, D, 2, 1, **made)
        model = MaskedJEPA(net, PatchPredictor(GRID, D, width=D, heads=2, **made))
        y = torch.empty(5, 3, 8, 8, **made)
        assert model.energy(y, y, block_masks(5, GRID, **made)).shape == (5, 4)


class TestPlaceFree:
    def test_it_subtracts_the_mean_over_pictures_at_each_place(self):
        s = torch.randn(4, 3, 2, generator=seeded(), dtype=torch.float64)
        seen = torch.tensor([[1, 0, 1], [1, 1, 0], [0, 1, 0], [1, 1, 0]], dtype=torch.bool)
        rows = [s[i, k] - s[seen[:, k], k].mean(0) for i in range(4) for k in range(3) if seen[i, k]]
        assert torch.allclose(place_free(s, seen), torch.stack(rows))
        assert torch.allclose(place_free(s).view(4, 3, 2).mean(0), torch.zeros(3, 2, dtype=torch.float64))

    def test_adding_anything_that_depends_on_the_place_changes_nothing(self):
        s, p = torch.randn(4, 3, 2, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
        assert torch.allclose(place_free(s + p), place_free(s))

    def test_bad_shapes_are_refused(self):
        with pytest.raises(ValueError, match="s must"):
            place_free(torch.zeros(3, 2))
        with pytest.raises(ValueError, match="seen"):
            place_free(torch.zeros(3, 2, 1), torch.ones(3, 2))
