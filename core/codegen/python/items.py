"""Lists the public items of the installed package `openai-codex`: classes, methods, parameters, attributes, errors, types.

Run it with a Python that has the package. One name a line, sorted:

    Class                   a class, an alias, a function
    Class.member            a method, a property, an attribute, a word of an enumeration
    Class.method(parameter) a parameter; those of a constructor only where there is no attribute of that name
    function(parameter)
    types.Name              what `openai_codex.types` exports

The list of the version that `core/docs/python-parity.md` is about is kept beside this file, and a test reads both, so that
nothing is missing from the table.
"""

import enum
import inspect
import typing

import openai_codex
import openai_codex.errors
import openai_codex.types


def own_members(cls):
    inherited = set(dir(object)) | set(dir(str)) | set(dir(BaseException)) | {"name", "value"}
    enumerated = issubclass(cls, enum.Enum)
    for name in dir(cls):
        if name.startswith("_") or (name in inherited and (enumerated or issubclass(cls, BaseException))):
            continue
        yield name, inspect.getattr_static(cls, name)


def parameters(function):
    for name in inspect.signature(function).parameters:
        if not name.startswith("_") and name not in ("self", "cls"):
            yield name


def items():
    for name in openai_codex.__all__:
        value = getattr(openai_codex, name)
        yield name
        if inspect.isclass(value) and not typing.get_origin(value):
            members = dict(own_members(value))
            plain = not issubclass(value, (enum.Enum, BaseException))
            attributes = {key for key in getattr(value, "__annotations__", {}) if not key.startswith("_")} if plain else set()
            for member in attributes | set(members):
                yield f"{name}.{member}"
            for member, static in members.items():
                if inspect.isroutine(static):
                    for parameter in parameters(getattr(value, member)):
                        yield f"{name}.{member}({parameter})"
            if issubclass(value, openai_codex.errors.JsonRpcError):
                for parameter in parameters(value.__init__):
                    yield f"{name}.{parameter}"
            elif plain and value.__init__ is not object.__init__:
                for parameter in parameters(value.__init__):
                    if parameter not in attributes and parameter not in members:
                        yield f"{name}({parameter})"
            for special in ("__enter__", "__exit__", "__aenter__", "__aexit__"):
                if special in vars(value):
                    yield f"{name}.{special}"
        elif inspect.isfunction(value):
            for parameter in parameters(value):
                yield f"{name}({parameter})"
    for name in openai_codex.types.__all__:
        yield f"types.{name}"


if __name__ == "__main__":
    for item in sorted(set(items())):
        print(item)
