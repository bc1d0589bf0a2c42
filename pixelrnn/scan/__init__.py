"""The recurrent scan behind Row LSTM and Diagonal BiLSTM."""
