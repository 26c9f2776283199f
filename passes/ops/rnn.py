"""Recurrent layers over whole sequences: lstm, gru, rnn.

x [seq, batch, in], weights [directions, gates * hidden, in or hidden], bias [directions, 2 * gates * hidden] (input
biases, then recurrent ones), initial states [directions, batch, hidden]; with layout=1 the batch comes first in x, in
the states and in the outputs. Outputs: y [seq, directions, batch, hidden], last h, (lstm) last c. Beyond a sequence's
length y is 0 and the state stays. Gates lie in ONNX's order: i o f c, z r h.
"""
from __future__ import annotations

import numpy as np
import torch

from . import op

# name -> (function of x, alpha, beta; default alpha, default beta; None where it takes none)
ACTIVATIONS = {
    "sigmoid": (lambda x, a, b: x.sigmoid(), None, None),
    "tanh": (lambda x, a, b: x.tanh(), None, None),
    "relu": (lambda x, a, b: x.relu(), None, None),
    "affine": (lambda x, a, b: x * a + b, 1.0, 0.0),
    "leakyrelu": (lambda x, a, b: torch.where(x < 0, x * a, x), 0.01, None),
    "thresholdedrelu": (lambda x, a, b: torch.where(x > a, x, torch.zeros_like(x)), 1.0, None),
    "scaledtanh": (lambda x, a, b: a * torch.tanh(b * x), 1.0, 1.0),
    "hardsigmoid": (lambda x, a, b: (x * a + b).clamp(0, 1), 0.2, 0.5),
    "elu": (lambda x, a, b: torch.where(x < 0, a * torch.expm1(x), x), 1.0, None),
    "softsign": (lambda x, a, b: x / (1 + x.abs()), None, None),
    "softplus": (lambda x, a, b: torch.nn.functional.softplus(x), None, None),
}


def _activations(names, default, directions, alphas, betas, clip):
    """One function per gate activation and direction; parameters are handed out in order to those that take them."""
    names = [n.lower() for n in names] if names else default * directions
    alphas, betas = iter(alphas or []), iter(betas or [])
    found = []
    for name in names:
        if name not in ACTIVATIONS:
            raise ValueError(f"activation '{name}' is not one of {', '.join(ACTIVATIONS)}")
        fn, a, b = ACTIVATIONS[name]
        a, b = next(alphas, a) if a is not None else a, next(betas, b) if b is not None else b
        found.append(lambda x, fn=fn, a=a, b=b: fn(x if clip is None else x.clamp(-clip, clip), a, b))
    each = len(default)
    return [found[i * each:(i + 1) * each] for i in range(directions)]


def _run(x, w, r, b, lens, states, direction, layout, step):
    """Walks every direction. step(d, gates from x [batch, G * H], states) -> new states, whose first is the output."""
    if layout:
        x = x.transpose(0, 1)
        states = [None if s is None else s.transpose(0, 1) for s in states]
    seq, batch, directions, hidden = x.shape[0], x.shape[1], w.shape[0], r.shape[2]
    if x.is_meta:
        y, last = x.new_empty(seq, directions, batch, hidden), [x.new_empty(directions, batch, hidden) for _ in states]
    else:
        ys, lasts = [], []
        for d in range(directions):
            back = direction == "reverse" or d == 1
            gates = x @ w[d].T
            now = [x.new_zeros(batch, hidden) if s is None else s[d] for s in states]
            out = [None] * seq
            for t in range(seq)[::-1 if back else 1]:
                new = step(d, gates[t], now)
                if lens is not None:
                    live = (t < lens).reshape(-1, 1)
                    out[t] = torch.where(live, new[0], torch.zeros_like(new[0]))
                    new = [torch.where(live, n, o) for n, o in zip(new, now)]
                else:
                    out[t] = new[0]
                now = new
            ys.append(torch.stack(out) if out else x.new_zeros(0, batch, hidden))
            lasts.append(now)
        y, last = torch.stack(ys, 1), [torch.stack(s) for s in zip(*lasts)]
    if layout:
        y, last = y.permute(2, 0, 1, 3), [s.transpose(0, 1) for s in last]
    return y, *last


def _bias(b, d, size, like):
    """Input and recurrent biases of one direction."""
    return (like.new_zeros(size),) * 2 if b is None else (b[d, :size], b[d, size:])


@op("lstm", example=lambda r: ([r(4, 2, 3), r(2, 20, 3), r(2, 20, 5), r(2, 40), np.array([4, 2], "int32"), r(2, 2, 5), r(2, 2, 5),
                                r(2, 15)], {"direction": "bidirectional", "hidden_size": 5}))
def lstm(x, w, r, b=None, lens=None, h=None, c=None, p=None, hidden_size=None, direction="forward", layout=0, clip=None,
         input_forget=0, activations=None, activation_alpha=None, activation_beta=None):
    """i, o, f = sigmoid(gate), c' = f * c + i * tanh(gate_c), h' = o * tanh(c'); peepholes p [directions, 3 * hidden]
    (i o f) add c to i and f, and c' to o. input_forget: f = 1 - i."""
    n, dirs = r.shape[2], w.shape[0]
    acts = _activations(activations, ["sigmoid", "tanh", "tanh"], dirs, activation_alpha, activation_beta, clip)
    if p is None and lens is None and clip is None and not (activations or input_forget or x.is_meta) and len(x) \
            and direction != "reverse" and x.dtype in (torch.float32, torch.float64):
        return _torch_lstm(x, w, r, b, h, c, layout)

    def step(d, gates, now):
        (h, c), (f, g, k), (wb, rb) = now, acts[d], _bias(b, d, 4 * n, x)
        i, o, q, v = (gates + h @ r[d].T + wb + rb).split(n, 1)
        pi, po, pf = p[d].split(n) if p is not None else (0, 0, 0)
        i = f(i + pi * c)
        q = 1 - i if input_forget else f(q + pf * c)
        c = q * c + i * g(v)
        return [f(o + po * c) * k(c), c]
    return _run(x, w, r, b, lens, [h, c], direction, layout, step)


@op("gru", example=lambda r: ([r(4, 2, 3), r(2, 15, 3), r(2, 15, 5), r(2, 30), None, r(2, 2, 5)],
                              {"direction": "bidirectional", "hidden_size": 5, "linear_before_reset": 1}))
def gru(x, w, r, b=None, lens=None, h=None, hidden_size=None, direction="forward", layout=0, clip=None,
        linear_before_reset=0, activations=None, activation_alpha=None, activation_beta=None):
    """z, s = sigmoid(gate), g = tanh(gate_h), h' = (1 - z) * g + z * h; the reset s multiplies h, or with
    linear_before_reset what the recurrent weights (and bias) make of it (as torch does)."""
    n, dirs = r.shape[2], w.shape[0]
    acts = _activations(activations, ["sigmoid", "tanh"], dirs, activation_alpha, activation_beta, clip)
    if linear_before_reset and lens is None and clip is None and not (activations or x.is_meta) and len(x) \
            and direction != "reverse" and x.dtype in (torch.float32, torch.float64):
        return _torch_gru(x, w, r, b, h, layout)

    def step(d, gates, now):
        (h,), (f, g), (wb, rb) = now, acts[d], _bias(b, d, 3 * n, x)
        zs = (gates[:, :2 * n] + h @ r[d, :2 * n].T + wb[:2 * n] + rb[:2 * n])
        z, s = f(zs[:, :n]), f(zs[:, n:])
        if linear_before_reset:
            v = s * (h @ r[d, 2 * n:].T + rb[2 * n:])
        else:
            v = (s * h) @ r[d, 2 * n:].T + rb[2 * n:]
        v = g(gates[:, 2 * n:] + v + wb[2 * n:])
        return [(1 - z) * v + z * h]
    return _run(x, w, r, b, lens, [h], direction, layout, step)


@op("rnn", example=lambda r: ([r(4, 2, 3), r(1, 5, 3), r(1, 5, 5), r(1, 10), None, r(1, 2, 5)],
                              {"direction": "reverse", "hidden_size": 5}))
def rnn(x, w, r, b=None, lens=None, h=None, hidden_size=None, direction="forward", layout=0, clip=None,
        activations=None, activation_alpha=None, activation_beta=None):
    """h' = tanh(x @ w.T + h @ r.T + biases)."""
    n, dirs = r.shape[2], w.shape[0]
    acts = _activations(activations, ["tanh"], dirs, activation_alpha, activation_beta, clip)

    def step(d, gates, now):
        wb, rb = _bias(b, d, n, x)
        return [acts[d][0](gates + now[0] @ r[d].T + wb + rb)]
    return _run(x, w, r, b, lens, [h], direction, layout, step)


# --- the plain cases, by torch's own layers (an order of magnitude faster in training) ---------------------------

def _torch_lstm(x, w, r, b, h, c, layout):
    return _native(torch.lstm, (0, 2, 3, 1), x, w, r, b, [h, c], layout)


def _torch_gru(x, w, r, b, h, layout):
    return _native(torch.gru, (1, 0, 2), x, w, r, b, [h], layout)


def _native(layer, order, x, w, r, b, states, layout):
    n, dirs = r.shape[2], w.shape[0]
    batch = x.shape[0 if layout else 1]
    def take(v):
        return torch.cat([v[g * n:(g + 1) * n] for g in order])
    params = []
    for d in range(dirs):
        params += [take(w[d]), take(r[d])]
        if b is not None:
            params += [take(b[d, :len(order) * n]), take(b[d, len(order) * n:])]
    states = [x.new_zeros(dirs, batch, n) if s is None else (s.transpose(0, 1) if layout else s).contiguous() for s in states]
    hx = tuple(states) if len(states) > 1 else states[0]
    y, *last = layer(x, hx, params, b is not None, 1, 0.0, False, dirs == 2, bool(layout))
    y = y.reshape(*y.shape[:2], dirs, n)
    return (y, *(s.transpose(0, 1) for s in last)) if layout else (y.transpose(1, 2), *last)
