"""The main job, shown step by step on real models: explain, choose, merge, fine-tune."""
