//! Any request is refused, needs more, or names an absolute path and a printable description.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use vmlan_drivers::unix::Directory;
use vmlan_drivers::vde::{Request, find_socket};

static ROOT: LazyLock<Directory> = LazyLock::new(|| Directory::open(Path::new("/")).expect("it is there"));

fuzz_target!(|octets: &[u8]| {
    // As they come in: octet by octet, an error stays an error and an answer never turns into one.
    let mut answered = false;
    for end in 0..=octets.len().min(300) {
        match Request::parse(&octets[..end]) {
            Ok(Some(request)) => {
                answered = true;
                assert!(request.socket.is_absolute());
                assert!(request.description.chars().all(|c| (' '..='~').contains(&c)));
                // No socket that a request can name belongs to this user.
                assert!(find_socket(&request.socket, &ROOT, u32::MAX).is_err());
            }
            Ok(None) => assert!(!answered),
            Err(_) => {
                assert!(!answered);
                assert!(Request::parse(octets).is_err());
                return;
            }
        }
    }
});
