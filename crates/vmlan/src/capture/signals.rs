//! A signal ends a capture in order: what was captured until then still arrives.

use std::path::PathBuf;
use std::sync::Arc;
use std::{io, process, thread};

use crate::client::{Client, ClientError};
use crate::output::tell;
use crate::signals::Endings;

/// From now on the first signal that ends processes has the daemon end the capture, a second one ends this process.
///
/// # Errors
/// No thread or descriptor.
pub fn end_on_signal(control: PathBuf, capture: u64) -> io::Result<()> {
    let endings = Endings::new()?;
    let run = move || {
        let endings = Arc::new(endings);
        endings.wait();
        let ended = Client::new(&control).map_err(anyhow::Error::new).and_then(|client| {
            // A daemon that hangs is told of, and a second signal ends the wait for it.
            Ok(end(&client.telling().ended_by(endings.clone()), capture)?)
        });
        if let Err(error) = ended {
            // Without an answer nothing more arrives, and nobody has to wait for it.
            tell(&format!("error: the capture cannot be ended in order: {error:#}"));
            process::exit(1);
        }
        endings.wait();
        tell("ended by a second signal; what was on its way is lost");
        process::exit(1);
    };
    thread::Builder::new().name("signals".into()).spawn(run).map(drop)
}

/// Has the daemon end the capture; it may have ended already.
///
/// # Errors
/// See [`ClientError`].
pub fn end(client: &Client, capture: u64) -> Result<(), ClientError> {
    match client.delete::<vmlan_api::CaptureEnded>(&format!("/v1/capture/{capture}")) {
        Err(ClientError::Refused(error)) if error.code == vmlan_api::ErrorCode::NotFound => Ok(()),
        result => result.map(drop),
    }
}
