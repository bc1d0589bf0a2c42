"""Image captioning with a CNN encoder and an attention-based LSTM decoder."""
