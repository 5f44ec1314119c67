"""Where this machine takes its packages from: both formats of `/etc/apt`, read into one."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

CLASSES = frozenset({"stable", "oldstable", "testing", "unstable", "sid"})
"""Names that stand for a release without being its code name."""


@dataclass(frozen=True, slots=True)
class Source:
    """One suite of one archive; as text the one-line form of `sources.list(5)`."""

    uri: str
    suite: str
    components: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        options = " ".join(f"{name}={value}" for name, value in self.options)
        return " ".join(["deb", *([f"[{options}]"] if options else []), self.uri, self.suite, *self.components])

    @property
    def base(self) -> str:
        """The release in the suite's name: `bookworm` of `bookworm-security`."""
        return re.split(r"[-/]", self.suite)[0]

    def of_release(self, codename: str) -> Source:
        """The same archive's suite of another release; unchanged when it is of that release already."""
        return replace(self, suite=codename + self.suite[len(self.base) :])


def machine_sources(etc: Path, codename: str, keys: Path) -> list[Source]:
    """The sources below `etc` that carry the release `codename` or a class of releases, in a canonical order.

    Others are left out: the archives of single products, which need nothing of what is looked for here. A signing key
    written inside a source is put into the folder `keys`, for the one-line form can only name a file.
    """
    found: list[Source] = []
    for path in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]:
        if not path.is_file():
            continue
        text = path.read_text(errors="replace")
        if path.suffix == ".list":
            found += one_line(text)
        elif path.suffix == ".sources":
            found += deb822(text, keys / path.stem)
    wanted = {codename, *CLASSES}
    return sorted((source for source in found if source.base in wanted), key=str)


def one_line(text: str) -> Iterator[Source]:
    """Sources of a `sources.list` file: `deb [option=value …] uri suite component…`, `#` begins a comment."""
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s*)?([^\s\[#][^#]*)", line)
        if match is None:
            continue
        words = match[2].split()
        if len(words) < 3 or words[0].startswith("cdrom:"):
            continue
        options = tuple(tuple(word.split("=", 1)) for word in shlex.split(match[1] or "") if "=" in word)
        yield Source(words[0], words[1], tuple(words[2:]), tuple((option[0], option[1]) for option in options))


def deb822(text: str, key: Path) -> Iterator[Source]:
    """Sources of a `.sources` file: paragraphs of `Field: value` with continuation lines that begin with a space.

    A signing key inside paragraph n is written to the file `key` with `-n.asc` appended to its name.
    """
    for number, paragraph in enumerate(re.split(r"\n[ \t]*\n", text)):
        fields: dict[str, str] = {}
        name = ""
        for line in paragraph.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in " \t" and name:
                fields[name] += "\n" + line.strip()
            elif ":" in line:
                name, value = line.split(":", 1)
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        options = []
        if architectures := fields.get("architectures"):
            options.append(("arch", ",".join(architectures.split())))
        if fields.get("trusted", "").lower() in ("yes", "true", "1"):
            options.append(("trusted", "yes"))
        if signed := fields.get("signed-by"):
            if "BEGIN PGP" in signed:
                path = key.with_name(f"{key.name}-{number}.asc")
                path.write_text("\n".join("" if line == "." else line for line in signed.strip().splitlines()) + "\n")
                signed = str(path)
            options.append(("signed-by", ",".join(signed.split())))
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                if components := fields.get("components", "").split():
                    yield Source(uri, suite, tuple(components), tuple(options))
