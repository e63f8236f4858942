use std::path::PathBuf;
use std::{fs, io, process, thread};

use crate::output::tell;
use crate::signals::Endings;

/// From now on a signal that ends the process first removes these. All else ends with the process.
///
/// # Errors
/// No thread or descriptor.
pub fn clean_up_on_signal(directory: PathBuf, file: PathBuf) -> io::Result<()> {
    let endings = Endings::new()?;
    let end = move || {
        endings.wait();
        // Who ends the process does not wait for the reason why something stays.
        let _ = fs::remove_dir_all(&directory);
        let _ = fs::remove_file(&file);
        tell("ended by a signal; nothing is left behind");
        process::exit(1);
    };
    thread::Builder::new().name("signals".into()).spawn(end).map(drop)
}
