"""The studies of recurrent decoders in the lecture."""
