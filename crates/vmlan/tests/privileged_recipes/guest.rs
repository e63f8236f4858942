//! The guest of the recipes: a kernel and an initial file system where the pages have a machine of the reader's.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

use testbed::Vm;

use crate::machine::PATIENCE;
use crate::shell::Shell;

/// Writes `vmlinuz` and `initrd` into a directory, which ask for addresses by DHCP and have a shell on the serial port.
#[track_caller]
pub fn write_system(directory: &Path) {
    let files = Vm::builder("recipe").init(include_str!("guest.sh")).boot_files();
    std::fs::write(directory.join("vmlinuz"), files.kernel).expect("a file");
    std::fs::write(directory.join("initrd"), files.initrd).expect("a file");
}

/// The shell of a guest whose serial port is one of these sockets.
#[track_caller]
pub fn serial(paths: &[PathBuf]) -> Shell {
    let connect = || paths.iter().find_map(|path| UnixStream::connect(path).ok());
    let stream = testbed::wait_for(&format!("one of {paths:?}"), PATIENCE, connect);
    shell(stream.try_clone().expect("a descriptor"), stream)
}

/// The shell at the other end of a serial port, once the guest is up.
#[track_caller]
pub fn shell(mut input: impl Write + 'static, output: impl Read + Send + 'static) -> Shell {
    let (tell, ready) = channel();
    std::thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            if line.trim_ascii() == b"press Enter" {
                // The test may have given up.
                let _ = tell.send(output);
                return;
            }
            line.clear();
        }
    });
    let output = ready.recv_timeout(PATIENCE).expect("a guest that comes up");
    input.write_all(b"\n").expect("a guest that reads");
    Shell::new(input, output)
}
