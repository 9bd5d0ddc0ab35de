"""Where settings come from: the environment, `.env` and ai-proxy.toml, and how to name the place of each."""

import difflib
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic_settings import BaseSettings, DotEnvSettingsSource, EnvSettingsSource, InitSettingsSource

DEFAULT_FILE = Path("ai-proxy.toml")
FILE_VARIABLE = "AI_PROXY_CONFIG"
_OF_CALLERS = frozenset({"ai_proxy_url"})  # where docs/clients.md has a caller's shell keep our address
_NEAR = 0.8  # OPENAI_KEY is near to OPENAI_API_KEY, GOOGLE_API_KEY to none

Location = Sequence[str | int]

_KEY = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
_PATH = rf"{_KEY}(?:\s*\.\s*{_KEY})*"
_HEADER = re.compile(rf"\s*\[\[?\s*({_PATH})\s*\]")
_ASSIGNMENT = re.compile(rf"\s*({_PATH})\s*=")


class Problem(NamedTuple):
    """One thing that is wrong, and where: a variable, or a file and its line. Never the value, it may be a secret."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class ConfigurationError(Exception):
    """Settings that nothing can be started with. One line for each problem."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class File:
    """ai-proxy.toml. Raises `ConfigurationError` if it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._text = path.read_text(encoding="utf-8-sig")
            self.data: dict[str, Any] = tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            line = re.search(r" \(at line (\d+), column \d+\)$", str(error))
            where = f"{path}:{line[1]}" if line else str(path)
            raise ConfigurationError(Problem(where, str(error)[: line.start() if line else None])) from None
        except RecursionError:
            raise ConfigurationError(Problem(str(path), "is nested too deeply")) from None
        except UnicodeDecodeError as error:
            raise ConfigurationError(Problem(str(path), f"is not UTF-8 text, at byte {error.start}")) from None
        except OSError as error:
            where = str(path) if path == DEFAULT_FILE else FILE_VARIABLE
            raise ConfigurationError(Problem(where, f"{path} cannot be read: {error.strerror}")) from None

    def has(self, location: Location) -> bool:
        """Whether it says something at this place."""
        found: Any = self.data
        try:
            for part in location:
                found = found[part]
        except (KeyError, IndexError, TypeError):
            return False
        return True

    def place(self, location: Location) -> str:
        """The file and the line that comes nearest to this place."""
        return f"{self.path}:{self._line(location)}"

    def _line(self, location: Location) -> int:
        best, depth = 1, 0
        for number, path in self._paths():
            common = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(path, location, strict=False))))
            if depth < common:
                best, depth = number, common
        return best

    def _paths(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Lines that begin something, and the path of it."""
        table: tuple[str, ...] = ()
        for number, line in enumerate(self._text.splitlines(), start=1):
            if header := _HEADER.match(line):
                table = _parts(header[1])
                yield number, table
            elif assignment := _ASSIGNMENT.match(line):
                yield number, table + _parts(assignment[1])


class Sources:
    """All that this process is told. Names of variables are compared without regard to case."""

    def __init__(self, settings: type[BaseSettings], file: Path | None = None) -> None:
        self._settings = settings
        self._environment = _known(EnvSettingsSource(settings).env_vars)
        self._dotenv = _known(DotEnvSettingsSource(settings).env_vars)
        self.file = _file(file or self.variable(FILE_VARIABLE))

    def variable(self, name: str | None) -> str | None:
        """A variable's value, or that of a line of .env. Empty counts as unset."""
        if name is None:
            return None
        return self._environment.get(name.lower()) or self._dotenv.get(name.lower())

    def origin(self, location: Location) -> str | None:
        """Who decides a setting: `environment`, `.env`, or the file and its line. None: nobody says anything."""
        for depth in range(len(location), 0, -1):
            if told := self.variable_origin(variable_of(self._settings, location[:depth])):
                return told
        return self.file.place(location) if self.file and self.file.has(location) else None

    def variable_origin(self, name: str) -> str | None:
        """Whether a variable is set in the `environment` or in `.env`."""
        if name.lower() in self._environment:
            return "environment"
        return ".env" if name.lower() in self._dotenv else None

    def strangers(self) -> list[Problem]:
        """Variables that look as if they were settings, and are none."""
        prefix = str(self._settings.model_config.get("env_prefix")).lower()
        variables = [variable_of(self._settings, [field]).lower() for field in self._settings.model_fields]
        told = sorted(name for name in {**self._dotenv, **self._environment} if name.startswith(prefix))
        strange = [name for name in told if name.partition("__")[0] not in variables and name not in _OF_CALLERS]
        return [
            Problem(name.upper(), f"there is no such setting{_nearest(name, prefix, variables)}") for name in strange
        ]

    def near_misses(self, known: Collection[str]) -> list[Problem]:
        """Lines of .env that look as if they were meant to be one of these variables."""
        names = [name.upper() for name in sorted(self._dotenv) if name.upper() not in known]
        near = {name: difflib.get_close_matches(name, known, n=1, cutoff=_NEAR) for name in names}
        return [Problem(name, f"nothing reads it: is it {found[0]}?") for name, found in near.items() if found]

    def where(self, location: Location) -> str:
        """How to name a setting to who must change it: its variable, or its line in the file."""
        variable = variable_of(self._settings, location)
        if self.file is None or self.origin(location) in {"environment", ".env"}:
            return variable
        in_file = any(self.file.has(location[:depth]) for depth in range(1, len(location) + 1))
        return f"{self.file.place(location)}: {dotted(location)}" if in_file else variable


def variable_of(settings: type[BaseSettings], location: Location) -> str:
    """The environment variable of a setting."""
    field = settings.model_fields.get(str(location[0]))
    if field is not None and isinstance(field.validation_alias, str):
        return field.validation_alias
    return f"{settings.model_config.get('env_prefix')}{'__'.join(map(str, location))}".upper()


class FileSource(InitSettingsSource):
    """The file among the sources of `Settings`. Refuses names that are none of theirs."""

    @classmethod
    def of(cls, settings: type[BaseSettings], path: object) -> Self:
        file = _file(path)
        if file is None:
            return cls(settings, {})
        if problems := [_unknown(file, name, settings) for name in file.data if name not in _writable(settings)]:
            raise ConfigurationError(*problems)
        return cls(settings, file.data)


def dotted(location: Location) -> str:
    """A place in the file as a person would write it."""
    return ".".join(str(part + 1) if isinstance(part, int) else part for part in location)


def _file(path: object) -> File | None:
    """The file that is named, which must exist, or that of the working directory."""
    if path:
        return File(Path(str(path)))
    return File(DEFAULT_FILE) if DEFAULT_FILE.exists() else None


def _known(variables: Mapping[str, str | None]) -> dict[str, str]:
    return {name.lower(): value for name, value in variables.items() if value}


def _writable(settings: type[BaseSettings]) -> set[str]:
    return set(settings.model_fields) - {"config"}


def _unknown(file: File, name: str, settings: type[BaseSettings]) -> Problem:
    if name == "config":
        return Problem(file.place([name]), f"config: only the variable {FILE_VARIABLE} can say that")
    near = difflib.get_close_matches(name, _writable(settings), n=1)
    return Problem(file.place([name]), f"{name}: there is no such setting{f': is it {near[0]}?' if near else ''}")


def _nearest(name: str, prefix: str, variables: Sequence[str]) -> str:
    """The variable that was meant, perhaps: PORT for AI_PROXY_PORT."""
    if (bare := name.removeprefix(prefix)) in variables:
        return f": is it {bare.upper()}?"
    near = difflib.get_close_matches(name.partition("__")[0], variables, n=1)
    return f": is it {near[0].upper()}?" if near else ""


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_KEY, path))
