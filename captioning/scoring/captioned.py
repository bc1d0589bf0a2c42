"""Captions matched with the references of their images, by whatever names another program gave the images."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from data_prep.image_names import Found, ImageNames
from data_prep.predictions import Predictions
from data_prep.references import Reference, in_split
from vision_rnn.console import note
from vision_rnn.errors import UserError


@dataclass(frozen=True)
class Captioned:
    """Images with a caption to score and reference captions, all before tokenisation.

    Attributes:
        images: Name, split and reference captions of each image.
        captions: One caption per image.
        split: Split of the images; None if the source has no splits.
        subset_of: Number of images of the split, if on purpose only those with a caption are scored; else None.
    """

    images: list[Reference]
    captions: list[str]
    split: str | None
    subset_of: int | None = None

    @property
    def references(self) -> list[list[str]]:
        """The reference captions of each image."""
        return [image.captions for image in self.images]


def match(
    predictions: Predictions, references: Sequence[Reference], split: str | None = None, subset: bool = False
) -> Captioned:
    """Match every predicted caption with the references of its image.

    Captions that are skipped, repeated, or matched by another name than the exact one are counted in notes.

    Args:
        predictions: Captions by the name or id of the image.
        references: References of all images.
        split: Split to score; captions of other splits are skipped (default: the split that the file of the predictions
            names, or else the only split that has all predicted images).
        subset: Score only the images with a caption.

    Raises:
        UserError: The image of a caption is unknown or ambiguous; an image has two different captions; the split cannot
            be derived from the captions, or is another than that of their file; or, without `subset`, an image of the
            split has no caption, so that the scores would not be comparable.
    """
    names = ImageNames(references)
    found = {name: names.find(name) for name in predictions.captions}
    split = _named_split(predictions, references, split)
    _check_known(predictions.source, references if split is None else in_split(references, split), found)
    if split is None:
        split = _only_split(predictions.source, references, found)
    images = in_split(references, split) if split else references
    captions = _captions_by_image(predictions, references, found, split)
    place = f"the split {split}" if split else "the references"
    if not captions:
        raise UserError(f"{predictions.source}: no captions of images of {place}; choose another split or file")
    missing = [image.label for image in images if _key(image) not in captions]
    if missing and not subset:
        raise UserError(
            f"{predictions.source}: {len(missing)} of {len(images)} images of {place} have no caption, such as "
            f"{_examples(missing)}; caption them, give them an empty caption, or add --subset to omit them on purpose"
        )
    kept = [image for image in images if _key(image) in captions]
    return Captioned(kept, [captions[_key(image)] for image in kept], split, len(images) if subset else None)


def in_both(first: Captioned, second: Captioned) -> tuple[Captioned, Captioned]:
    """Keep only the images that occur in both, for a comparison of subsets.

    Raises:
        UserError: There are none.
    """
    common = {_key(image) for image in first.images} & {_key(image) for image in second.images}
    if not common:
        raise UserError("--against: no image has a caption in both files; choose another file")
    return _only(first, common), _only(second, common)


def _only(captioned: Captioned, kept: set[tuple[str | None, str]]) -> Captioned:
    pairs = [pair for pair in zip(captioned.images, captioned.captions, strict=True) if _key(pair[0]) in kept]
    images, captions = zip(*pairs, strict=True)
    return Captioned(list(images), list(captions), captioned.split, captioned.subset_of)


def _key(image: Reference) -> tuple[str | None, str]:
    """Return what identifies an image: splits may use the same names."""
    return image.split, image.name


def _named_split(predictions: Predictions, references: Sequence[Reference], split: str | None) -> str | None:
    """Return the split that is asked for, or that the file of the captions names."""
    named, known = predictions.split, {reference.split for reference in references}
    if named is None or known == {None}:
        return split
    if named not in known:
        note(f"{predictions.source}: names the split {named}, which the references do not have; the name is ignored")
        return split
    if split not in (None, named):
        raise UserError(
            f"{predictions.source}: holds captions of the split {named}, but {split} is to be scored; omit --split, or "
            "choose another file"
        )
    return named


def _check_known(source: str, images: Sequence[Reference], found: Mapping[str, Found]) -> None:
    unknown = [name for name, (indices, _) in found.items() if not indices]
    if unknown:
        raise UserError(
            f"{source}: images that the references do not have: {len(unknown)} of {len(found)}, such as "
            f"{_examples(unknown)}; the references have {_examples(image.label for image in images)}; use their names "
            "or ids, or remove the captions of other images"
        )


def _only_split(source: str, references: Sequence[Reference], found: Mapping[str, Found]) -> str | None:
    """Return the only split in which every name means exactly one image."""
    places = {name: Counter(references[index].split for index in indices) for name, (indices, _) in found.items()}
    splits = {split for counts in places.values() for split in counts}
    fitting = [split for split in splits if all(counts[split] == 1 for counts in places.values())]
    if len(fitting) == 1:
        return fitting[0]
    for name, counts in places.items():
        if 1 not in counts.values():
            raise _ambiguous(source, name, [references[index] for index in found[name].indices])
    listed = ", ".join(sorted(split or "none" for split in splits))
    raise UserError(f"{source}: its images may be from several splits of the references ({listed}); add --split")


def _captions_by_image(
    predictions: Predictions, references: Sequence[Reference], found: Mapping[str, Found], split: str | None
) -> dict[tuple[str | None, str], str]:
    """Return the captions of the images of a split; count in notes what is not plain."""
    source = predictions.source
    names: dict[tuple[str | None, str], str] = {}
    loose: dict[str, list[str]] = defaultdict(list)
    skipped = repeated = 0
    for name, (indices, by) in found.items():
        images = [references[index] for index in indices if references[index].split == split]
        if not images:
            skipped += 1
            continue
        if len(images) > 1:
            raise _ambiguous(source, name, images)
        first = names.setdefault(_key(images[0]), name)
        if predictions.captions[first] != predictions.captions[name]:
            raise UserError(
                f"{source}: {first} and {name} are the same image, {images[0].label}, with different captions; keep one"
            )
        repeated += first != name
        if by:
            loose[by].append(f"{name} as {images[0].label}")
    if skipped:
        note(f"{source}: captions of other splits than {split}, skipped: {skipped} of {len(found)}")
    if repeated:
        note(f"{source}: repeated captions of an image under another name: {repeated}; every image is scored once")
    if loose:
        ways = "; ".join(f"{len(pairs)} {by}, such as {pairs[0]}" for by, pairs in loose.items())
        number = sum(map(len, loose.values()))
        note(f"{source}: images matched other than by the exact name or id: {number} of {len(found)} ({ways})")
    return {key: predictions.captions[name] for key, name in names.items()}


def _ambiguous(source: str, name: str, images: Sequence[Reference]) -> UserError:
    return UserError(
        f"{source}: {name} may be any of {len(images)} images of the references, such as "
        f"{_examples(image.label for image in images)}; use their names or ids"
    )


def _examples(names: Iterable[str]) -> str:
    return ", ".join(islice(names, 3))
