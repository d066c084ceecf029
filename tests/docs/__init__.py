"""What docs/ says is done here, as it stands there."""
