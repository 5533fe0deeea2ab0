"""What a compiled program may start at the same time (decision 3)."""

import re
from collections.abc import Callable


def computations(text):
    """name -> {instruction: its text}, of a compiled program."""
    found, name = {}, None
    for line in text.splitlines():
        if opening := re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            name = opening[1]
            found[name] = {}
        elif name and (one := re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*)$", line)):
            found[name][one[1]] = one[2].split(", metadata=")[0]
    return found


def independent_loops(text):
    """Pairs of loops of one computation of which neither depends on the other."""
    return _independent(text, lambda instruction: bool(re.search(r"\bwhile\(", instruction)), "")


def independent_factorisations(text):
    """Pairs of batches for LAPACK of which neither depends on the other; loops and branches count.

    A single matrix is factorised in the thread that calls; a batch waits for the pool's threads.
    """

    def batched(instruction):
        shape = re.match(r"\(?\w+\[([\d,]*)\]", instruction)
        return 'custom_call_target="lapack_' in instruction and shape[1].count(",") > 1

    return _independent(text, batched, "body|condition|")


def _independent(text, wanted: Callable[[str], bool], inside_of: str):
    programs = computations(text)
    known: dict[str, bool] = {}

    def called(instruction):
        names = re.findall(
            rf"(?:{inside_of}to_apply|calls|true_computation|false_computation)=%?([\w.\-]+)",
            instruction,
        )
        for group in re.findall(r"branch_computations=\{([^}]*)\}", instruction):
            names += [name.strip(" %") for name in group.split(",")]
        return [name for name in names if name in programs]

    def holds(name):
        if name not in known:
            known[name] = any(map(holds_some, programs[name].values()))
        return known[name]

    def holds_some(instruction):
        return wanted(instruction) or any(map(holds, called(instruction)))

    pairs = []
    for program in programs.values():
        ancestors: dict[str, set] = {}
        for name, instruction in program.items():  # operands come first
            operands = [x for x in re.findall(r"%([\w.\-]+)", instruction) if x in ancestors]
            ancestors[name] = set(operands).union(*(ancestors[x] for x in operands))
        chosen = [name for name, instruction in program.items() if holds_some(instruction)]
        for k, later in enumerate(chosen):
            pairs += [(first, later) for first in chosen[:k] if first not in ancestors[later]]
    return pairs
