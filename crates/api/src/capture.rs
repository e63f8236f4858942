//! Captures: the body of `POST /v1/capture`, and the answer to their end.

use serde::{Deserialize, Serialize};

/// The frames to capture. Without any member: everything, whole, for ever.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(extend("additionalProperties" = false)))]
pub struct CaptureRequest {
    /// `NETWORK` or `NETWORK/PORT` each; all ports when empty.
    #[serde(default)]
    pub ports: Vec<String>,
    /// Octets kept of each frame, 1 to 262144; without a number the whole frame.
    #[serde(default)]
    pub snaplen: Option<u64>,
    /// The capture is over after so many frames.
    #[serde(default)]
    pub count: Option<u64>,
    /// Only frames that were dropped, with the reason as a comment.
    #[serde(default)]
    pub drops: bool,
    /// Every frame at each port that it passes, on its way in and on its way out; else once, where it came in, and in
    /// both directions at ports that are named.
    #[serde(default)]
    pub both: bool,
    /// A classic BPF program as `tcpdump -ddd -y EN10MB` writes it.
    #[serde(default)]
    pub filter: Option<String>,
}

/// The answer to `DELETE /v1/capture/{capture}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CaptureEnded {
    /// The number of the capture that ends.
    pub capture: u64,
}
