//! Any request is refused, needs more, or names an absolute path and a printable description.
#![no_main]

use drivers::vde::{Request, check_path};
use libfuzzer_sys::fuzz_target;
use std::path::Path;

fuzz_target!(|octets: &[u8]| {
    // As they come in: octet by octet, an error stays an error and an answer never turns into one.
    let mut answered = false;
    for end in 0..=octets.len().min(300) {
        match Request::parse(&octets[..end]) {
            Ok(Some(request)) => {
                answered = true;
                assert!(request.socket.is_absolute());
                assert!(request.description.chars().all(|c| (' '..='~').contains(&c)));
                // Nothing that a request can name is in this directory or belongs to this user.
                assert!(check_path(&request.socket, Path::new("/nonexistent"), u32::MAX).is_err());
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
