"""One instance from a template, kept alive behind nginx: the container of a StatefulSet's pod."""
