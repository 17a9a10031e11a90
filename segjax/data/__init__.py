"""Data sets: builders that prepare them, the host pipeline that reads them, augmentation on the device."""
