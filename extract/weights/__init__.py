"""Official checkpoints: reading their files, and renaming their tensors. Knows no network."""
