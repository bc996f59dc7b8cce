"""Loading: folders, single files, the hub and pipelines to the parts of a model."""
