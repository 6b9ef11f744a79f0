"""A build backend (PEP 517) that builds nothing: it hands pip the metadata file that every sdist carries.

`fetch.py` puts a copy of this file where pip looks for the backend that an sdist names, so that downloading
an sdist neither runs its code nor needs its compiler. Only the standard library is used: the copy runs alone,
in the unpacked sdist's folder.
"""

from pathlib import Path


def get_requires_for_build_wheel(config_settings=None):  # noqa: ARG001
    """Nothing is needed, because nothing is built."""
    return []


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):  # noqa: ARG001
    """Copy PKG-INFO into a dist-info folder; returns the folder's name."""
    text = Path("PKG-INFO").read_text(encoding="utf-8")
    header = dict(line.split(": ", 1) for line in text.split("\n\n")[0].splitlines() if ": " in line)
    folder = Path(metadata_directory) / f"{header['Name'].replace('-', '_')}-{header['Version']}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(text, encoding="utf-8")
    return folder.name


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Refuse: a download needs no wheel."""
    raise NotImplementedError("this backend only gives metadata, for a download")
