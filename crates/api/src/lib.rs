#![forbid(unsafe_code)]
//! The control types of vmlan: what travels over the control socket, as JSON, in version 1 of the interface.
//!
//! Daemon, command line and other people's clients share these types. They are the *unchecked* form: a
//! [`Config`] may name a MAC address that is none. The daemon's validator turns it into a checked form
//! before anything acts on it.
//!
//! Names are `snake_case` and stable: members may be added within a version, never renamed or removed.
//! Every member of an answer is always present; what does not apply is `null`.

mod apply;
mod capture;
mod config;
mod error;
mod error_code;
mod event;
pub mod keys;
mod list;
#[cfg(test)]
mod openapi;
mod operations;
mod status;
mod text;
mod time;
mod trunk;
mod uplink;

pub use apply::{ActionKind, ActionReport, ApplyReport, ApplyRequest, Outcome, ReloadRequest};
pub use capture::{CaptureEnded, CaptureRequest};
pub use config::*;
pub use error::Error;
pub use error_code::ErrorCode;
pub use event::{Event, EventKind};
pub use list::OneOrMany;
pub use operations::{Body, Method, Operation, OperationId};
pub use status::*;
pub use text::{escaped, is_plain, nearest};
pub use time::{ParseTimestampError, Timestamp};
pub use trunk::{SharedMac, Trunk, TrunkConfig, TrunkFlow, TrunkHooks, TrunkMode, TrunkState};
pub use uplink::*;

/// The first part of every path of this version of the interface: `/v1/ports`.
pub const PATH_PREFIX: &str = "/v1";

/// The description of this version of the interface in OpenAPI 3.1, as `GET /v1/openapi.json` answers it.
///
/// It is made of the types and of [`Operation::ALL`] by `cargo xtask openapi`; a test compares.
pub const OPENAPI: &str = include_str!("../openapi.json");
