#!/usr/bin/env python3
"""Verifies an exported trail of confirmd, without confirmd and with nothing but Python's standard library.

    python3 verify.py trail.ndjson VKEY [VKEY...]

VKEY is the public key of the trail, name+key id+base64; get it from somewhere else than the file. A line of the file is:
    {"seq": 1, "leaf": "<base64>"}       an event: the bytes that the tree is made of
    {"seq": 2, "leaf_hash": "<base64>"}  an event that you may not read, only count: its hash in the tree
    {"checkpoint": "<note>"}             stands after the event whose seq is its size, and signs all before it
The tree is that of RFC 6962, section 2.1. A checkpoint is a note of c2sp.org/signed-note and c2sp.org/tlog-checkpoint,
signed with Ed25519 (RFC 8032). Exit code 0: intact. 1: broken. 2: cannot be read, or without a checkpoint.
"""
import base64
import functools
import hashlib
import json
import re
import sys

# Ed25519 (RFC 8032, section 5.1): a prime, the order of the group, the curve, a root of -1; points as (X, Y, Z, X*Y/Z).
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def add(p, q):
    a, b, c, d = (p[1] - p[0]) * (q[1] - q[0]), (p[1] + p[0]) * (q[1] + q[0]), 2 * p[3] * q[3] * D, 2 * p[2] * q[2]
    e, f, g, h = (b - a) % P, (d - c) % P, (d + c) % P, (b + a) % P
    return e * f % P, g * h % P, f * g % P, e * h % P


def point(encoded):
    """Decodes a point (section 5.1.3)."""
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, number % 2**255
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    x = x if x * x % P == square else x * ROOT % P
    if y >= P or x * x % P != square or (x == 0 and sign):
        raise ValueError("not a point of Ed25519")
    x = x if x % 2 == sign else P - x
    return x, y, 1, x * y % P


BASE = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))


def is_signed(key, text, signature):
    """Verifies a signature (section 5.1.7): R must be sB - kA, which are multiplied bit by bit, both at once."""
    a, s = point(key), int.from_bytes(signature[32:], "little")
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + text).digest(), "little") % ORDER
    minus_a = (P - a[0], a[1], 1, P - a[3])
    r, sums = (0, 1, 1, 0), [(0, 1, 1, 0), BASE, minus_a, add(BASE, minus_a)]
    for bit in reversed(range(253)):
        r = add(add(r, r), sums[(s >> bit & 1) + 2 * (k >> bit & 1)])
    x, y = r[0] * pow(r[2], -1, P) % P, r[1] * pow(r[2], -1, P) % P
    return len(signature) == 64 and s < ORDER and (y + (x % 2 << 255)).to_bytes(32, "little") == signature[:32]


class Broken(Exception):
    """The trail is not what was signed."""


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def unbase64(text):
    data = base64.b64decode(text)
    if base64.b64encode(data).decode() != text:
        raise ValueError("base64 is written in another way")
    return data


def read_key(vkey):
    name, key_id, key = vkey.split("+", 2)
    made = sha256(name.encode(), b"\n", unbase64(key))[:4]
    if made.hex() != key_id or unbase64(key)[0] != 1 or len(unbase64(key)) != 33:
        raise ValueError(vkey + " is not an Ed25519 key, or has another id")
    return (name, made), unbase64(key)[1:]


NAME, BASE64 = r"[^\s+\x00-\x1f\x7f-\x9f]+", "[A-Za-z0-9+/]+={0,2}"
TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z"
NOTE = re.compile(f"(({NAME})\n(0|[1-9][0-9]{{0,19}})\n({BASE64})\ntime ({TIME})\n)\n((?:— {NAME} {BASE64}\n)+)")


def open_checkpoint(note, keys, seq):
    """Returns root and time of a checkpoint of this size that one of the keys signed under its own name."""
    match, good = NOTE.fullmatch(note), False
    if not match:
        raise Broken(f"broken at seq {seq}: the checkpoint is malformed")
    text, origin, size, root, time, signatures = match.groups()
    for _, name, signature in map(str.split, signatures.splitlines()):
        key_id, signature = unbase64(signature)[:4], unbase64(signature)[4:]
        key = keys.get((name, key_id))  # what others signed, as witnesses do, is not looked at
        if key and not is_signed(key, text.encode(), signature):
            raise Broken(f"broken at seq {seq}: the checkpoint has a bad signature by {name}")
        good = good or (key is not None and name == origin)
    if not good:
        raise Broken(f"broken at seq {seq}: the checkpoint is signed by none of the given keys")
    if int(size) != seq:
        raise Broken(f"broken at seq {seq}: a checkpoint of {size} events stands here")
    return unbase64(root), time


def verify(trail, keys):
    # The roots of the complete subtrees, one for each bit of the size, are all that is needed of the tree so far.
    subtrees, size, checkpoints, last, at = [], 0, 0, 0, None
    for number, line in enumerate(trail, 1):
        try:
            entry = json.loads(line.decode(), object_pairs_hook=lambda pairs: dict(pairs) if len(dict(pairs)) == len(pairs) else {})
        except (ValueError, RecursionError):
            raise ValueError(f"line {number} is not JSON in UTF-8")
        if entry.keys() == {"checkpoint"}:
            root, at = open_checkpoint(entry["checkpoint"], keys, size)
            if root != functools.reduce(lambda right, left: sha256(b"\x01", left, right), subtrees[::-1] or [sha256()]):
                where = f"between seq {last + 1} and" if last < size - 1 else "at seq"
                raise Broken(f"broken {where} {size}: the events are not those that were signed")
            checkpoints, last = checkpoints + 1, size
        elif entry.keys() in ({"seq", "leaf"}, {"seq", "leaf_hash"}):
            if type(entry["seq"]) is not int or entry["seq"] != size + 1:
                raise Broken(f"broken at seq {size + 1}: seq {entry['seq']} stands here")
            node = unbase64(entry["leaf_hash"]) if "leaf_hash" in entry else sha256(b"\x00", unbase64(entry["leaf"]))
            if len(node) != 32:
                raise Broken(f"broken at seq {size + 1}: its hash is not one")
            bits, size = size, size + 1
            while bits & 1:
                bits, node = bits >> 1, sha256(b"\x01", subtrees.pop(), node)
            subtrees.append(node)
        else:
            raise ValueError(f"line {number} is neither an event nor a checkpoint")
    if not checkpoints:
        raise ValueError("no checkpoint: nothing in it is signed")
    return f"intact: {size} events, {checkpoints} checkpoints, last checkpoint of {last} at {at}, {size - last} events after it"


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(print(__doc__, file=sys.stderr) or 2)
    try:
        with open(sys.argv[1], "rb") as lines:
            print(verify(lines, dict(map(read_key, sys.argv[2:]))))
    except Broken as why:
        sys.exit(print(why) or 1)
    except (OSError, ValueError, TypeError, AttributeError, IndexError) as why:
        sys.exit(print("cannot read:", why, file=sys.stderr) or 2)
