"""Label maps from other tools' annotations: readers a format, and the writer of the `folder` layout."""
