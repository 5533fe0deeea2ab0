"""Weight decay of depth three and more: a path of penalties that fall to zero."""

from ._path import Path as Path
