/// The readiness that a descriptor is watched for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interest {
    /// There is something to read, or the other side closed.
    pub read: bool,
    /// There is room to write.
    pub write: bool,
    /// Readiness is told once when it comes, and not as long as it lasts (edge-triggered instead of level-triggered).
    pub edge: bool,
}

impl Interest {
    /// Something to read, as long as it is there.
    pub const READ: Interest = Interest { read: true, write: false, edge: false };
}

/// A descriptor's readiness.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ready {
    /// The token that the descriptor was added with.
    pub token: u64,
    /// A read will not block: there is data, an end, or an error to fetch.
    pub read: bool,
    /// A write will not block.
    pub write: bool,
    /// The other side is gone or the descriptor failed; told whatever the interest.
    pub failed: bool,
}
