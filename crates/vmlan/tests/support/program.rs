//! Programs in the place of machine monitors.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Makes a program that says what it was started with, and then does as `script` says. Asked as QEMU is for what it
/// can be joined by, it names all of it.
#[track_caller]
pub fn program(directory: &Path, name: &str, script: &str) -> String {
    let netdevs =
        "if [ \"$1 $2\" = \"-netdev help\" ]; then echo socket; echo stream; echo vhost-user; exit 0; fi";
    let path = directory.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{netdevs}\necho \"$@\"\n{script}\n")).expect("a file");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("a mode");
    path.to_str().expect("text").to_owned()
}
