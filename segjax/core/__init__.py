"""What every part of segjax shares: keys, errors, configuration, registry."""
