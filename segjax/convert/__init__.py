"""Other people's weights: read without running anything the file says, renamed by a map, checked both ways."""
