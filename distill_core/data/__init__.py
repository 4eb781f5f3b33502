"""From files to batches: `sources` reads texts, `vocabulary` numbers words, `batches` groups them by length."""
