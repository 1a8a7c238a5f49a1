"""Climbs that share a batch get the answers that each would get alone."""

from __future__ import annotations

import torch
from attack_cases import linear_case, target_of

from resnet_spiking.attacks.climb import Query, answer
from resnet_spiking.attacks.losses import cross_entropy


def test_answers_are_those_of_each_query_alone(generator: torch.Generator) -> None:
    case = linear_case(classes=4, count=7)
    target = target_of(case.model, case.images)
    queries = [
        Query(case.images[rows], case.labels[rows], case.labels[rows], gradient)
        for rows, gradient in ((slice(0, 2), True), (slice(2, 5), False), (slice(5, 7), True))
    ]
    together = answer(target, queries, lambda _: cross_entropy, generator)
    assert target.meter.backwards == 4
    for query, found in zip(queries, together, strict=True):
        assert torch.allclose(found.margin, target.margins(query.at, query.labels), rtol=1e-12, atol=1e-14)
        if query.gradient:
            alone = target.step(query.at, query.labels, cross_entropy)
            assert torch.allclose(found.loss, alone.loss)
            assert torch.allclose(found.gradient, alone.gradient)
        else:
            assert found.loss.isnan().all()
            assert found.gradient.isnan().all()


def test_goals_reach_the_loss_in_the_order_of_the_points(generator: torch.Generator) -> None:
    case = linear_case(classes=4, count=5)
    target = target_of(case.model, case.images)
    goals = torch.tensor([3, 0, 2, 1, 0])
    queries = [Query(case.images[rows], case.labels[rows], goals[rows]) for rows in (slice(0, 2), slice(2, 5))]
    found = answer(
        target, queries, lambda goal: lambda logits, labels: logits.gather(1, goal[:, None])[:, 0], generator
    )
    logits = target.logits(case.images)[0]
    assert torch.allclose(torch.cat([step.loss for step in found]), logits.gather(1, goals[:, None])[:, 0])
