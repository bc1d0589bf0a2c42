"""Names of a captioner's graphs, and of their inputs and outputs."""

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
# From `pixels` (B, 3, S, S) uint8: the decoder's memory, (B, L, H) and (B, L, A), and the initial state of a caption,
# (B, 1, N, H) and (B, 1, N, M), with the letters of `captioning.network.decoder`.
ENCODER_OUTPUTS = ("values", "keys", "hidden", "cell_state")
# The last words (B, K) int64, the state of each caption, and the memory.
STEP_INPUTS = ("word", "hidden", "cell_state", "values", "keys")
# Log-probabilities of the next words (B, K, V), attention weights (B, K, L), and the next state.
STEP_OUTPUTS = ("log_probabilities", "weights", "next_hidden", "next_cell_state")
# Only of an LSTM: the gates and the cell of the top layer, (B, K, 5, H), in the order of `OpenGates`.
GATES = "gates"
