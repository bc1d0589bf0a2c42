"""Names of a captioner's graphs, and of their inputs and outputs."""

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"
# (B, 3, S, S) uint8.
PIXELS = "pixels"
# From the pixels, or from the grids of several networks, (B, C, h, w) each: the decoder's memory, (B, L, H) and
# (B, L, A), and the initial state of a caption, (B, 1, N, H) and (B, 1, N, M), with the letters of
# `captioning.network.decoder`.
ENCODER_OUTPUTS = ("values", "keys", "hidden", "cell_state")
# Only of a calibrated model: the distance of each image from the training photos, (B,).
DISTANCE = "distance"
# The captions as `captioning.rows.Rows`, their distinct states (S, N, H) and (S, N, M), and the memory.
STEP_INPUTS = ("words", "word_of", "state_of", "slots", "places", "hidden", "cell_state", "values", "keys")
# Log-probabilities of the next words (R, V), attention weights (R, L), and the next state.
STEP_OUTPUTS = ("log_probabilities", "weights", "next_hidden", "next_cell_state")
# Only of an LSTM: the gates and the cell of the top layer, (R, 5, H), in the order of `OpenGates`.
GATES = "gates"


def network_graphs(networks: int) -> dict[str, str]:
    """Return the graphs of the networks of an encoder by the name of the grid that each computes from the pixels.

    There are none of a single network, which is part of the encoder's graph. Several graphs are read at once.
    """
    return {f"grid_{number}": f"network-{number}.onnx" for number in range(1, networks + 1)} if networks > 1 else {}
