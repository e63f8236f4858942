//! `vmlan demo`: the main job on an embedded default.

/// Runs the demonstration.
///
/// # Errors
/// When it cannot be set up, or a guest does not reach another.
pub fn run() -> anyhow::Result<()> {
    anyhow::bail!("not yet wired")
}
