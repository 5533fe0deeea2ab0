"""Loops of a compiled program that do not wait for each other (decision 3)."""

import re


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
    programs = computations(text)

    def called(instruction):
        names = re.findall(
            r"(?:to_apply|calls|true_computation|false_computation)=%?([\w.\-]+)", instruction
        )
        for group in re.findall(r"branch_computations=\{([^}]*)\}", instruction):
            names += [name.strip(" %") for name in group.split(",")]
        return [name for name in names if name in programs]

    def loops(instruction):
        inside = (text for name in called(instruction) for text in programs[name].values())
        return bool(re.search(r"\bwhile\(", instruction)) or any(map(loops, inside))

    pairs = []
    for program in programs.values():
        ancestors: dict[str, set] = {}
        for name, instruction in program.items():  # operands come first
            operands = [x for x in re.findall(r"%([\w.\-]+)", instruction) if x in ancestors]
            ancestors[name] = set(operands).union(*(ancestors[x] for x in operands))
        looping = [name for name, instruction in program.items() if loops(instruction)]
        for k, later in enumerate(looping):
            pairs += [(first, later) for first in looping[:k] if first not in ancestors[later]]
    return pairs
