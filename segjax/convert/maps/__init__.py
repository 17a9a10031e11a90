"""One file a family of names: which of our modules each of its modules is. `segjax.convert.mapping` tells the rules."""
