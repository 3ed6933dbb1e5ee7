"""The one exception this package raises for mistakes of its caller."""


class ExportError(Exception):
    """The model cannot become a bundle as asked. The message names the tensor, file or option."""
