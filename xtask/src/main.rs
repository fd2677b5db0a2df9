//! The project's own commands: `cargo xtask check | test | demo | bench`.

fn main() -> anyhow::Result<()> {
    anyhow::bail!("usage: cargo xtask check")
}
