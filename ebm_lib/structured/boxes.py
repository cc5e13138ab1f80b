"""Boxes: how much two of them agree, and how good a list of detections is.

A box is (centre to the right, centre downwards, width, height), as a rule in shares of the picture.
"""

import torch
from torch import Tensor

from ebm_lib.require import has_values, require_count, require_finite


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    r"""Intersection over union of two boxes.

    .. math:: \mathrm{IoU}(A, B) = \frac{|A \cap B|}{|A \cup B|}

    Args:
        a: (..., 4), centre and size.
        b: (..., 4); leading dimensions broadcast: ``box_iou(a[:, None], b)`` compares all pairs.

    Returns:
        (...), from 0 to 1; 0 if both boxes are empty.

    Raises:
        ValueError: not (..., 4), values not finite, a negative width or height.

    >>> box_iou(torch.tensor([0.5, 0.5, 1.0, 1.0]), torch.tensor([0.5, 0.5, 0.5, 0.5]))
    tensor(0.2500)
    """
    common, union, _ = _areas(a, b)
    return _ratio(common, union)


def generalized_iou(a: Tensor, b: Tensor) -> Tensor:
    r"""Generalised intersection over union: it has a slope also where the boxes are apart.

    .. math:: \mathrm{GIoU}(A, B) = \mathrm{IoU}(A, B) - \frac{|H| - |A \cup B|}{|H|}

    with H the smallest box around both. It is 1 for equal boxes and tends to −1 for small ones far apart.

    Args:
        a: (..., 4), centre and size.
        b: (..., 4); leading dimensions broadcast.

    Returns:
        (...), from −1 to 1; 0 if H has no area.

    Raises:
        ValueError: as :func:`~ebm_lib.structured.box_iou`.

    Source: Rezatofighi et al., Generalized Intersection over Union (CVPR 2019), algorithm 1.

    >>> generalized_iou(torch.tensor([0.25, 0.5, 0.5, 1.0]), torch.tensor([1.75, 0.5, 0.5, 1.0]))
    tensor(-0.5000)
    """
    common, union, hull = _areas(a, b)
    return _ratio(common, union) - _ratio(hull - union, hull)


def average_precision(
    confidence: Tensor,
    predicted: Tensor,
    boxes: Tensor,
    labels: Tensor,
    target_boxes: Tensor,
    *,
    classes: int,
    threshold: float = 0.5,
) -> Tensor:
    r"""Area under the precision–recall curve of a detector, for each class.

    .. math:: \mathrm{AP} = \sum_i (r_i - r_{i-1}) \max_{j \ge i} p_j

    The detections of a class in all scenes are sorted by confidence; one is right if the object of its class and scene
    that it overlaps most has IoU of at least the threshold and no more confident detection has claimed it: duplicates
    are wrong. Precision p and recall r are those of the first i detections. Equal confidences keep their order.

    Args:
        confidence: (N, S) of each detection, any increasing scale; −inf takes it off the list.
        predicted: (N, S) int, its class.
        boxes: (N, S, 4).
        labels: (N, O) int, the objects' classes; negative past the scene's objects.
        target_boxes: (N, O, 4).
        classes: C.
        threshold: IoU, in (0, 1].

    Returns:
        (C,) in the boxes' dtype, NaN for a class without objects: ``.nanmean()`` is the mean average precision.

    Raises:
        ValueError: shapes that do not go together, NaN, a threshold outside (0, 1].

    Source: Everingham et al., The PASCAL Visual Object Classes Challenge: A Retrospective (IJCV 2015), with all points
    of the curve.

    >>> one = torch.tensor([[[0.5, 0.5, 0.2, 0.2]]])
    >>> average_precision(torch.ones(1, 1), torch.zeros(1, 1), one, torch.zeros(1, 1), one, classes=1)
    tensor([1.])
    """
    require_count("classes", classes)
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be in (0, 1], got {threshold}")
    if confidence.ndim != 2 or labels.ndim != 2 or len(labels) != len(confidence):
        raise ValueError(
            f"confidence must be (N, S) and labels (N, O), got {tuple(confidence.shape)} and {tuple(labels.shape)}"
        )
    wanted = {"predicted": (predicted.shape, confidence.shape), "boxes": (boxes.shape, (*confidence.shape, 4))}
    wanted["target_boxes"] = (target_boxes.shape, (*labels.shape, 4))
    for name, (shape, expected) in wanted.items():
        if tuple(shape) != tuple(expected):
            raise ValueError(f"{name} must have shape {tuple(expected)}, got {tuple(shape)}")
    require_finite("-confidence", -confidence, allow_posinf=True)
    per_object = labels.shape[1]
    if per_object:
        overlap = box_iou(boxes[:, :, None], target_boxes[:, None])
        overlap = overlap.masked_fill(predicted[:, :, None] != labels[:, None], -1.0)
        best, which = overlap.max(-1)
    else:
        best, which = torch.full_like(confidence, -1.0), torch.zeros_like(predicted, dtype=torch.long)
    objects = torch.arange(len(labels), device=labels.device)[:, None] * per_object + which
    result = boxes.new_full((classes,), torch.nan)
    for k in range(classes):
        real = int((labels == k).sum())
        if not real:
            continue
        listed = (predicted == k) & (confidence > -torch.inf)
        order = confidence[listed].argsort(descending=True, stable=True)
        hit, claimed = (best[listed] >= threshold)[order], objects[listed][order]
        # Right is the first hit on each object.
        place = torch.arange(len(order), device=labels.device)
        first = torch.full((labels.numel(),), len(order), device=labels.device)
        first.scatter_reduce_(0, claimed[hit], place[hit], "amin")
        right = (hit & (first[claimed] == place)).to(boxes.dtype)
        precision = right.cumsum(0) / (place + 1)
        envelope = precision.flip(0).cummax(0).values.flip(0)
        result[k] = (right * envelope).sum() / real
    return result


def _areas(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the intersection, the union and the smallest box around both."""
    for name, box in (("a", a), ("b", b)):
        if box.shape[-1:] != (4,):
            raise ValueError(f"{name} must be (..., 4): centre and size, got shape {tuple(box.shape)}")
        require_finite(name, box)
        if has_values(box) and (box[..., 2:] < 0).any():
            raise ValueError(f"{name} must have widths and heights of at least 0, got {box[..., 2:].min().item()}")
    a_low, a_high, b_low, b_high = (x for box in (a, b) for x in _corners(box))
    common = (torch.minimum(a_high, b_high) - torch.maximum(a_low, b_low)).clamp(min=0).prod(-1)
    union = (a_high - a_low).prod(-1) + (b_high - b_low).prod(-1) - common
    hull = (torch.maximum(a_high, b_high) - torch.minimum(a_low, b_low)).prod(-1)
    return common, union, hull


def _corners(box: Tensor) -> tuple[Tensor, Tensor]:
    centre, size = box.split(2, -1)
    return centre - size / 2, centre + size / 2


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    empty = whole <= 0
    return torch.where(empty, 0.0, part / torch.where(empty, 1.0, whole))
