"""The recipe that made the atelier's weights: one script a stage, and LOG.md for what was learned on the way."""
