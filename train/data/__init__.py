"""From text to batches: tokenizers, corpora, shard files, which tokens a step sees."""
