"""What the import of a module does to its process, and how that is taken back, and done
again when the app imports the module.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import random
import sys
import types
import typing as t
import warnings


class Unrepeatable(Exception):
    """An import has done something that can't be taken back and done again."""


class Additions(t.NamedTuple):
    """What has come to a list that is searched from its front."""

    front: list[t.Any]
    back: list[t.Any]

    def added_to(self, before: list[t.Any]) -> list[t.Any]:
        """The list with what has come. What is there already moves to the front, and
        stays where it is rather than coming to the back a second time.
        """
        return [
            *self.front,
            *(each for each in before if each not in self.front),
            *(each for each in self.back if each not in before),
        ]


def additions(before: list[t.Any], after: list[t.Any]) -> Additions:
    """What has come to a list.

    :raises Unrepeatable: if something else has happened to it.
    """
    for count in range(len(after) + 1):
        front = after[:count]
        rest = sum(each not in front for each in before)
        found = Additions(front, after[count + rest :])

        if found.added_to(before) == after:
            return found

    raise Unrepeatable("changes what is searched for modules or warnings")


class Effects:
    """What an import has done, beside what it has done to modules that were there."""

    def __init__(self) -> None:
        #: The modules that have come, by their names.
        self.modules: dict[str, types.ModuleType] = {}
        #: Generators of random numbers that were seeded by the system.
        self.generators: list[random.Random] = []
        self._farewells: list[tuple[t.Any, t.Any, t.Any]] = []
        self._warnings: list[warnings.WarningMessage] = []
        self._environ: dict[str, tuple[str | None, str | None]] = {}
        self._loggers: dict[str, tuple[t.Any, t.Any]] = {}
        self._lists: list[tuple[list[t.Any], list[t.Any], Additions]] = []
        self._attributes: list[tuple[t.Any, str, t.Any]] = []

    @contextlib.contextmanager
    def recorded(self) -> t.Iterator[None]:
        """Record what happens in a ``with`` block.

        :raises Unrepeatable: if that can't be done again.
        """
        modules = set(sys.modules)
        environ = dict(os.environ)
        loggers = dict(logging.root.manager.loggerDict)
        lists = [list(each) for each in _lists()]

        with self._farewells_kept(), self._generators_noted(), _output_refused():
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                always = warnings.filters[0]
                yield
                filters = [each for each in warnings.filters if each != always]

            _set_filters(filters)

        self.modules = {
            name: module
            for name, module in list(sys.modules.items())
            if name not in modules and not is_namespace(module)
        }
        self._environ = _changes(environ, dict(os.environ))
        self._loggers = _changes(loggers, dict(logging.root.manager.loggerDict))
        self._warnings = caught
        self._lists = [
            (each, old, additions(old, list(each)))
            for each, old in zip(_lists(), lists, strict=True)
        ]
        self._attributes = list(self._attributes_of_others())
        files = {getattr(module, "__file__", None) for module in self.modules.values()}

        if any(each.filename not in files for each in caught):
            raise Unrepeatable("warns of the code that imports it")

    def hide(self) -> None:
        """Let the process be as it was before the import, for the app to see."""
        for name in self.modules:
            sys.modules.pop(name, None)

        for package, name, _ in self._attributes:
            with contextlib.suppress(AttributeError):
                delattr(package, name)

        _set_all(os.environ, {name: old for name, (old, _) in self._environ.items()})
        _set_all(
            logging.root.manager.loggerDict,
            {name: old for name, (old, _) in self._loggers.items()},
        )

        for each, old, _ in self._lists:
            _set_list(each, old)

    def show(self) -> None:
        """Let the process be as it was after the import.

        :raises Unrepeatable: if the app has done something meanwhile that would have
            changed what the import does.
        """
        for name in self._loggers:
            if isinstance(logging.root.manager.loggerDict.get(name), logging.Logger):
                raise Unrepeatable(f"finds the logger {name!r} made by the app")

        sys.modules |= self.modules

        for package, name, value in self._attributes:
            setattr(package, name, value)

        _set_all(os.environ, {name: new for name, (_, new) in self._environ.items()})

        for name, (_, logger) in self._loggers.items():
            if isinstance(logger, logging.Logger):
                _bring_back(logger, name)

        for each, _, added in self._lists:
            _set_list(each, added.added_to(list(each)))

        for function, args, kwargs in self._farewells:
            atexit.register(function, *args, **kwargs)

        self._warn_again()

    def _warn_again(self) -> None:
        if not self._warnings:
            return

        by_file = {getattr(m, "__file__", None): m for m in self.modules.values()}

        for each in self._warnings:
            module = by_file[each.filename]

            try:
                warnings.warn_explicit(
                    each.message,
                    each.category,
                    each.filename,
                    each.lineno,
                    module.__name__,
                    vars(module).setdefault("__warningregistry__", {}),
                )
            except Warning:
                raise Unrepeatable("gives a warning that is an error now") from None

    def _attributes_of_others(self) -> t.Iterator[tuple[t.Any, str, t.Any]]:
        """Where the modules are attributes of packages that were there before."""
        for name, module in self.modules.items():
            parent, _, child = name.rpartition(".")

            if parent in sys.modules and parent not in self.modules:
                package = sys.modules[parent]

                if vars(package).get(child) is module:
                    yield package, child, module

    @contextlib.contextmanager
    def _farewells_kept(self) -> t.Iterator[None]:
        """Keep for later what is to be registered with :mod:`atexit`."""
        register = atexit.register
        is_recording = True

        def keep(function: t.Any, /, *args: t.Any, **kwargs: t.Any) -> t.Any:
            # A module may hold this for good.
            if not is_recording:
                return register(function, *args, **kwargs)

            self._farewells.append((function, args, kwargs))
            return function

        atexit.register = keep

        try:
            yield
        finally:
            is_recording = False
            atexit.register = register

    @contextlib.contextmanager
    def _generators_noted(self) -> t.Iterator[None]:
        """Note the generators of random numbers that the system seeds."""
        with generators_noted() as self.generators:
            yield


@contextlib.contextmanager
def generators_noted() -> t.Iterator[list[random.Random]]:
    """Note the generators of random numbers that are made, and seeded by the system, in
    a ``with`` block: each process that is forked would have the same numbers.
    """
    found: list[random.Random] = []
    seed = random.Random.seed

    def seed_noted(self: random.Random, a: t.Any = None, version: int = 2) -> None:
        if a is None:
            found.append(self)

        seed(self, a, version)

    random.Random.seed = seed_noted  # type: ignore[method-assign]

    try:
        yield found
    finally:
        random.Random.seed = seed  # type: ignore[method-assign]


def renew_random(generators: t.Iterable[random.Random]) -> None:
    """Seed anew what would have the same numbers in each process that is forked. Python
    does it for the functions of :mod:`random`.
    """
    for generator in generators:
        generator.seed()

    numpy = sys.modules.get("numpy.random")

    if numpy is not None:
        numpy.seed()


def is_namespace(module: types.ModuleType) -> bool:
    """Whether a module is a package without a file (PEP 420), which does nothing."""
    spec = getattr(module, "__spec__", None)
    return (
        spec is not None
        and spec.origin is None
        and spec.submodule_search_locations is not None
    )


@contextlib.contextmanager
def _output_refused() -> t.Iterator[None]:
    """Have nothing written to the terminal, since the app has written it already.

    :raises Unrepeatable: if something would have been written.
    """
    written: list[str] = []

    def refuse(text: str) -> int:
        written.append(text)
        return len(text)

    streams: list[t.Any] = [s for s in (sys.stdout, sys.stderr) if s is not None]

    for stream in streams:
        stream.write = refuse

    try:
        yield
    finally:
        for stream in streams:
            del stream.write

    if written:
        raise Unrepeatable("writes to the terminal")


def _lists() -> list[list[t.Any]]:
    return [t.cast("list[t.Any]", warnings.filters), sys.meta_path, sys.path_hooks]


def _set_list(each: list[t.Any], values: list[t.Any]) -> None:
    if each is warnings.filters:
        _set_filters(values)
    else:
        each[:] = values


def _set_filters(values: list[t.Any]) -> None:
    filters = t.cast("list[t.Any]", warnings.filters)

    if filters != values:
        filters[:] = values

        # The module has to hear of it, which this tells it.
        with warnings.catch_warnings():
            pass


def _changes(before: dict[str, t.Any], after: dict[str, t.Any]) -> dict[str, t.Any]:
    """What is another value, as the old one and the new one, ``None`` for none."""
    return {
        name: (before.get(name), after.get(name))
        for name in {**before, **after}
        if before.get(name) is not after.get(name)
        and before.get(name) != after.get(name)
    }


def _set_all(target: t.Any, values: dict[str, t.Any]) -> None:
    """Set values, and delete what is to be ``None``."""
    for name, value in values.items():
        if value is not None:
            target[name] = value
        else:
            target.pop(name, None)


def _bring_back(logger: logging.Logger, name: str) -> None:
    """Give a logger its place among the others again."""
    manager = logging.root.manager
    before = manager.loggerClass
    # The manager calls this class for what is to be at the place.
    manager.loggerClass = t.cast("type[logging.Logger]", lambda name: logger)

    try:
        manager.getLogger(name)
    finally:
        manager.loggerClass = before
