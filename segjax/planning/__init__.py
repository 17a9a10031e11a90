"""What a program needs and takes on devices that are not there, from the compiler's own output."""
