"""Scores of a captioner on a split of a prepared data set: of its captions, and of the likelihood of the references."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from captioning.captioner import Captioner
from captioning.captioner_config import SearchConfig
from captioning.ensemble import EnsembleDecoding, mean_probability
from captioning.network.torch_decoding import TorchDecoding
from captioning.scoring.zero_cider import note_if_cider_is_zero
from captioning.search import beam_search
from captioning.training.batches import pad_captions
from captioning.training.encoded_captions import encode_caption
from captioning.training.features import as_tensor, grid_features
from data_prep.images import load_image
from data_prep.prepared_captions import PreparedCaptions
from evaluation.caption_scores import score_captions
from vision_rnn.console import Progress

BATCH_SIZE = 32
PROTOCOL = (
    "COCO caption protocol: PTB tokens in lower case without punctuation, corpus BLEU with brevity penalty and closest "
    "reference length, CIDEr-D with document frequencies of the evaluated references, all references of the split; "
    "captions from beam search (beam size {beam_size}, length exponent {length_exponent}, at most {max_words} words). "
    "Perplexity of the references per word, including end tokens; words unknown to the model count as <unk>."
)


@torch.inference_mode()
def evaluate(
    captioners: Captioner | Sequence[Captioner],
    data: PreparedCaptions,
    split: str,
    search: SearchConfig | None = None,
    cached: bool = False,
) -> dict[str, Any]:
    """Caption every image of a split and score the captions; return scores, counts, protocol and captions.

    The perplexity is exp of the mean negative log-likelihood of the words and end tokens of the references; only models
    with the same vocabulary are comparable.

    Args:
        captioners: The model, or several with the same vocabulary, whose probabilities are averaged.
        data: The prepared data set.
        split: Name of the split.
        search: Beam search settings (default: the first model's).
        cached: Read the grids of the images from the cache of the data set, in half precision, as training does;
            efficient for many models with the same encoder.
    """
    rows = data.split(split)
    members = [captioners] if isinstance(captioners, Captioner) else captioners
    first = members[0]
    search = search or first.search
    grids = [grid_features(member.eval().encoder, data, split) if cached else None for member in members]
    texts: list[list[str]] = []
    nats, words = 0.0, 0
    with Progress(len(rows), f"captioning {split}", "image") as progress:
        for start in range(0, len(rows), BATCH_SIZE):
            batch = rows[start : start + BATCH_SIZE]
            memories = []
            for member, cache in zip(members, grids, strict=True):
                if cache is None:
                    memories.append(member.remember(load_image(image["bytes"]) for image in batch["image"]))
                else:
                    grid = as_tensor(cache[start : start + BATCH_SIZE])
                    memories.append(member.decoder.remember(grid.to(member.device)))
            pairs = [(member.decoder, memory) for member, memory in zip(members, memories, strict=True)]
            decoding = EnsembleDecoding([TorchDecoding(decoder, memory) for decoder, memory in pairs])
            decoded = beam_search(decoding, search.beam_size, search.length_exponent, search.max_words)
            texts += [captions[0].words for captions in first.read(decoded)]
            ids = [[encode_caption(first.vocabulary, caption) for caption in captions] for captions in batch["tokens"]]
            references = pad_captions(ids).to(first.device)
            likelihoods = [
                decoder.bounded_log_likelihoods(memory, references).cpu().numpy() for decoder, memory in pairs
            ]
            nats -= float(mean_probability(np.stack(likelihoods).astype(np.float64)).sum())
            words += sum(len(caption) + 1 for captions in batch["tokens"] for caption in captions)
            progress.update(len(batch["image"]))
    scores = score_captions(texts, rows["tokens"][:])
    note_if_cider_is_zero(scores, rows["tokens"][:])
    return {
        "split": split,
        "content_hash": data.content_hash,
        "protocol": PROTOCOL.format(**asdict(search)),
        **scores.as_dict(),
        "perplexity": math.exp(nats / words),
        "predicted_words": words,
        "captions": dict(zip(rows["name"][:], map(" ".join, texts), strict=True)),
    }
