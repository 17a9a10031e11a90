"""A trained network on images: prediction, evaluation and drawing."""
