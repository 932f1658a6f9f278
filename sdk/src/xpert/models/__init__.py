"""Real models: loading, probing, encoders, fine-tuning and merging; nothing heavy is imported before it is used."""
