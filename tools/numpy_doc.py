"How the site shows a function: the signature, then the whole numpy docstring (nbdev drops shapes, returns, raises)."

import inspect
import re
from enum import Enum

from docstring_parser import parse_from_object
from nbdev.showdoc import BasicMarkdownRenderer


def entry(name, kind, text):
    "One line of a list: **name** *(kind)*: text."
    head = " ".join(filter(None, [name and f"`{name}`", kind and f"*{kind}*"]))
    return f"- {head}: {' '.join((text or '').split())}"


def numpy_markdown(docstring):
    "The parts of a parsed docstring as markdown, without the headline."
    params = [entry(p.arg_name, p.type_name, p.description) for p in docstring.params if p.args[0] == "param"]
    returns = [entry(r.return_name, r.type_name, r.description) for r in docstring.many_returns]
    raises = [entry(r.type_name, None, r.description) for r in docstring.raises]
    lists = [("", params), ("Returns", returns), ("Raises", raises)]
    blocks = [docstring.long_description]
    blocks += ["\n".join(filter(None, [title and f"**{title}**\n", *lines])) for title, lines in lists if lines]
    return "\n\n".join(filter(None, blocks))


def signature(symbol, text):
    "nbdev's signature without comments; a class is called a class, and an enum lists its members."
    text = re.sub(r" *# .*", "", text)
    if inspect.isclass(symbol):
        text = re.sub(r"^def", "class", text).removesuffix(":").removesuffix("->None")
    if inspect.isclass(symbol) and issubclass(symbol, Enum):
        text = f"class {symbol.__name__}:\n" + "\n".join(f"    {member.name} = {member.value!r}" for member in symbol)
    return text


class NumpyRenderer(BasicMarkdownRenderer):
    "What `show_doc` writes into a page."

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.dm = signature(self.sym, str(self.dm))
        if inspect.getdoc(self.sym):
            docstring = parse_from_object(self.sym)
            self.docs = f"{docstring.short_description or ''}\n\n{numpy_markdown(docstring)}".strip()
