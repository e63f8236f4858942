use std::path::PathBuf;
use std::{fs, io, process, thread};

use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

/// From now on a signal that ends the process first removes these. All else ends with the process.
///
/// # Errors
/// No thread or descriptor.
pub fn clean_up_on_signal(directory: PathBuf, file: PathBuf) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate, mut hang_up) = {
        let _on_it = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?)
    };
    let wait = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    };
    let end = move || {
        runtime.block_on(wait);
        // Who ends the process does not wait for the reason why something stays.
        let _ = fs::remove_dir_all(&directory);
        let _ = fs::remove_file(&file);
        eprintln!("ended by a signal; nothing is left behind");
        process::exit(1);
    };
    thread::Builder::new().name("signals".into()).spawn(end).map(drop)
}
