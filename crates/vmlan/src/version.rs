//! The program's version: number, commit and features.

use std::sync::LazyLock;

/// Number of the release.
pub const NUMBER: &str = env!("CARGO_PKG_VERSION");
/// The first digits of the commit, with `-dirty` behind them where sources were changed; `unknown` without git.
pub const COMMIT: &str = env!("VMLAN_COMMIT");

/// Features that can be built in, and which of them are.
const FEATURES: [(&str, bool); 3] = [
    ("demo", cfg!(feature = "demo")),
    ("netlink", cfg!(feature = "netlink")),
    ("libpcap", cfg!(feature = "libpcap")),
];

/// Features that are built in.
pub fn features() -> Vec<&'static str> {
    FEATURES.iter().filter(|(_, is_built_in)| *is_built_in).map(|(name, _)| *name).collect()
}

/// The version, commit and features for programs.
pub fn json() -> serde_json::Value {
    serde_json::json!({ "version": NUMBER, "commit": COMMIT, "features": features() })
}

/// The version, commit and features, one a line, without the program's name in front.
pub fn long() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let features = features();
        let features = if features.is_empty() { "none".to_owned() } else { features.join(" ") };
        format!("{NUMBER}\ncommit    {COMMIT}\nfeatures  {features}")
    });
    &TEXT
}
