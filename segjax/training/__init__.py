"""One trainer for every task: state, step, loop, checkpoints and the log."""
