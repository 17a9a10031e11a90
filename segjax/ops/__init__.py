"""Pure array functions without parameters, NHWC; each hides the formulation that suits the device."""
