"""`kubectl xpert`: the resources for people. Apart from the operator, of which it shares the resources' models alone."""
