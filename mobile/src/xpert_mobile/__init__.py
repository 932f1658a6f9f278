"""XPerT on the device: export to ExecuTorch, LoRA fine-tuning and generation layer by layer, the encoder without torch."""
