"""From files of text to batches of token ids: readers, preparation, tokenizer, token files."""
