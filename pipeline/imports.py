"""From `package.module:name` to an object, or to one of the ways this can go wrong, each in a sentence of its own.
Knows which folders count and in which order. What the object is used for, and whether it fits, is decided above."""

import importlib
import re
import sys
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

from pipeline.problems import did_you_mean

_PATH = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*(?:\.[^\W\d]\w*)*)")
_OURS = Path(__file__).resolve().parent
_MOST_FRAMES = 10  # a recursion without an end has a thousand
_LONGEST_TEXT = 300  # characters of a user's exception


class ImportProblem(Exception):
    """Raised when a path leads nowhere. `frames` are the user's own lines on the way to a failure, as file:line."""

    def __init__(self, word: str, sentence: str, hint: str | None = None, frames: Sequence[str] = ()) -> None:
        super().__init__(sentence)
        self.word = word
        self.sentence = sentence
        self.hint = hint
        self.frames = tuple(frames)


class Importer:
    """Imports from the folders of the configuration files first, then from the app-dir, as a script would from its own.

    The folders are put in front of `sys.path`."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = list(dict.fromkeys(folder.absolute() for folder in folders))
        front = [str(folder) for folder in self.folders]
        sys.path[:] = front + [entry for entry in sys.path if entry not in front]
        importlib.invalidate_caches()
        self._failed: dict[str, ImportProblem] = {}

    def find(self, path: str, *, folder: Path | None = None) -> object:
        """The object at a path. `folder` is that of the file that names it. Raises `ImportProblem` and nothing else."""
        found = _PATH.fullmatch(path)
        if not found:
            sentence = f'"{path}" is no path: a path is written package.module:function'
            raise ImportProblem("bad-handler-path", sentence)
        module = self._module(found[1], folder)
        return self._name(module, found[2], folder)

    def _module(self, name: str, folder: Path | None) -> ModuleType:
        if name in self._failed:
            raise self._failed[name]
        try:
            module = importlib.import_module(name)
        except KeyboardInterrupt:
            raise  # somebody pressed Ctrl-C while a slow module was imported
        except BaseException as error:
            problem = self._hidden(name, folder) if isinstance(error, ModuleNotFoundError) else None
            self._failed[name] = problem or self._why(name, error)
            raise self._failed[name] from None
        if problem := self._hidden(name, folder, module):
            raise problem
        return module

    def _why(self, name: str, error: BaseException) -> ImportProblem:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and (name == missing or name.startswith(f"{missing}.")):
            return self._unknown(name)
        frames = self._frames(error)
        if isinstance(error, SystemExit):
            return ImportProblem("failed-import", f'importing "{name}" ended in sys.exit({error.code!r})', None, frames)
        return ImportProblem("failed-import", f'importing "{name}" failed: {_shown(error)}', None, frames)

    def _unknown(self, name: str) -> ImportProblem:
        sentence = f'no module "{name}" in the folder of the file or in app-dir'
        parent, _, last = name.rpartition(".")
        while parent and parent not in sys.modules:
            parent, _, last = parent.rpartition(".")
        if not parent:
            names = [module.name for module in iter_modules([str(folder) for folder in self.folders])]
            return ImportProblem("unknown-module", sentence, did_you_mean(last or name, names))
        if last == "py":
            return ImportProblem("unknown-module", f'{sentence}; "{parent}" is there', f"{parent}:... without .py")
        inside = getattr(sys.modules[parent], "__path__", [])
        names = [f"{parent}.{module.name}" for module in iter_modules(list(inside))]
        hint = did_you_mean(f"{parent}.{last}", names)
        return ImportProblem("unknown-module", f'{sentence}; "{parent}" is there', hint)

    def _hidden(self, name: str, folder: Path | None, module: ModuleType | None = None) -> ImportProblem | None:
        """A module that lies where it should, while another one of its name was found, or stands in its way."""
        expected = self._expected(name, folder)
        loaded = module or sys.modules.get(name.partition(".")[0])
        if expected is None or loaded is None or expected.resolve() in _places(loaded) or _holds(loaded, expected):
            return None
        top = name.partition(".")[0]
        return self._collision(name, top, expected, loaded)

    def _collision(self, name: str, top: str, expected: Path, loaded: ModuleType) -> ImportProblem:
        what = "folder" if expected.name == "__init__.py" or expected.stem != top else "file"
        beside = top if what == "folder" else expected.name
        if top == _OURS.name:
            sentence = f'"{top}" is piperun\'s own package, which hides the {what} "{beside}" beside the file'
            return ImportProblem("shadowed-module", sentence, "give it another name")
        if top in sys.stdlib_module_names:
            sentence = (
                f'"{top}" is a module of Python\'s standard library, which hides the {what} "{beside}" beside the file'
            )
            return ImportProblem("shadowed-module", sentence, "give it another name")
        where = next(iter(_places(loaded)), None)
        ours = where is None or any(where.is_relative_to(folder.resolve()) for folder in self.folders)
        if where and (not ours or "site-packages" in where.parts):
            sentence = f'"{top}" is an installed package, which hides the {what} "{beside}" beside the file'
            return ImportProblem("shadowed-module", sentence, "give it another name")
        sentence = f'module "{name}" is loaded from "{where}" already; "{expected}" has the same name'
        return ImportProblem("module-clash", sentence, "give one of them another name")

    def _expected(self, name: str, folder: Path | None) -> Path | None:
        """Where the module lies as a file, looking into the folders in their order."""
        relative = Path(*name.split("."))
        folders = [folder.absolute()] if folder else []
        for place in dict.fromkeys(folders + self.folders):
            for candidate in (place / relative / "__init__.py", place / relative.with_suffix(".py")):
                if candidate.is_file():
                    return candidate
        return None

    def _name(self, module: ModuleType, dotted: str, folder: Path | None) -> object:
        found: object = module
        for name in dotted.split("."):
            try:
                found = getattr(found, name)
            except AttributeError:
                within = dotted.split(f".{name}")[0]
                owner = (
                    f'module "{module.__name__}"' if found is module else f'"{within}" of module "{module.__name__}"'
                )
                names = [other for other in dir(found) if not other.startswith("_")]
                raise ImportProblem("unknown-name", f'{owner} has no "{name}"', did_you_mean(name, names)) from None
            except Exception as error:
                sentence = f'reading "{dotted}" of module "{module.__name__}" failed: {_shown(error)}'
                raise ImportProblem("failed-import", sentence, None, self._frames(error)) from None
        return found

    def _frames(self, error: BaseException) -> list[str]:
        """The user's own lines: those in the folders, not ours and not the libraries'."""
        lines = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
        if isinstance(error, SyntaxError):
            lines.append((error.filename or "", error.lineno))
        shown = [frame for file, line in lines if (frame := self._frame(file, line))]
        if len(shown) <= _MOST_FRAMES:
            return shown
        left_out = len(shown) - _MOST_FRAMES
        return [*shown[: _MOST_FRAMES // 2], f"... ({left_out} more)", *shown[-(_MOST_FRAMES // 2) :]]

    def _frame(self, file: str, line: int | None) -> str | None:
        path = Path(file)
        for folder in self.folders:
            if path.is_relative_to(folder) and not path.is_relative_to(_OURS) and "site-packages" not in path.parts:
                return f"{path.relative_to(folder)}:{line}"
        return None


def _places(module: ModuleType) -> set[Path]:
    file = getattr(module, "__file__", None)
    return {Path(file).resolve()} if file else set()


def _holds(module: ModuleType, file: Path) -> bool:
    """Whether a loaded package is the one that the file lies in."""
    folders: Iterable[str] = getattr(module, "__path__", ())
    return any(file.resolve().is_relative_to(Path(folder).resolve()) for folder in folders)


def _shown(error: BaseException) -> str:
    text = " ".join(str(error).split())
    text = text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
