from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from segjax.core.config import Optim
from segjax.core.errors import ConfigError
from segjax.training.optim import decay_mask, make_optimizer, rate_factors

RATE = 0.1


def _params() -> dict:
    rng = np.random.default_rng(0)
    return {
        "body": {"kernel": rng.normal(size=(3, 3, 2, 4)).astype(np.float32), "bias": np.ones(4, np.float32)},
        "head": {"kernel": rng.normal(size=(4, 2)).astype(np.float32)},
    }


def _grads(step: int) -> dict:
    rng = np.random.default_rng(step + 1)
    return {
        "body": {"kernel": rng.normal(size=(3, 3, 2, 4)), "bias": rng.normal(size=4)},
        "head": {"kernel": rng.normal(size=(4, 2))},
    }


def _ours(config: Optim, steps: int = 5) -> dict:
    params = _params()
    tx = make_optimizer(config, lambda step: RATE, params)
    state = tx.init(params)
    for step in range(steps):
        grads = {k: {n: jnp.asarray(g, jnp.float32) for n, g in v.items()} for k, v in _grads(step).items()}
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    return params


def _torch(make, steps: int = 5, clip: float | None = None, head_factor: float = 1.0, decay: float = 0.0) -> dict:
    torch = pytest.importorskip("torch")
    params = {(k, n): torch.tensor(p, requires_grad=True) for k, v in _params().items() for n, p in v.items()}
    groups = [
        {"params": [params["body", "kernel"]], "weight_decay": decay},
        {"params": [params["body", "bias"]], "weight_decay": 0.0},
        {"params": [params["head", "kernel"]], "weight_decay": decay, "lr": RATE * head_factor},
    ]
    optimizer = make(torch)(groups)
    for step in range(steps):
        for (k, n), p in params.items():
            p.grad = torch.tensor(_grads(step)[k][n], dtype=torch.float32)
        if clip:
            torch.nn.utils.clip_grad_norm_(params.values(), clip)
        optimizer.step()
    return {k: {n: params[k, n].detach().numpy() for n in v} for k, v in _params().items()}


def _assert_close(a: dict, b: dict) -> None:
    for k, v in a.items():
        for n, p in v.items():
            np.testing.assert_allclose(p, b[k][n], rtol=2e-5, atol=2e-6, err_msg=f"{k}/{n}")


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_torchs(nesterov: bool) -> None:
    ours = _ours(Optim(name="sgd", momentum=0.9, nesterov=nesterov, weight_decay=0.3))
    _assert_close(ours, _torch(lambda t: lambda g: t.optim.SGD(g, lr=RATE, momentum=0.9, nesterov=nesterov), decay=0.3))


def test_adamw_is_torchs_with_clipping_and_a_faster_head() -> None:
    config = Optim(name="adamw", weight_decay=0.3, b2=0.95, clip_norm=0.5, multipliers={"^head/": 10.0})
    theirs = _torch(
        lambda t: lambda g: t.optim.AdamW(g, lr=RATE, betas=(0.9, 0.95), eps=1e-8), clip=0.5, head_factor=10, decay=0.3
    )
    _assert_close(_ours(config), theirs)


def test_lamb_against_its_algorithm() -> None:
    ours = _ours(Optim(name="lamb", weight_decay=0.3, b1=0.9, b2=0.99, eps=1e-6))
    for path in (("body", "kernel"), ("body", "bias"), ("head", "kernel")):
        p = _params()[path[0]][path[1]].astype(np.float64)
        m = v = np.zeros_like(p)
        for step in range(5):
            g = _grads(step)[path[0]][path[1]]
            m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
            u = (m / (1 - 0.9 ** (step + 1))) / (np.sqrt(v / (1 - 0.99 ** (step + 1))) + 1e-6)
            if p.ndim > 1:
                u = u + 0.3 * p
                u = u * np.linalg.norm(p) / np.linalg.norm(u)
            p = p - RATE * u
        np.testing.assert_allclose(ours[path[0]][path[1]], p, rtol=1e-4, atol=1e-5)


def test_muon_turns_a_matrix_orthogonal_and_leaves_vectors_to_adam() -> None:
    """The Newton-Schulz iteration keeps the momentum's singular vectors and brings its singular values near 1."""
    config = Optim(name="muon", momentum=0.95, nesterov=True, weight_decay=0.0)
    step = {k: {n: p - _ours(config, 1)[k][n] for n, p in v.items()} for k, v in _params().items()}
    for update, gradient in (
        (step["body"]["kernel"].reshape(18, 4), _grads(0)["body"]["kernel"].reshape(18, 4)),
        (step["head"]["kernel"], _grads(0)["head"]["kernel"]),
    ):
        left, _, right = np.linalg.svd(gradient, full_matrices=False)
        values = left.T @ (update / RATE) @ right.T
        assert np.all((np.diag(values) > 0.6) & (np.diag(values) < 1.3)), values
        np.testing.assert_allclose(values, np.diag(np.diag(values)), atol=1e-4)
    adam = _ours(Optim(name="adamw", weight_decay=0.0), 5)["body"]["bias"]
    np.testing.assert_allclose(_ours(config)["body"]["bias"], adam, rtol=1e-6)

    params = {"wide": np.ones((2, 8), np.float32), "depthwise": np.ones((3, 3, 1, 4), np.float32)}
    gradient = {k: np.random.default_rng(0).normal(size=p.shape).astype(np.float32) for k, p in params.items()}
    tx = make_optimizer(config, lambda step: RATE, params)
    updates, _ = tx.update(gradient, tx.init(params), params)
    values = np.linalg.svd(np.asarray(updates["wide"]) / RATE)[1] / np.sqrt(8 / 2)
    assert np.all((values > 0.6) & (values < 1.3)), values
    np.testing.assert_allclose(updates["depthwise"], -RATE * np.sign(gradient["depthwise"]), rtol=1e-4)


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb", "muon"])
def test_a_factor_of_zero_freezes_and_keeps_no_state(name: str) -> None:
    config = Optim(name=name, weight_decay=0.3, clip_norm=0.5, multipliers={"^body/": 0, "^head/": 2.0})
    frozen = _ours(config)
    for key, value in _params()["body"].items():
        np.testing.assert_array_equal(frozen["body"][key], value)
    # The head learns as if it were alone: the frozen gradients do not count in the norm that is clipped.
    params = {"head": _params()["head"]}
    alone = make_optimizer(Optim(name=name, weight_decay=0.3, clip_norm=0.5), lambda step: 2 * RATE, params)
    state = alone.init(params)
    for step in range(5):
        grads = {"head": {"kernel": jnp.asarray(_grads(step)["head"]["kernel"], jnp.float32)}}
        updates, state = alone.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(frozen["head"]["kernel"], params["head"]["kernel"], rtol=1e-5)

    tx = make_optimizer(config, lambda step: RATE, _params())
    kept = {leaf.shape for leaf in jax.tree.leaves(tx.init(_params()))}
    assert (4, 2) in kept
    assert not kept & {leaf.shape for leaf in _params()["body"].values()}


def test_freezing_everything_is_refused() -> None:
    with pytest.raises(ConfigError, match="every parameter has the factor 0"):
        make_optimizer(Optim(multipliers={".": 0}), lambda step: RATE, _params())


def test_masks_by_path() -> None:
    assert decay_mask(_params()) == {"body": {"kernel": True, "bias": False}, "head": {"kernel": True}}
    assert decay_mask(_params(), ("head",))["head"] == {"kernel": False}
    factors = rate_factors(_params(), {"body/k": 0.1, "body": 3})
    assert factors == {"body": {"kernel": 0.1, "bias": 3.0}, "head": {"kernel": 1.0}}


@pytest.mark.parametrize(
    "config",
    [Optim(multipliers={"hed": 10.0}), Optim(decay_exclude=("hed",)), Optim(multipliers={"(": 1.0})],
)
def test_a_regex_that_finds_nothing_is_refused(config: Optim) -> None:
    with pytest.raises(ConfigError, match=r"config\.optim\.\w+: '(hed|\()'"):
        make_optimizer(config, lambda step: RATE, _params())
