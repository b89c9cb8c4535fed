"""Formulas and numbers as a person reads them, in one line of Unicode."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator
from decimal import Context, Decimal

_RAISED = dict(zip("0123456789+-−()abcdefhijklmnoprstuvwxyzβ", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁽⁾ᵃᵇᶜᵈᵉᶠʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᵝ", strict=True))
_LOWERED = dict(zip("0123456789+-aehijklmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉₊₋ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", strict=True))

_GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "varepsilon": "ε", "zeta": "ζ", "eta": "η",
    "theta": "θ", "vartheta": "ϑ", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ",
    "sigma": "σ", "tau": "τ", "phi": "φ", "varphi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω",
    "Gamma": "Γ", "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Pi": "Π", "Sigma": "Σ", "Phi": "Φ",
    "Psi": "Ψ", "Omega": "Ω",
}  # fmt: skip
_SIGNS = {
    "cdot": "·", "times": "×", "pm": "±", "le": " ≤ ", "leq": " ≤ ", "ge": " ≥ ", "geq": " ≥ ", "ne": " ≠ ",
    "neq": " ≠ ", "lt": " < ", "gt": " > ", "in": " ∈ ", "to": " → ", "infty": "∞", "int": "∫", "sum": "Σ",
    "ldots": "…", "dots": "…",
    "lvert": "|", "rvert": "|", "vert": "|", "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉",
    "circ": "∘", "mid": " | ", "quad": " ", "qquad": " ", "colon": ":", "lbrace": "{", "rbrace": "}", "prime": "′",
    ",": " ", ";": " ", ":": " ", " ": " ", "!": "", "{": "{", "}": "}", "|": "‖", "\\": "; ", "%": "%", "_": "_",
    "left": "", "right": "", "big": "", "bigl": "", "bigr": "", "Big": "", "Bigl": "", "Bigr": "", "displaystyle": "",
    "limits": "", "textstyle": "",
}  # fmt: skip
_RAISERS = "".join(_RAISED.values())
_UNRAISED = str.maketrans({raised: letter for letter, raised in _RAISED.items() if letter != "−"})
_ASCII = str.maketrans(
    {letter: name for name, letter in reversed(_GREEK.items())}
    | {lowered: letter for letter, lowered in _LOWERED.items()}
    | {"−": "-", "–": "-", "·": "*", "×": "x", "∞": "inf", "≤": "<=", "≥": ">=", "≠": "!=", "→": "->", "…": "...",
       "√": "sqrt", "′": "'", "″": "''", "±": "+-", "≈": "~", "∈": "in", "ℝ": "R", "●": "*", "◐": "+",
       "○": "o", "—": "-"}
)  # fmt: skip
_FONTS = {"text", "mathrm", "operatorname", "mathbf", "mathit", "textrm", "textbf", "mathbb", "operatorname*"}
_FRACTIONS = {"frac", "tfrac", "dfrac"}
_TOKEN = re.compile(r"\\[A-Za-z]+\*?|\\.|\s+|.", re.DOTALL)
# A number, a letter with its scripts, a call, a root, something already enclosed.
_ATOM = re.compile(r"[\d.]+|\w[⁰-ₜ²³¹ˣᵝ]*|√?\w*\([^()]*\)[⁰-ₜ²³¹ˣᵝ]*|√\w+")


def unicode_formula(latex: str) -> str:
    """A formula in LaTeX as one line of Unicode: r"\\frac1\\beta\\ln(1+e^{\\beta x})" is "(1/β) ln(1+e^(βx))".

    Understands what formulas of one variable are written with: fractions, roots, powers, indices, Greek letters, named
    functions, cases. An unknown command is kept as its name.
    """
    text = _join(list(_pieces(_tokens(latex))))
    text = re.sub(r"\s+", " ", text)
    return re.sub(r"\s+([,;)])", r"\1", text).strip()


def plain_formula(expression: object) -> str:
    """An expression in Python's spelling with raised exponents and · for the product: "x·tanh(x)²"."""
    text = re.sub(r"\*\*(\d+)", lambda found: _script(found[1], _RAISED, "^"), str(expression))
    return text.replace("**", "^").replace("*", "·").replace("pi", "π")


def ascii_text(text: str) -> str:
    """`text` in ASCII: Greek letters by name, raised digits after "^", accents dropped."""
    raised = re.sub(f"[{_RAISERS}]+", lambda found: "^" + found[0].translate(_UNRAISED), text)
    plain = unicodedata.normalize("NFKD", raised.translate(_ASCII))
    return plain.encode("ascii", "ignore").decode()


def _tokens(latex: str) -> list[str]:
    return [t for t in _TOKEN.findall(latex) if not t.isspace()][::-1]


def _pieces(tokens: list[str], until: tuple[str, ...] = ()) -> Iterator[str]:
    """The atoms of a formula, in order; `tokens` is a stack and is used up to and including one of `until`."""
    while tokens:
        token = tokens.pop()
        if token in until:
            return
        piece = _piece(token, tokens)
        while tokens and tokens[-1] in ("^", "_"):
            table, mark = (_RAISED, "^") if tokens.pop() == "^" else (_LOWERED, "_")
            piece += _script(_argument(tokens), table, mark)
        yield piece


def _piece(token: str, tokens: list[str]) -> str:
    if token == "{":
        return _join(list(_pieces(tokens, ("}",))))
    if not token.startswith("\\"):
        return {"-": "−", "=": " = ", "<": " < ", ">": " > ", "&": " ", "'": "′", "~": " "}.get(token, token)
    command = token[1:]
    if command in _FRACTIONS:
        numerator, denominator = _argument(tokens), _argument(tokens)
        product = not set("+−/ |") & set(_outside(numerator))
        return f"{numerator if product else _atom(numerator)}/{_atom(denominator)}"
    if command == "sqrt":
        return "√" + _atom(_argument(tokens))
    if command in _FONTS:
        return _word(tokens)
    if command == "begin":
        return _environment(tokens)
    return _GREEK.get(command) or _SIGNS.get(command, command)


def _argument(tokens: list[str]) -> str:
    return _piece(tokens.pop(), tokens) if tokens else ""


def _word(tokens: list[str]) -> str:
    """The letters of \\text{...}; the tokeniser has dropped its spaces, so they are put back around it."""
    word = _argument(tokens)
    return f" {word} " if word in ("if", "otherwise", "else", "for") else word


def _environment(tokens: list[str]) -> str:
    """The body of \\begin{cases}: "a if x > 0; b otherwise"."""
    _argument(tokens)
    cases = []
    ended = False
    while tokens and not ended:
        cells = [[]]
        while tokens:
            token = tokens.pop()
            if token == "\\end":
                _argument(tokens)
                ended = True
                break
            if token == "\\\\":
                break
            if token == "&":
                cells.append([])
                continue
            tokens.append(token)
            cells[-1].append(next(_pieces(tokens)))
        row = [_join(cell).strip(" ,") for cell in cells]
        if any(row):
            cases.append(_case(row))
    return "; ".join(cases)


def _case(row: list[str]) -> str:
    value, condition = row[0], " ".join(row[1:]).strip()
    if not condition:
        return value
    worded = condition.startswith(("if", "otherwise", "else", "for"))
    return f"{value} {condition}" if worded else f"{value} if {condition}"


def _script(text: str, table: dict[str, str], mark: str) -> str:
    if text and all(c in table for c in text):
        return "".join(table[c] for c in text)
    return mark + (text if len(text) == 1 else f"({text.strip('()') if _is_enclosed(text) else text})")


def _is_enclosed(text: str) -> bool:
    return text.startswith("(") and text.endswith(")") and text.count("(") == 1


def _atom(text: str) -> str:
    """`text`, in parentheses unless it is one thing: a number, a letter with its scripts, a call, enclosed already."""
    if _ATOM.fullmatch(text):
        return text
    return f"({text})"


def _join(pieces: list[str]) -> str:
    """Pieces side by side: a space around a function's name, a fraction in parentheses where it is a factor."""
    text, pieces = "", [p for p in pieces if p]
    for i, piece in enumerate(pieces):
        following = pieces[i + 1] if i + 1 < len(pieces) else ""
        if _is_fraction(piece) and (_is_factor(following) or _ends_factor(text.rstrip())):
            piece, text = f"({piece})", text.rstrip()
        if _ends_factor(text) and _is_name(piece):
            text += " "
        text += piece
        if _is_name(piece) and _is_factor(following) and not following.startswith(("(", "|")):
            text += " "
    return text


def _is_fraction(piece: str) -> bool:
    return "/" in _outside(piece)[1:] and " " not in piece and not piece.startswith((")", "]"))


def _outside(text: str) -> str:
    """What stands outside all parentheses."""
    while (inner := re.sub(r"\([^()]*\)|\[[^][]*\]", "_", text)) != text:
        text = inner
    return text


def _is_factor(piece: str) -> bool:
    return bool(piece) and (piece[0].isalnum() or piece[0] in "(|√⌊")


def _ends_factor(text: str) -> bool:
    return bool(text) and (text[-1].isalnum() or text[-1] in ")|")


def _is_name(piece: str) -> bool:
    return len(piece) > 1 and piece[0].isalpha() and ("(" in piece or (piece.isalpha() and piece.isascii()))


# Numbers -------------------------------------------------------------------------------------------------------------


def number(value: float, digits: int = 6) -> str:
    """A float in at most `digits` significant digits: "−0.2785", "1.5e−7", "∞"."""
    if math.isnan(value):
        return "undefined"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return _written(f"{value:.{digits}g}")


def certain(lower: float, upper: float, digits: int = 10) -> str:
    """The digits that every number in [lower, upper] shares, correctly rounded, at most `digits`.

    An interval of no width is its number, in the shortest form. One in which not even two digits agree is written as
    an interval, rounded outwards.
    """
    if lower == upper:
        return number(lower, digits)
    if math.isinf(lower) or math.isinf(upper) or math.isnan(lower + upper):
        return f"[{number(lower)}, {number(upper)}]"
    for n in range(digits, 1, -1):
        texts = {f"{bound:#.{n}g}" for bound in (lower, upper)}
        if len(texts) == 1:
            return _written(texts.pop())
    return f"[{_written(_outward(lower, 'ROUND_FLOOR'))}, {_written(_outward(upper, 'ROUND_CEILING'))}]"


def _outward(value: float, rounding: str) -> str:
    return f"{Context(prec=3, rounding=rounding).create_decimal(Decimal(value)).normalize():g}"


def _written(text: str) -> str:
    """A number as Python writes it, with a true minus and a short exponent."""
    text = re.sub(r"\.(?=e|$)", "", text)
    return re.sub(r"e([+-])0*(\d)", lambda e: f"e{e[1].strip('+')}{e[2]}", text).replace("-", "−")
