//! The guest of the recipes: a kernel and an initial file system where the pages have a machine of the reader's.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use testbed::{Vm, poll_until};

use crate::machine::PATIENCE;
use crate::shell::Shell;

/// Writes `vmlinuz` and `initrd` into a directory, which ask for addresses by DHCP and have a shell on the serial port.
#[track_caller]
pub fn write_system(directory: &Path) {
    let files = Vm::builder("recipe").init(include_str!("guest.sh")).boot_files();
    std::fs::write(directory.join("vmlinuz"), files.kernel).expect("a file");
    std::fs::write(directory.join("initrd"), files.initrd).expect("a file");
}

/// The shell of a guest whose serial port is this socket, once it is there.
#[track_caller]
pub fn shell(serial: &Path) -> Shell {
    let mut stream = None;
    poll_until(PATIENCE, || {
        stream = UnixStream::connect(serial).ok();
        stream.is_some()
    });
    let mut stream = stream.unwrap_or_else(|| panic!("there is no {}", serial.display()));
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let lines = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
    let mut seen = Vec::new();
    for line in lines {
        let line = line.unwrap_or_else(|error| panic!("the guest does not come up: {error}\n{seen:#?}"));
        if line.trim_end() == "press Enter" {
            break;
        }
        seen.push(line);
    }
    stream.write_all(b"\n").unwrap_or_else(|error| panic!("the guest has ended: {error}\n{seen:#?}"));
    stream.set_read_timeout(None).expect("a socket");
    Shell::new(stream.try_clone().expect("a descriptor"), stream)
}
