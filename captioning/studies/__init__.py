"""The lecture's studies of recurrent decoders."""
