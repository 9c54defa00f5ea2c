# Everyday commands; each is also written out in CONTRIBUTING.md.
check:
    uv run ruff check . && uv run ruff format --check . && uv run mypy && uv run lint-imports
    cargo clippy --manifest-path bulba_rust/Cargo.toml --workspace --all-targets --locked -- -D warnings

fix:
    uv run ruff check --fix . && uv run ruff format .
    cargo fmt --manifest-path bulba_rust/Cargo.toml --all

test:
    uv run pytest
    cargo test --manifest-path bulba_rust/Cargo.toml -p bulba-core --release --locked

bench:
    uv run python -m bulba verify-resume
    uv run python -m bulba bench words run=last
    uv run python -m bulba bench text run=last
