//! Ctrl-C and SIGTERM: the measurement that runs is the last one, and all guards are dropped in order.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT, SIGTERM and SIGHUP do not end the process: see [`requested`].
///
/// # Errors
/// No thread or descriptor.
pub fn install() -> io::Result<()> {
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
    let watch = move || {
        runtime.block_on(wait);
        REQUESTED.store(true, Ordering::Relaxed);
        eprintln!("\ninterrupted: cleaning up");
    };
    thread::Builder::new().name("signals".into()).spawn(watch).map(drop)
}

/// True if the user wants an end.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// Sleeps for `duration`, or until the user wants an end.
pub fn sleep(duration: Duration) {
    let deadline = Instant::now() + duration;
    while !requested() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(Duration::from_millis(100)));
    }
}
