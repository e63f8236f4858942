//! A daemon without the feature `ui`, which serves no web page.

use std::path::Path;

use super::serving::Socket;
use crate::config::WebPage;

/// No page.
#[derive(Default)]
pub(super) struct Open {}

/// Does nothing without a page.
///
/// # Errors
/// With one.
pub(super) async fn set(
    socket: &mut Socket,
    _: &mut Open,
    wanted: Option<WebPage>,
    _: Option<&Path>,
) -> Result<(), String> {
    match wanted {
        None => socket.set(None, |_| std::future::ready(())).await,
        Some(WebPage { address, .. }) => {
            let reason = format!(
                "daemon.ui: cannot serve the page at {address}: vmlan was built without the feature `ui`; remove the \
                 key, or run `vmlan ui` of a build that has it"
            );
            socket.fail(address, reason).await
        }
    }
}
