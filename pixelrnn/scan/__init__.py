"""The recurrent scan of the Row LSTM and the Diagonal BiLSTM."""
