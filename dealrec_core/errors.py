"""The errors of dealrec, one class for each thing that the reader can do about them.

    DealrecError
    ├── SettingsError     edit pipeline.toml, the --set option or the environment
    ├── SourceError       a raw file or bucket cannot be read: fix the path, the rights or the file
    ├── DataError         the data cannot carry this step: too few samples, too many bad rows
    │   └── OtherFormat   a stored model was written by another version of this program: make it again
    ├── NumericsError     a computation gave no usable answer
    │   ├── NotConverged  give the solver more steps or more damping
    │   └── NotFinite     find the NaN or infinity the message names
    ├── LakeError         a table is missing, torn or was changed by someone else
    ├── NightBusy         another night, an erasure or an upkeep holds this lake: wait for it
    └── RegistryError     MLflow refused or does not answer

Every message gives the value, the limit and the next step.
"""


class DealrecError(Exception):
    """Base of every error that dealrec raises on purpose; its text is fit to be shown to a user as one line."""


class SettingsError(DealrecError):
    """A setting is unknown, out of bounds or contradicts another."""


class SourceError(DealrecError):
    """A raw file, folder or bucket is missing or cannot be read."""


class DataError(DealrecError):
    """The data was read, but cannot carry this step."""


class OtherFormat(DataError):
    """A stored model was written by another version of this program."""


class NumericsError(DealrecError):
    """A computation gave no usable answer."""


class NotConverged(NumericsError):
    """An iterative solver stopped above its tolerance."""


class NotFinite(NumericsError):
    """A NaN or an infinity appeared in a loss, gradient or score."""


class LakeError(DealrecError):
    """A lake table is missing, torn, or was changed under the writer."""


class NightBusy(DealrecError):
    """A night, an erasure or an upkeep is running on this lake."""


class RegistryError(DealrecError):
    """The model registry refused a request or does not answer."""
