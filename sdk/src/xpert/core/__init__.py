"""The method itself: numpy only, no model, no network."""
